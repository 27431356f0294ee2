"""Thresholds of an export that decides otherwise than its version: made as the version's were, from its own scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inpformer.config import build
from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.plausibility import Plausibility
from inpformer.judging.settings import CalibrationSettings
from pipelines.calibrate.held_out import (
    GoodImage,
    count_parts,
    plausibility,
    promise,
    scores_of,
    thresholds,
    unseen_by,
)
from pipelines.calibrate.judge import InProcess
from pipelines.calibrate.thresholds import SAY_UNSEEN
from pipelines.platform.registry import Version, download_evidence
from pipelines.promote.images import SharedImages
from pipelines.register.evidence import PROVENANCE_FILE


@dataclass(frozen=True)
class Calibration:
    """What set a version's thresholds: the held-out images, whether near duplicates among them were looked for, and
    what was asked for.
    """

    images: Sequence[GoodImage]
    looked: bool
    settings: CalibrationSettings

    def of(self, detector: Detector) -> tuple[dict[str, Threshold], Plausibility]:
        """The thresholds of another detector on the same terms, by category, and what good pictures look like to it.
        Raises what `scores_of` raises.
        """
        scores, looks = scores_of(InProcess(detector), self.images)
        made = thresholds(self.images, scores, self.settings, unseen_by(detector, self.settings))
        return made, plausibility(self.images, looks)

    def promises(self, made: dict[str, Threshold]) -> dict[str, str]:
        """What the thresholds of each category are worth, in a sentence or two."""
        return {
            category: promise(category, limits, self._of(category), self.looked, self.settings, SAY_UNSEEN)
            for category, limits in made.items()
        }

    def made(self, detector: Detector) -> bool:
        """Whether the detector's own thresholds are what its held-out scores and the settings give."""
        if set(detector.thresholds) != {image.category for image in self.images}:
            return False
        unseen = unseen_by(detector, self.settings)
        return all(
            len(limits.scores) == count_parts(self._of(category)).max() + 1
            and calibrate({category: limits.scores}, self.settings, unseen)[category] == limits
            for category, limits in detector.thresholds.items()
        )

    def _of(self, category: str) -> list[GoodImage]:
        return [image for image in self.images if image.category == category]


def calibration_of(
    model_name: str, version: Version, detector: Detector, images: SharedImages, folder: Path
) -> Calibration:
    """What set the thresholds of the version, whose detector this is. Evidence is fetched into `folder`.

    Raises UserError where these cannot be made again from what the registry keeps.
    """
    name = f"{model_name} version {version.number}"
    if detector.folds:
        raise UserError(
            f"{name} has a model a fold, and 8 bits take thresholds of one: export 16 bits, or train without "
            "calibrate.folds."
        )
    if images.version != version.number:
        raise UserError(
            f"{name} was recalibrated with images that the registry keeps no list of, and 8 bits take thresholds from "
            f"these: export version {images.version}, which it came from, or export 16 bits."
        )
    root = images.manifest.root
    held_out = [
        GoodImage(root / row.path, row.category, row.sha256, row.part, images.linked.group(row.path))
        for row in images.manifest.held_out
    ]
    kept = download_evidence(model_name, version.number, folder, PROVENANCE_FILE)
    params = {} if kept is None else json.loads(kept.read_text())["params"]
    settings = build(CalibrationSettings, params.get("calibrate", {}), f"{PROVENANCE_FILE} of {name}: calibrate")
    found = Calibration(held_out, images.linked.looked, settings)
    if kept is None or not found.made(detector):
        raise UserError(
            f"the thresholds of {name} are not those that its list of held-out images and its parameters give, so that "
            "8 bits have none on the same terms: train and register one with `dvc repro`, or export 16 bits."
        )
    return found
