"""The whole spine as its user runs it: `dvc repro` in a checkout of its own, promotion, a served decision."""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from mlflow import MlflowClient
from PIL import Image

from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from inpformer.metrics.image import image_metrics
from pipelines.manifest.table import read_manifest
from pipelines.platform.params import flat
from serving.registry import Registry
from tests.conftest import SHARED_DATA

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "demo_data": {"image_size": 64, "train_images": 12, "test_images": 6},
    "features": {"encoder": {"resize": 64, "crop": 64}},
    "train": {
        "batch_size": 8,
        "checkpoint_every": 1,
        "inp_former": {"grid": 4, "channels": 32, "memory": {"grid": 8}, "epochs": 2, "fewest_steps": 0, "warmup": 3},
        "inp_former_pp": {
            "grid": 4,
            "channels": 32,
            "epochs": 2,
            "fewest_steps": 0,
            "warmup": 3,
            "head": {"channels": [8, 4]},
        },
        "nearest": {"grid": 4, "channels": 32},
    },
    "evaluate": {"gallery": 4, "bootstrap": {"replicates": 100}},
}


# The stage, with what it must not have imported when it made no version.
LIGHT = """
import sys
from pipelines.register.__main__ import main
main()
assert not {"torch", "timm", "ray", "inpformer.judging.detector", "matplotlib"} & set(sys.modules)
"""


class Checkout:
    """A copy of the tracked files under git and DVC, with small parameters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        self.set(SMALL)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a checkout"]):
            self.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command])

    def set(self, values: dict[str, object]) -> None:
        """Changes parameters."""
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        merge(params, values)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def run(self, command: Sequence[str], expected: int = 0) -> str:
        """Runs a command of this environment here; returns all that it printed, standard output last."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            environment.pop(name, None)
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        output = done.stderr + done.stdout
        assert done.returncode == expected, output
        return output

    def changed(self) -> AbstractSet[str]:
        """The stages that `dvc repro` would run now, but for those that always run."""
        status = json.loads(self.run(["dvc", "status", "--json"]).splitlines()[-1])
        return {name for name, reasons in status.items() if reasons != ["always changed"]}

    @property
    def stages(self) -> dict[str, dict[str, str]]:
        """The stages of dvc.yaml."""
        return yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"]

    @property
    def client(self) -> MlflowClient:
        """The checkout's own registry."""
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def aliases(self) -> dict[str, str]:
        """The version under each alias."""
        return {alias: str(v) for alias, v in self.client.get_registered_model("inpformer").aliases.items()}


def merge(into: dict[str, object], values: dict[str, object]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            merge(into.setdefault(key, {}), value)  # type: ignore[arg-type]
        else:
            into[key] = value


@pytest.fixture
def use_registry(checkout: "Checkout") -> Iterator[None]:
    """Lets MLflow's own functions look into the checkout's registry."""
    mlflow.set_tracking_uri(f"sqlite:///{checkout.folder}/mlflow.db")
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the pipeline has run once."""
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    made.run(["dvc", "repro"])
    return made


def test_a_second_run_only_looks_at_the_registry(checkout: Checkout) -> None:
    assert checkout.changed() == set()
    version = checkout.client.get_model_version("inpformer", "1")
    output = checkout.run(["python", "-c", LIGHT, *shlex.split(checkout.stages["register"]["cmd"])[3:]])
    assert "inpformer version 1 is @challenger" in output
    assert vars(checkout.client.get_model_version("inpformer", "1")) == vars(version)
    assert checkout.aliases() == {"challenger": "1"}


DEMO = "data/dvc.yaml:demo"
# Every section of params.yaml: what a change asks for at once. What follows, DVC decides by what comes out.
CHANGES = [
    ({"demo_data": {"seed": 1}}, {DEMO}),
    ({"manifest": {"val_fraction": 0.3}}, {"manifest"}),
    ({"manifest": {"part": "(.*)"}}, {"manifest"}),
    ({"gate": {"ignore": ["masks"]}}, {"gate"}),
    ({"features": {"encoder": {"resize": 72}}}, {"features"}),
    ({"features": {"store": "elsewhere"}}, {"features"}),
    ({"features": {"keep": "wanted"}}, {"features"}),
    ({"tune": {"trials": 4}}, {"tune"}),
    ({"tune": {"objective": "labelled"}}, {"tune"}),
    ({"tune": {"false_alarm_rate": 0.1}}, {"tune"}),
    ({"tune": {"concurrency": 1, "cpus": 2, "gpus": 1}}, set()),  # where trials run
    ({"train": {"inp_former": {"losses": {"coherence_weight": 0.5}}}}, {"tune", "train"}),
    ({"train": {"inp_former": {"losses": {"mining_power": 2.0}}}}, {"tune", "train"}),
    ({"train": {"inp_former": {"num_prototypes": 4}}}, {"tune", "train"}),
    ({"train": {"inp_former": {"grid": 8}}}, {"features", "tune", "train"}),
    ({"train": {"inp_former": {"memory": {"grid": 4}}}}, {"features", "tune", "train"}),
    ({"train": {"inp_former": {"fewest_steps": 20}}}, {"tune", "train"}),
    ({"train": {"method": "nearest"}}, {"features", "tune", "train"}),
    ({"train": {"nearest": {"neighbours": 3}}}, set()),  # another method's
    ({"train": {"batch_size": 4, "seed": 2}}, {"tune", "train"}),
    ({"train": {"setting": "single-class"}}, {"features", "tune", "train"}),  # which real defects are learnt from
    ({"features": {"anomalies": {"variants": 4}}}, {"features"}),
    ({"train": {"num_workers": 2, "checkpoint_every": 2, "storage": "elsewhere"}}, set()),  # where it runs
    ({"calibrate": {"false_alarm_rate": 0.2}}, {"gate", "calibrate", "evaluate"}),  # all say how many images that takes
    ({"calibrate": {"review_rate": 0.1}}, {"calibrate"}),
    ({"calibrate": {"folds": 4}}, {"gate", "train", "calibrate"}),
    ({"evaluate": {"gallery": 3}}, {"evaluate"}),
    ({"promote": {"replicates": 1000}}, set()),  # a command's, which no stage waits for
]


@pytest.mark.parametrize(("change", "asked"), CHANGES)
def test_a_change_reruns_only_what_it_makes_necessary(
    checkout: Checkout, change: dict[str, object], asked: set[str]
) -> None:
    before = (checkout.folder / "params.yaml").read_text()
    checkout.set(change)
    try:
        assert checkout.changed() == asked
    finally:
        (checkout.folder / "params.yaml").write_text(before)


def test_every_section_of_the_parameters_is_in_that_table(checkout: Checkout) -> None:
    sections = yaml.safe_load((checkout.folder / "params.yaml").read_text())
    named = {section for change, _ in CHANGES for section in change}
    assert named == set(sections) - {"register"}  # which runs each time


def test_new_images_rerun_from_the_manifest(checkout: Checkout) -> None:
    added = checkout.folder / "data/demo/metal/train/good/added.png"
    Image.new("RGB", (64, 64)).save(added)
    try:
        assert "manifest" in checkout.run(["dvc", "status"]).splitlines()[0]
    finally:
        added.unlink()


def test_metrics_are_those_of_the_scores(checkout: Checkout) -> None:
    metrics = json.loads((checkout.folder / "reports/evaluation.json").read_text())["multi-class"]
    assert set(metrics["category"]) == {"board", "fabric", "metal"}
    with (checkout.folder / "reports/scores.csv").open() as f:
        rows = [row for row in csv.DictReader(f) if row["category"] == "fabric"]
    scores = np.array([float(row["score"]) for row in rows], np.float32)
    labels = np.array([int(row["label"]) for row in rows])
    assert image_metrics(scores, labels).auroc == pytest.approx(metrics["category"]["fabric"]["image_auroc"])
    names = {f"{k}_{m}" for k in ("image", "pixel") for m in ("auroc", "ap", "f1max")} | {"aupro"}
    assert names < set(metrics["mean"])
    assert all(0 <= value <= 1 for value in metrics["mean"].values())
    table = (checkout.folder / "reports/metrics.md").read_text()
    leading = ("miss_rate", "false_alarm_rate", "image_auroc")
    cells = [rf"{metrics['category']['fabric'][name]:.3f} \[[01]\.\d+, [01]\.\d+\]" for name in leading]
    assert re.search(r"\| category \| " + r" \| ".join(leading) + r" \|", table)
    assert re.search(r"\| fabric \| " + r" \| ".join(cells) + r" \|", table)
    for name, value in metrics["mean"].items():
        assert value == pytest.approx(np.mean([c[name] for c in metrics["category"].values()]))


def test_thresholds_come_from_val_alone(checkout: Checkout) -> None:
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    detector = Detector.load(checkout.folder / "artifacts/detector")
    val = [row for row in manifest.split("val") if row.category == "metal"]
    images = [read_image(checkout.folder / manifest.root / row.path) for row in val]
    scores = sorted(detector.predict(images, ["metal"] * len(images)).scores)
    assert detector.thresholds["metal"].scores == pytest.approx(scores, abs=1e-6)
    assert detector.thresholds["metal"].threshold == pytest.approx(scores[-1], abs=1e-6)
    assert detector.thresholds["metal"].missing_images == 19 - len(val) == 17


def test_one_mlflow_run_holds_the_evidence(checkout: Checkout) -> None:
    client = checkout.client
    (run,) = client.search_runs([client.get_experiment_by_name("inpformer").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.inp_former.losses.coherence_weight"] == "0.2"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    findings = json.loads((checkout.folder / "reports/gate.json").read_text())
    assert run.data.metrics["gate.held_out"] == findings["counts"]["held_out"]["warning"] == 3
    assert [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "pictures")] == ["loss.png"]
    assert run.data.tags["git.dirty"] == "false"
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    sets = {entry.dataset.name: (entry.dataset, entry.tags[0].value) for entry in run.inputs.dataset_inputs}
    assert {name: context for name, (_, context) in sets.items()} == {
        "demo/train": "training",
        "demo/val": "validation",
        "demo/test": "testing",
    }
    assert json.loads(sets["demo/test"][0].profile)["images"] == len(manifest.split("test"))
    assert json.loads(sets["demo/test"][0].source) == {"uri": "data/demo"}


def test_metrics_have_one_name_everywhere_and_fit_a_screen(checkout: Checkout) -> None:
    exact = flat(json.loads((checkout.folder / "reports/evaluation.json").read_text()))
    client = checkout.client
    source = client.get_model_version_by_alias("inpformer", "challenger").source
    model = client.get_logged_model(source.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in model.metrics} == pytest.approx(exact, abs=1e-12)
    run = client.get_run(model.source_run_id)
    assert {name: run.data.metrics[name] for name in exact} == pytest.approx(exact, abs=1e-12)
    few = flat(json.loads((checkout.folder / "reports/metrics.json").read_text()))
    assert len(few) == 4
    for name, value in few.items():
        assert value == pytest.approx(exact[name], abs=5.1e-5)
    shown = checkout.run(["dvc", "metrics", "show"])
    assert set(few) <= set(shown.split())
    assert max(map(len, shown.splitlines())) <= 150


def test_a_version_keeps_its_evidence_and_says_what_it_was_made_of(checkout: Checkout, use_registry: None) -> None:
    version = checkout.client.get_model_version_by_alias("inpformer", "challenger")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/inpformer/{version.version}")) / "evidence"
    for name in ("evaluation.json", "metrics.md", "scores.csv"):
        assert (folder / name).read_bytes() == (checkout.folder / "reports" / name).read_bytes()
    for name, kept in (("manifest.parquet", "manifest.parquet"), ("linked.json", "gate/linked.json")):
        assert (folder / kept).read_bytes() == (checkout.folder / "artifacts" / name).read_bytes()
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert {"curves.png", "histograms.png", "intervals.png", "thresholds.png", "worst.png"} <= names
    assert (folder / "gate/index.html").is_file()
    numbers = json.loads((folder / "evaluation.json").read_text())["multi-class"]["mean"]
    card = ModelCard.load(folder / "README.md")
    assert {one.metric_type: one.metric_value for one in card.data.eval_results}["aupro"] == numbers["aupro"]
    made_of = json.loads((folder / "provenance.json").read_text())
    for name in ("artifacts/manifest.parquet", "artifacts/features.json", "params.yaml"):
        assert made_of["sha256"][name] == hashlib.sha256((checkout.folder / name).read_bytes()).hexdigest()
    assert made_of["sha256"]["artifacts/detector"] == version.tags["detector.digest"]
    assert len(version.tags) <= 10
    assert "multi-class on data/demo (board, fabric, metal)" in version.description
    assert version.tags["git.commit"][:12] in version.description


def test_the_registered_version_is_the_detector(checkout: Checkout, use_registry: None, tmp_path: Path) -> None:
    client = checkout.client
    version = client.get_model_version_by_alias("inpformer", "challenger")
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    assert version.tags["data.digest"] == manifest.digest
    assert version.tags["seed"] == "1"
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/inpformer/{version.version}", dst_path=str(tmp_path)))
    registered = folder / "artifacts/detector"
    for file in ("model.safetensors", "detector.json", "calibration.json"):
        assert (registered / file).read_bytes() == (checkout.folder / "artifacts/detector" / file).read_bytes()
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_a_version_is_made_again_from_its_own_evidence(checkout: Checkout) -> None:
    before = (checkout.folder / "params.yaml").read_text()
    checkout.set({"train": {"seed": 7}})  # what stands here now is not what the version was made with
    try:
        output = checkout.run(["python", "-m", "pipelines.reproduce", "1"])
    finally:
        (checkout.folder / "params.yaml").write_text(before)
    assert "inpformer version 1 is reproduced, byte for byte" in output
    assert not (checkout.folder / ".reproduce/1").exists()
    assert checkout.aliases() == {"challenger": "1"}
    assert [version.version for version in checkout.client.search_model_versions("name = 'inpformer'")] in ([1], ["1"])


def test_the_pyfunc_scores_as_the_detector_does(checkout: Checkout, use_registry: None) -> None:
    with (checkout.folder / "reports/scores.csv").open() as f:
        row = next(csv.DictReader(f))
    model = mlflow.pyfunc.load_model("models:/inpformer@challenger")
    content = (checkout.folder / "data/demo" / row["path"]).read_bytes()
    found = model.predict(pd.DataFrame({"image": [content], "category": [row["category"]]})).iloc[0]
    assert found["score"] == pytest.approx(float(row["score"]), abs=1e-5)
    assert found["decision"] == row["decision"]


def test_plots_show(checkout: Checkout) -> None:
    checkout.run(["dvc", "plots", "show", "-o", "plots"])
    page = (checkout.folder / "plots/index.html").read_text()
    for name in ("image ROC", "worst.png", "val_loss"):
        assert name in page


def test_an_experiment_is_a_second_run_and_the_demo_serves_it(checkout: Checkout) -> None:
    checkout.run(["python", "-m", "pipelines.promote", "--force", "a test"])
    output = checkout.run(["dvc", "exp", "run", "-S", "train.inp_former.num_prototypes=4"])
    assert "Running stage 'train'" in output
    assert "Running stage 'features'" not in output
    assert checkout.aliases()["challenger"] == "2"
    answer = json.loads(checkout.run(["python", "-m", "demo"]).strip().splitlines()[-1])
    assert (answer["category"], answer["model_version"]) == ("board", 2)
    assert (answer["decision"] == "FAIL") == (answer["score"] > answer["threshold"])
    with Image.open(checkout.folder / answer["overlay"]) as overlay:
        assert overlay.width > 900
    assert checkout.aliases() == {"challenger": "2", "champion": "2", "previous": "1"}
    with (checkout.folder / "reports/scores.csv").open() as f:
        offline = {row["path"]: float(row["score"]) for row in csv.DictReader(f)}
    assert answer["score"] == pytest.approx(offline[answer["image"].removeprefix("data/demo/")], abs=1e-5)


def test_what_was_asked_for_last_is_promoted_though_nothing_is_computed(checkout: Checkout) -> None:
    first = checkout.client.get_model_version("inpformer", "1")
    evidence = evidence_of(checkout, "1")
    checkout.set({"train": {"inp_former": {"num_prototypes": 6}}})
    output = checkout.run(["dvc", "repro"])
    assert "Stage 'train' is cached" in output
    assert checkout.aliases()["challenger"] == "1"
    record = json.loads((checkout.folder / "artifacts/version.json").read_text())
    assert (record["version"], record["run_id"]) == ("1", first.run_id)
    assert json.loads((checkout.folder / "artifacts/run.json").read_text())["run_id"] == first.run_id
    said = checkout.run(["python", "-m", "pipelines.promote", "--force", "a test"])
    assert first.description.splitlines()[1] in said
    assert checkout.aliases() == {"challenger": "1", "champion": "1", "previous": "2"}
    # Other thresholds are another version; those of the first run are as they were.
    checkout.set({"calibrate": {"false_alarm_rate": 0.2}})
    checkout.run(["dvc", "repro"])
    assert checkout.aliases()["challenger"] == "3"
    assert checkout.client.get_model_version("inpformer", "3").run_id == first.run_id
    assert evidence_of(checkout, "1") == evidence
    assert evidence_of(checkout, "3") != evidence


def test_another_method_goes_through_every_stage_and_is_served(checkout: Checkout) -> None:
    before = checkout.aliases()["challenger"]
    checkout.set({"train": {"method": "nearest"}})
    output = checkout.run(["dvc", "repro"])
    assert "0 of" not in next(line for line in output.splitlines() if "views are in the store" in line)  # one encoding
    version = checkout.aliases()["challenger"]
    assert int(version) == int(before) + 1
    detector = Registry(f"sqlite:///{checkout.folder}/mlflow.db").load("inpformer", int(version)).detector
    assert (detector.method.name, set(detector.thresholds)) == ("nearest", {"board", "fabric", "metal"})
    with (checkout.folder / "reports/scores.csv").open() as f:
        row = next(csv.DictReader(f))
    image = read_image(checkout.folder / "data/demo" / row["path"])
    assert detector.predict([image], [row["category"]]).scores[0] == pytest.approx(float(row["score"]), abs=1e-4)


def test_the_extension_learns_from_a_few_real_defects(checkout: Checkout) -> None:
    data = checkout.folder / "data/taught"
    shutil.copytree(checkout.folder / "data/demo", data)
    for category in sorted(data.iterdir()):  # one each is moved: what is learnt from tests nothing
        file = min(file for file in category.glob("test/*/*.png") if file.parent.name != "good")
        (category / "train" / file.parent.name).mkdir()
        file.rename(category / "train" / file.parent.name / file.name)
    checkout.set({"manifest": {"data": "data/taught"}})
    checkout.set({"train": {"method": "inp_former_pp", "setting": "semi-supervised"}})
    output = checkout.run(["dvc", "repro"])
    assert "real defects to learn from: 1 of board, 1 of fabric, 1 of metal" in output
    metrics = json.loads((checkout.folder / "reports/evaluation.json").read_text())
    assert set(metrics) == {"semi-supervised"}
    detector = Detector.load(checkout.folder / "artifacts/detector")
    assert (detector.method.name, detector.learnt_from.setting) == ("inp_former_pp", "semi-supervised")
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    taught = [row.sha256 for row in manifest.rows if row.split == "train" and row.label]
    assert detector.seen is not None
    assert len(detector.seen.overlap(taught)) == len(taught) == 3
    client = checkout.client
    run = client.get_run(json.loads((checkout.folder / "artifacts/run.json").read_text())["run_id"])
    assert run.data.metrics["dice"] > 0
    pictures = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "pictures/anomalies")]
    assert pictures == ["0.png", "1.png", "2.png"]
    checkout.set({"manifest": {"data": "data/demo"}, "train": {"method": "nearest", "setting": "multi-class"}})


def test_other_data_have_other_hashes(checkout: Checkout) -> None:
    """Runs last: it changes the data."""
    before = {**checkout.client.get_model_version_by_alias("inpformer", "challenger").tags}
    checkout.set({"demo_data": {"seed": 1}})
    checkout.run(["dvc", "repro"])
    version = checkout.client.get_model_version_by_alias("inpformer", "challenger")
    manifest = read_manifest(checkout.folder / "artifacts/manifest.parquet")
    assert version.tags["data.digest"] == manifest.digest != before["data.digest"]
    kept = evidence_of(checkout, str(version.version))["provenance.json"]
    held = json.loads((checkout.folder / "artifacts/manifest.parquet").with_name("run.json").read_text())
    assert json.loads(kept)["run_id"] == held["run_id"]
    content = (checkout.folder / "artifacts/manifest.parquet").read_bytes()
    assert json.loads(kept)["sha256"]["artifacts/manifest.parquet"] == hashlib.sha256(content).hexdigest()


def evidence_of(checkout: Checkout, number: str) -> dict[str, bytes]:
    """The files and metrics that a version keeps."""
    client = checkout.client
    model = client.get_logged_model(client.get_model_version("inpformer", number).source.removeprefix("models:/"))
    folder = Path(urlsplit(model.artifact_location).path) / "evidence"
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return files | {"metrics": repr(sorted((m.key, m.value) for m in model.metrics)).encode()}


@pytest.mark.shared
def test_real_photographs_of_two_categories_in_one_model(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    made.set({"manifest": {"data": str(SHARED_DATA)}, "train": {"batch_size": 16, "inp_former": {"epochs": 3}}})
    made.run(["dvc", "repro"])
    metrics = json.loads((tmp_path / "reports/evaluation.json").read_text())["multi-class"]
    assert set(metrics["category"]) == {"cookie", "magnetic_tile"}
    assert metrics["category"]["magnetic_tile"]["image_auroc"] > 0.55  # so few pixels and epochs give .60
    assert not (tmp_path / "data/demo").exists()
