r"""Stage register: the calibrated detector becomes a version in MLflow's registry, under @challenger.

python -m pipelines.register --manifest MANIFEST.parquet --detector FOLDER --run RUN.json --metrics METRICS.json \
    --out VERSION.json
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inpformer.detector import Detector
from inpformer.errors import UserError
from inpformer.settings import require
from inpformer.transform import read_image
from pipelines import provenance, stage
from pipelines.manifest_table import Manifest, read_manifest
from pipelines.params import read_all, read_section
from pipelines.run_record import read_run
from pipelines.tracking import CHALLENGER, tracking_uri
from pipelines.training_loop import TrainSettings
from pipelines.weights import load_encoder

CHECK_IMAGES = 4
# Two processors add up in different orders; a wrong tensor is off by far more.
CHECK_TOLERANCE = 1e-5


@dataclass(frozen=True)
class RegisterSettings:
    """`model_name` is the registered model's."""

    model_name: str = "inpformer"

    def __post_init__(self) -> None:
        allowed = bool(self.model_name) and not set(self.model_name) & set("/:'\"")
        require(allowed, "model_name", self.model_name, "a name without slash, colon and quotation marks")


@dataclass(frozen=True)
class Version:
    """What the stage leaves: the version that now is @challenger."""

    model_name: str
    version: str
    run_id: str


def check_export(detector: Detector, manifest: Manifest) -> None:
    """Saves, loads and asks again. Raises UserError if the copy scores test images differently."""
    rows = manifest.split("test")[:CHECK_IMAGES]
    images, categories = [read_image(manifest.root / row.path) for row in rows], [row.category for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "copy")
        copy = Detector.load(Path(folder) / "copy", load=load_encoder)
    pairs = zip(detector.predict(images, categories).maps, copy.predict(images, categories).maps, strict=True)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    if not difference <= CHECK_TOLERANCE:
        raise UserError(f"the saved detector's maps differ by {difference:.2g} from the original's: do not use it.")


def main() -> None:
    """Registers, unless this run has done so before, and says under which number."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--detector", "--run", "--metrics", "--out"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("register", RegisterSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.detector, load=load_encoder)
    check_export(detector, manifest)
    run = read_run(args.run)
    setting = detector.training.setting
    tags = {
        **provenance.tags(),
        **provenance.locked_hashes(),
        "data.digest": manifest.digest,
        "encoder.digest": detector.encoder.digest,
        "setting": setting,
        "seed": str(read_section("train", TrainSettings).seed),
    }
    run.set_tags(tags)
    calibration = read_all().get("calibrate", {})
    tags |= {f"calibrate.{name}": str(value) for name, value in calibration.items()}
    mean = json.loads(args.metrics.read_text())[setting]["mean"]
    scores = {f"{setting}.{name}": f"{value:.4f}" for name, value in mean.items()}
    version = run.register(args.detector, settings.model_name, {**tags, **scores})
    with stage.written_whole(args.out) as temporary:
        temporary.write_text(json.dumps(asdict(Version(settings.model_name, version, run.run_id)), indent=2) + "\n")
    print(f"{settings.model_name} version {version} is @{CHALLENGER} at {stage.without_password(tracking_uri())}")
    print("to let it serve: python -m pipelines.promote")


if __name__ == "__main__":
    stage.run(main)
