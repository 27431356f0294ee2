"""The calibrated detector becomes a version in MLflow's registry, under @challenger."""

import json
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from inpformer.errors import without_password
from inpformer.judging.detector import Detector
from inpformer.training.settings import TrainSettings
from pipelines.calibrate.other_device import check_on_cpu
from pipelines.calibrate.scores_table import read_scores
from pipelines.manifest.table import Manifest, read_manifest
from pipelines.platform import files, provenance
from pipelines.platform.aliases import CHALLENGER
from pipelines.platform.params import read_all, read_section
from pipelines.platform.tracking import tracking_uri
from pipelines.platform.weights import load_encoder
from pipelines.register.settings import RegisterSettings
from pipelines.train.run_record import read_run


@dataclass(frozen=True)
class Version:
    """What the stage leaves: the version that now is @challenger."""

    model_name: str
    version: str
    run_id: str


def check_export(detector: Detector, manifest: Manifest, scores: Path) -> None:
    """Asks the saved detector again, on the CPU, about images that its thresholds were made from.

    Raises UserError if it decides differently than when they were made.
    """
    lines = read_scores(scores)
    check_on_cpu(
        detector,
        [manifest.root / line.path for line in lines],
        [line.category for line in lines],
        [line.score for line in lines],
        lines[0].device,
    )


def run(args: Namespace) -> None:
    """Registers, unless this run has done so before, and says under which number."""
    settings = read_section("register", RegisterSettings)
    manifest = read_manifest(args.manifest)
    detector = Detector.load(args.detector, load=load_encoder)
    check_export(detector, manifest, args.scores)
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
