"""What a version's evidence has of an image: its score when the version was made."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.calibrate.scores_table import read_scores
from pipelines.manifest.table import read_manifest
from pipelines.register.evidence import MANIFEST_FILE

TEST_SCORES, HELD_OUT_SCORES = "scores.csv", "held_out.csv"


@dataclass(frozen=True)
class Judged:
    """An image and its score; `sha256` and `part` are "" where the evidence does not keep them. `used` says for what:
    the test, or the thresholds.
    """

    path: str
    category: str
    sha256: str
    part: str
    score: float
    used: str

    def is_meant(self, wanted: str, sha256: str) -> bool:
        """Whether it is asked for: by its content, or by its path or part."""
        return self.sha256 == sha256 if sha256 else wanted in (self.path, self.part)


def judged(folder: Path) -> Iterator[Judged]:
    """All images of a version's evidence."""
    manifest = folder / MANIFEST_FILE
    rows = {row.path: row for row in read_manifest(manifest).split("test")} if manifest.is_file() else {}
    if (tested := folder / TEST_SCORES).is_file():
        with tested.open(newline="") as file:
            for line in csv.DictReader(file):
                row = rows.get(line["path"])
                sha256, part = (row.sha256, row.part) if row else ("", "")
                yield Judged(line["path"], line["category"], sha256, part, float(line["score"]), "test")
    if (held_out := folder / HELD_OUT_SCORES).is_file():
        for one in read_scores(held_out):
            yield Judged(one.path, one.category, one.sha256, one.part, one.score, "thresholds")
