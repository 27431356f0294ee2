"""The calibrated detector becomes a version in MLflow's registry, under @challenger."""

import json
import tempfile
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inpformer.errors import UserError, without_password
from inpformer.images.transform import read_image
from inpformer.judging.detector import Detector
from inpformer.training.settings import TrainSettings
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.params import read_all, read_section
from pipelines.platform.tracking import tracking_uri
from pipelines.platform.weights import load_encoder
from pipelines.register.settings import RegisterSettings
from pipelines.train.run_record import read_run

CHECK_IMAGES = 4
# Two processors add up in different orders; a wrong tensor is off by far more.
CHECK_TOLERANCE = 1e-5


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


def run(args: Namespace) -> None:
    """Registers, unless this run has done so before, and says under which number."""
    settings = read_section("register", RegisterSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.detector, load=load_encoder)
    check_export(detector, manifest)
    run = read_run(args.run)
    setting = detector.learnt_from.setting
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
    with files.written_whole(args.out) as temporary:
        temporary.write_text(json.dumps(asdict(Version(settings.model_name, version, run.run_id)), indent=2) + "\n")
    print(f"{settings.model_name} version {version} is @{CHALLENGER} at {without_password(tracking_uri())}")
    print("to let it serve: python -m pipelines.promote")
