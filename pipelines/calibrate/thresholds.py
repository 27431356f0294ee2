"""Gives the trained detector its thresholds, from held-out normal images alone."""

from argparse import Namespace
from dataclasses import dataclass

from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.across import (
    left_out,
    promise_across,
    refuse_other_models,
    scores_across,
    thresholds_across,
)
from pipelines.calibrate.challenges import challenges
from pipelines.calibrate.held_out import GoodImage, plausibility, promise, scores_of, thresholds, unchecked, unseen_by
from pipelines.calibrate.judge import Judge, judging
from pipelines.calibrate.outliers import draw_outliers
from pipelines.calibrate.scores_table import HeldOutScore, write_scores
from pipelines.gate.linked import Linked, read_linked
from pipelines.manifest.table import Manifest, good_rows, read_manifest
from pipelines.platform import files
from pipelines.platform.params import read_section

SAY_UNSEEN = "calibrate.unseen: true in params.yaml"


@dataclass(frozen=True)
class Calibrated:
    """The `good` images that were at hand; of these the `images` that set thresholds, their `scores`, and the fold
    whose model gave each, None where there are no folds.
    """

    good: list[GoodImage]
    images: list[GoodImage]
    scores: list[float]
    folds: list[int] | None


def calibrated(judge: Judge, manifest: Manifest, linked: Linked, settings: CalibrationSettings) -> Calibrated:
    """Gives the judge's detector its thresholds, and all else that good images tell.

    Raises UserError for images that it was trained on or cannot judge.
    """
    detector = judge.detector
    refuse_other_models(detector, settings.folds)
    rows = list(manifest.held_out) if settings.folds is None else good_rows(manifest.rows)
    good = [
        GoodImage(manifest.root / row.path, row.category, row.sha256, row.part, linked.group(row.path)) for row in rows
    ]
    images, folds = good, None
    if settings.folds is None:
        scores, looks = scores_of(judge, images)
        detector.thresholds = thresholds(images, scores, settings, unseen_by(detector, settings))
    else:
        known = left_out(detector, good)
        images, folds = known.images, known.folds
        scores, looks = scores_across(judge, known)
        detector.thresholds = thresholds_across(known, scores, settings)
    detector.plausibility = plausibility(images, looks)
    detector.challenges = challenges(detector, images, scores)
    return Calibrated(good, images, scores, folds)


def run(args: Namespace) -> None:
    """Writes the calibrated detector and the scores, and says what each threshold promises."""
    settings = read_section("calibrate", CalibrationSettings)
    manifest, linked = read_manifest(args.manifest), read_linked(args.linked)
    with judging(args.model) as judge:
        detector = judge.detector
        found = calibrated(judge, manifest, linked, settings)
        with files.written_whole(args.out) as folder:
            detector.save(folder)
        lines = [
            HeldOutScore(
                image.path.relative_to(manifest.root).as_posix(),
                image.category,
                image.part,
                image.sha256,
                score,
                judge.device,
                None if found.folds is None else found.folds[n],
            )
            for n, (image, score) in enumerate(zip(found.images, found.scores, strict=True))
        ]
        write_scores(lines, args.scores)
        draw_outliers(judge, found.images, found.scores, found.folds, args.outliers)
    for category, threshold in sorted(detector.thresholds.items()):
        own = [image for image in found.good if image.category == category]
        if threshold.cross is None:
            print(promise(category, threshold, own, linked.looked, settings, SAY_UNSEEN))
        else:
            print(promise_across(category, threshold, own, linked.looked, settings))
    for sentence in unchecked(detector):
        print(sentence)
