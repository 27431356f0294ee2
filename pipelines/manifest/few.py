"""What a model of very few good images is worth: said by the stage itself and in the gate's report."""

from collections import defaultdict
from collections.abc import Collection

from pipelines.manifest.table import Row

FEWEST = 20  # good images, without those of the test


def few_images(rows: Collection[Row]) -> dict[str, str]:
    """For each category with fewer than FEWEST good images to learn from and to hold out, a sentence about it. Copies
    and images of one part count once.
    """
    good: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if not row.label:
            good[row.category][row.split].add(row.part or row.sha256)
    return {
        category: _sentence(len(sides["train"]), len(sides["val"]))
        for category, sides in sorted(good.items())
        if len(sides["train"]) + len(sides["val"]) < FEWEST
    }


def _sentence(learnt: int, held: int) -> str:
    # Split conformal: the best that a threshold from n images can promise is 1 / (n + 1).
    return (
        f"good images to learn from: {learnt}, held out: {held}. That is few: the model takes for a defect whatever it "
        f"has not seen among them, and a threshold from {held} may fail {1 / (held + 1):.0%} of good parts; "
        f"add {FEWEST - learnt - held} good images or more"
    )
