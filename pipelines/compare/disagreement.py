"""The test images about which the methods disagree most, and what each method saw of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from inpformer.backends.names import TORCH
from pipelines.calibrate.judge import InProcess, load_detector
from pipelines.compare.comparison import Judgements
from pipelines.compare.data import Data
from pipelines.compare.judgement import Said
from pipelines.evaluate.test_images import judged_images
from pipelines.manifest.table import Row
from pipelines.promote.seen import Seen

SHOWN = 24


@dataclass(frozen=True)
class Disagreement:
    """An image, and what the first training of each method saw of it."""

    row: Row
    seen: tuple[Seen, ...]


def clearest(said: Sequence[Sequence[Said]], most: int = SHOWN) -> list[str]:
    """The paths of the images of which some methods say FAIL and others do not, those first where both sides are sure;
    `said` has each method's words on the same images. An image is as clear as the less sure of its two sides.
    """
    found = []
    for words in zip(*said, strict=True):
        failing = [one.beyond for one in words if one.decision == "FAIL"]
        others = [-one.beyond for one in words if one.decision != "FAIL"]
        if failing and others:
            found.append((-min(max(failing), max(others)), words[0].path))
    return [path for _, path in sorted(found)[:most]]


def disagreements(judgements: Judgements, data: Data) -> list[Disagreement]:
    """Judges the chosen images once more, for their maps."""
    firsts = [own[0] for own in judgements.values()]
    paths = clearest([one.said for one in firsts])
    by_path = {row.path: row for rows in data.rows.values() for row in rows}
    rows = [by_path[path] for path in paths]
    seen: list[list[Seen]] = [[] for _ in rows]
    with tqdm(total=len(rows) * len(firsts), desc="drawing", unit="image", disable=None) as progress:
        for one in firsts if rows else ():
            detector = load_detector(one.detector, TORCH)
            for place, judged in enumerate(judged_images(data.manifest, InProcess(detector), rows, progress)):
                image = detector.open(data.manifest.root / judged.row.path)
                limit = detector.thresholds[judged.row.category]
                seen[place].append(Seen.of(image, judged, limit, detector.frame(image.size)))
    return [Disagreement(row, tuple(own)) for row, own in zip(rows, seen, strict=True)]
