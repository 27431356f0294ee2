"""Two detectors on the same test images: each image is read once and checked, and both judge it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, refuse_broken
from inpformer.judging.detector import Detector
from inpformer.metrics.settings import BootstrapSettings
from pipelines.evaluate.measure import Judged, Measurement, Report
from pipelines.gate.linked import Linked, numbered
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Row
from pipelines.promote.flips import Flip, Flips
from pipelines.promote.policy import alike

BATCH_SIZE = 16


@dataclass(frozen=True)
class Pair:
    """The challenger, and what it is weighed against; `names` are their versions, for people."""

    challenger: Detector
    other: Detector
    names: tuple[str, str]

    @property
    def both(self) -> tuple[Detector, Detector]:
        """In this order everywhere."""
        return self.challenger, self.other


@dataclass(frozen=True)
class Rescored:
    """A category's test images as both judge them: their reports, and the thresholds that were applied. `parts` [n]
    numbers the part of each image; `masked` [n] are the images that both see a marked defect in.
    """

    category: str
    reports: tuple[Report, Report]
    thresholds: tuple[Threshold, Threshold]
    parts: NDArray[np.intp]
    masked: NDArray[np.bool_]

    @property
    def rows(self) -> list[Row]:
        """Of the images, in their order."""
        return self.reports[0].rows


def check_there(root: Path, rows: Sequence[Row]) -> None:
    """Raises UserError if images or masks are not on this machine."""
    names = [name for row in rows for name in (row.path, *row.masks)]
    if missing := [name for name in names if not (root / name).is_file()]:
        raise UserError(
            f"{len(missing)} of the {len(names)} images and masks are not on this machine, {root / missing[0]} "
            "first: bring them there with `dvc pull` and `dvc checkout`, at the commit of the data, and run again."
        )


def content_of(root: Path, row: Row) -> bytes:
    """Raises UserError for a file that is not the one that the manifest names."""
    try:
        content = (root / row.path).read_bytes()
    except OSError as error:
        raise UserError(f"{root / row.path} cannot be read ({error.strerror}): bring it there again.") from None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise UserError(
            f"{root / row.path} is not the image that the versions are weighed on: bring that one back with "
            "`dvc checkout`, at the commit of the data, and run again."
        )
    return content


def unseen(rows: Sequence[Row], linked: Linked, detectors: Sequence[Detector]) -> list[Row]:
    """The images of parts that none of the detectors is known to have been trained on: no judge in its own cause."""
    digests = [row.sha256 for row in rows]
    seen = {place for one in detectors if one.seen is not None for place in one.seen.overlap(digests)}
    kept = []
    for category in sorted({row.category for row in rows}):
        places = [n for n, row in enumerate(rows) if row.category == category]
        parts = numbered([rows[n] for n in places], linked).tolist()
        known = {part for n, part in zip(places, parts, strict=True) if n in seen}
        kept += [rows[n] for n, part in zip(places, parts, strict=True) if part not in known]
    return kept


def same_promise(pair: Pair, categories: Sequence[str]) -> list[str]:
    """Gives both detectors thresholds at the same promise; returns the categories where that moved one of them."""
    moved = []
    for category in categories:
        before = tuple(one.thresholds[category] for one in pair.both)
        after = alike(category, before)
        for detector, threshold in zip(pair.both, after, strict=True):
            detector.thresholds[category] = threshold
        if after != before:
            moved.append(category)
    return moved


def rescore(
    root: Path, rows: Mapping[str, Sequence[Row]], linked: Linked, pair: Pair, settings: BootstrapSettings
) -> tuple[list[Rescored], Flips]:
    """Judges the images of each category with both detectors, and keeps those that they decide differently about.

    Raises UserError for an image or mask that is gone, changed or unreadable, and for a score that is no number.
    """
    flips, found = Flips(pair.names), []
    with tqdm(total=sum(map(len, rows.values())), desc="weighing", unit="image", disable=None) as progress:
        for number, (category, own) in enumerate(rows.items()):
            # Draws of its own for each category, the same for both detectors.
            seeded = replace(settings, seed=settings.seed + number)
            found.append(_category(root, category, own, linked, pair, seeded, flips, progress))
    return found, flips


def _category(
    root: Path,
    category: str,
    rows: Sequence[Row],
    linked: Linked,
    pair: Pair,
    settings: BootstrapSettings,
    flips: Flips,
    progress: tqdm,
) -> Rescored:
    limits = (pair.challenger.thresholds[category], pair.other.thresholds[category])
    masked = []
    with Measurement(settings, linked, smooth=True) as first, Measurement(settings, linked, smooth=True) as second:
        for image, judged in _judged(root, rows, pair, progress):
            # What one of the two cannot see, as it cuts the border off, is compared for neither.
            marked = all(one.mask.any() for one in judged)
            masked.append(marked)
            for measurement, one in zip((first, second), judged, strict=True):
                measurement.add(one if marked else replace(one, mask=np.zeros_like(one.mask)))
            if limits[0].decide(judged[0].score) != limits[1].decide(judged[1].score):
                frames = tuple(detector.frame(image.size) for detector in pair.both)
                flips.add(Flip.of(image, judged, limits, frames))
        reports = (first.report(limits[0]), second.report(limits[1]))
    return Rescored(category, reports, limits, numbered(rows, linked), np.array(masked))


def _judged(
    root: Path, rows: Sequence[Row], pair: Pair, progress: tqdm
) -> Iterator[tuple[Image.Image, tuple[Judged, Judged]]]:
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        contents = [(content_of(root, row), str(root / row.path)) for row in batch]
        images = [pair.challenger.open(*one) for one in contents]
        # Of 16 bits a channel they are not the same pictures where the two differ in what is white.
        same_white = pair.other.encoder.settings.white == pair.challenger.encoder.settings.white
        theirs = images if same_white else [pair.other.open(*one) for one in contents]
        categories = [row.category for row in batch]
        first = pair.challenger.predict(images, categories)
        alone = pair.other is pair.challenger  # there is nothing but chance to weigh it against
        predictions = (first, first if alone else pair.other.predict(theirs, categories))
        for n, (row, image) in enumerate(zip(batch, images, strict=True)):
            mask = read_mask(root, row)
            if np.count_nonzero(np.asarray(mask)) != row.mask_pixels:
                raise UserError(
                    f"a mask of {root / row.path} is not the one that the versions are weighed with: bring that one "
                    "back with `dvc checkout`, at the commit of the data, and run again."
                )
            one, two = (
                Judged(row, float(found.scores[n]), found.maps[n], detector.mask(mask))
                for found, detector in zip(predictions, pair.both, strict=True)
            )
            for judged in (one, two):
                refuse_broken(judged.score, str(root / row.path))
            yield image, (one, two)
        progress.update(len(batch))
