"""The trials of a search as a table, and which of them won. Free of torch and Ray."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE, PICTURES = "trials.csv", "pictures"
COLUMNS = ("trial", "state", "epochs", "objective", "best", "miss_rate", "image_ap", "pixel_ap", "seconds")
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Trial:
    """One trial: its `values` by parameter name, where it ended (FINISHED after all epochs, STOPPED by ASHA, FAILED)
    and what it reached there: None if it failed before it was judged. `pixel_ap` is None too without masks.
    """

    values: dict[str, Any]
    state: str
    epochs: int
    objective: float | None
    miss_rate: float | None
    image_ap: float | None
    pixel_ap: float | None
    seconds: float


def best_so_far(trials: Sequence[Trial]) -> list[float | None]:
    """The best objective up to each trial. Only trials of all epochs count: what another promised after a few is not
    what a whole training gives.
    """
    best: float | None = None
    found = []
    for trial in trials:
        if trial.state == FINISHED and trial.objective is not None:
            best = trial.objective if best is None else max(best, trial.objective)
        found.append(best)
    return found


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The best trial of all epochs, the first of equals; None if there is none."""
    finished = [trial for trial in trials if trial.state == FINISHED and trial.objective is not None]
    return max(finished, key=lambda trial: trial.objective or 0.0, default=None)


def write_table(trials: Sequence[Trial], file: Path) -> None:
    """A row a trial, in the order in which they ended; of no trial, the header alone."""
    with file.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow((*COLUMNS, *(trials[0].values if trials else ())))
        for number, (t, best) in enumerate(zip(trials, best_so_far(trials), strict=True), 1):
            reached = (t.state, t.epochs, t.objective, best, t.miss_rate, t.image_ap, t.pixel_ap, round(t.seconds, 1))
            writer.writerow((number, *reached, *t.values.values()))
