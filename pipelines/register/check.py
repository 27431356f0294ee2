"""Whether a detector decides on a CPU as it did when its thresholds were made: what alone needs the model here."""

from pathlib import Path

from inpformer.judging.detector import Detector
from pipelines.calibrate.other_device import check_on_cpu
from pipelines.calibrate.scores_table import read_scores
from pipelines.manifest.table import Manifest
from pipelines.platform.weights import load_encoder


def checked(folder: Path, manifest: Manifest, held_out: Path) -> Detector:
    """Loads the detector on the CPU and asks it again about held-out images that its thresholds were made from.

    Raises UserError if it decides differently than when they were made.
    """
    detector = Detector.load(folder, load=load_encoder)
    lines = read_scores(held_out)
    folds = [line.fold for line in lines if line.fold is not None]
    check_on_cpu(
        detector,
        [manifest.root / line.path for line in lines],
        [line.category for line in lines],
        [line.score for line in lines],
        lines[0].device,
        folds or None,
    )
    return detector
