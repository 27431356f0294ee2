"""The test images about which the methods disagree most, and what each method saw of them."""

from collections import defaultdict
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
    """An image, and what the first training of each method saw of it, by method."""

    row: Row
    seen: dict[str, Seen]


def clearest(said: Sequence[Sequence[Said]], most: int = SHOWN) -> list[str]:
    """The paths of the images of which some methods say FAIL and others do not: of each kind of each category the one
    where both sides are surest, then the next of each. `said` has each method's words on the same images; an image is
    as clear as the less sure of its two sides.
    """
    found: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for words in zip(*said, strict=True):
        failing = [one.beyond for one in words if one.decision == "FAIL"]
        others = [-one.beyond for one in words if one.decision != "FAIL"]
        if failing and others:
            found[words[0].category, words[0].defect].append((-min(max(failing), max(others)), words[0].path))
    ranked = [(rank, *one) for own in found.values() for rank, one in enumerate(sorted(own))]
    return [path for _, _, path in sorted(ranked)[:most]]


def disagreements(judgements: Judgements, data: Data) -> list[Disagreement]:
    """Judges the chosen images once more, for their maps."""
    firsts = {method: own[0] for method, own in judgements.items()}
    paths = clearest([one.said for one in firsts.values()])
    by_path = {row.path: row for rows in data.rows.values() for row in rows}
    rows = [by_path[path] for path in paths]
    found = [Disagreement(row, {}) for row in rows]
    with tqdm(total=len(rows) * len(firsts), desc="drawing", unit="image", disable=None) as progress:
        for method, one in firsts.items() if rows else ():
            detector = load_detector(one.detector, TORCH)
            for place, judged in enumerate(judged_images(data.manifest, InProcess(detector), rows, progress)):
                image = detector.open(data.manifest.root / judged.row.path)
                limit = detector.thresholds[judged.row.category]
                found[place].seen[method] = Seen.of(image, judged, limit, detector.frame(image.size))
    return found
