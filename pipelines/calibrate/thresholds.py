"""Gives the trained detector its thresholds, from held-out normal images alone."""

from argparse import Namespace

from inpformer.devices import best_device, device_name
from inpformer.judging.detector import Detector
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.held_out import GoodImage, promise, scores_of, thresholds, unseen_by
from pipelines.calibrate.outliers import draw_outliers
from pipelines.calibrate.scores_table import HeldOutScore, write_scores
from pipelines.gate.linked import read_linked
from pipelines.manifest.table import read_manifest
from pipelines.platform import files
from pipelines.platform.params import read_section
from pipelines.platform.weights import load_encoder

SAY_UNSEEN = "calibrate.unseen: true in params.yaml"


def run(args: Namespace) -> None:
    """Writes the calibrated detector and the scores, and says what each threshold promises."""
    settings = read_section("calibrate", CalibrationSettings)
    manifest = read_manifest(args.manifest)
    device = best_device()
    detector = Detector.load(args.model, device=device, load=load_encoder)
    rows = list(manifest.held_out)
    linked = read_linked(args.linked)
    images = [
        GoodImage(manifest.root / row.path, row.category, row.sha256, row.part, linked.group(row.path)) for row in rows
    ]
    scores = scores_of(detector, images)
    detector.thresholds = thresholds(images, scores, settings, unseen_by(detector, settings))
    with files.written_whole(args.out) as folder:
        detector.save(folder)
    name = device_name(device)
    lines = [
        HeldOutScore(row.path, row.category, row.part, row.sha256, score, name)
        for row, score in zip(rows, scores, strict=True)
    ]
    write_scores(lines, args.scores)
    draw_outliers(detector, images, scores, detector.thresholds, args.outliers)
    for category, threshold in sorted(detector.thresholds.items()):
        own = [image for image in images if image.category == category]
        print(promise(category, threshold, own, linked.looked, settings, SAY_UNSEEN))
