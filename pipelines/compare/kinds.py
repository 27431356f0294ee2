"""The kinds of defect of a category, and the test images that each is rated on."""

from collections import defaultdict
from collections.abc import Sequence

from pipelines.gate.linked import Linked, numbered
from pipelines.manifest.table import Row


def kinds_of(rows: Sequence[Row], linked: Linked) -> dict[str, set[str]]:
    """By kind the paths of its defective images, and of the good images of all parts but those that have other kinds
    alone: a good view of a part with another defect says nothing of this one.
    """
    parts = numbered(rows, linked).tolist()
    of_part: dict[int, set[str]] = defaultdict(set)
    for row, part in zip(rows, parts, strict=True):
        if row.label:
            of_part[part].add(row.defect)
    kinds = sorted({row.defect for row in rows if row.label})
    return {
        kind: {
            row.path
            for row, part in zip(rows, parts, strict=True)
            if (row.defect == kind if row.label else kind in of_part[part] or not of_part[part])
        }
        for kind in kinds
    }
