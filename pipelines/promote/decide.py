"""From numbers to one of four outcomes, and the sentence for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from pipelines.promote.compare import CHANCE, DEFECTIVE, GOOD, TAKES, Compared, decided_right
from pipelines.promote.rescore import Rescored
from pipelines.promote.verdict import BETTER, NOT_WORSE, TOO_FEW, WORSE, Outcome

NAMES = {
    "image_auroc": "image AUROC",
    "pixel_ap": "P-AP",
    "aupro": "AUPRO",
    "recall": "recall",
    "specificity": "specificity",
    CHANCE: "image AUROC against chance",
}
NAMED = 3  # things in a sentence


@dataclass(frozen=True)
class Decisions:
    """Parts by who decides them right; `p_value` is that of McNemar's exact test: as unequal a split of those that one
    alone decides right, by chance.
    """

    both: int
    challenger_alone: int
    other_alone: int
    neither: int
    p_value: float


@dataclass(frozen=True)
class Evidence:
    """All that an outcome rests on. `lost` are categories that only the other one knows, `untested` those that both
    know and the test images cannot compare; `now` has the parts by category and class. `level` is 1 - confidence.
    """

    compared: Sequence[Compared]
    decisions: Decisions
    lost: Sequence[str]
    untested: Sequence[str]
    now: Mapping[str, Mapping[str, int]]
    level: float


@dataclass(frozen=True)
class Conclusion:
    """`takes` are the test parts, by class, that it would take as a whole to show that the challenger is not worse;
    None where more would not help.
    """

    outcome: Outcome
    reasons: str
    takes: dict[str, int] | None = None


def decisions_of(found: Sequence[Rescored]) -> Decisions:
    """Of the parts of all categories."""
    from statsmodels.stats.contingency_tables import mcnemar  # seconds to import

    first, second = (
        np.concatenate([decided_right(one.reports[n].parts, one.thresholds[n]) for one in found] or [np.zeros(0, bool)])
        for n in range(2)
    )
    both, alone = int((first & second).sum()), int((first & ~second).sum())
    other, neither = int((~first & second).sum()), int((~first & ~second).sum())
    p_value = float(mcnemar([[both, alone], [other, neither]], exact=True).pvalue)
    return Decisions(both, alone, other, neither, p_value)


def conclude(evidence: Evidence) -> Conclusion:
    """See `pipelines.promote.verdict` for the outcomes."""
    failing = [one for one in evidence.compared if not one.held]
    sure = [one for one in failing if one.surely_worse]
    decisions = evidence.decisions
    more_wrong = decisions.p_value < evidence.level and decisions.other_alone > decisions.challenger_alone
    if evidence.lost or more_wrong or sure:
        reasons = [f"it does not know {_listed(evidence.lost)}"] if evidence.lost else []
        if more_wrong:
            reasons.append(
                f"it decides {decisions.other_alone} parts wrong that the other decides right, and the reverse "
                f"{decisions.challenger_alone} (McNemar's p {decisions.p_value:.2g})"
            )
        reasons += [said(one) for one in worst_first(sure)[:NAMED]]
        return Conclusion(WORSE, "; ".join(reasons))
    if failing or evidence.untested or not evidence.compared:
        return too_few(evidence, failing)
    nearest = min(evidence.compared, key=lambda one: one.low + one.margin)
    held = f"no measure falls by its margin or more; nearest to it comes {said(nearest)}"
    if gains := [one for one in evidence.compared if one.category is None and one.surely_better]:
        return Conclusion(BETTER, "; ".join([*(said(one) for one in gains), held]))
    return Conclusion(NOT_WORSE, held)


def too_few(evidence: Evidence, failing: Sequence[Compared]) -> Conclusion:
    """More images would help, or would not."""
    reasons = [f"{said(one)} (it may fall by {one.margin:.3g})" for one in worst_first(failing)[:NAMED]]
    if len(failing) > NAMED:
        reasons.append(f"{len(failing) - NAMED} more do not keep their margin for sure")
    if evidence.untested:
        reasons.append(f"of {_listed(evidence.untested)} there are no good and defective test images to compare on")
    takes = takes_in_all(evidence.now, failing) if failing else None
    if failing and takes is None:
        reasons.append("more test images would more likely show that it is worse than that it is not")
    elif takes is not None:
        now = {name: sum(own[name] for own in evidence.now.values()) for name in takes}
        reasons.append(
            f"if the differences stay what they are, it takes some {takes[GOOD]} good and {takes[DEFECTIVE]} defective "
            f"test parts in all (now {now[GOOD]} and {now[DEFECTIVE]})"
        )
    return Conclusion(TOO_FEW, "; ".join(reasons), takes)


def takes_in_all(now: Mapping[str, Mapping[str, int]], failing: Sequence[Compared]) -> dict[str, int] | None:
    """The test parts by class, over all categories, that let each failing measure keep its margin; None where one has
    fallen by its margin already.
    """
    totals = {GOOD: 0, DEFECTIVE: 0}
    for category, own in now.items():
        for name in totals:
            growths = [one.growth for one in failing if one.category in (None, category) and name in TAKES[one.measure]]
            if None in growths:
                return None
            totals[name] += ceil(own[name] * max([1.0, *(growth for growth in growths if growth is not None)]))
    return totals


def worst_first(compared: Sequence[Compared]) -> list[Compared]:
    """By how far each falls below its margin; means before categories."""
    return sorted(compared, key=lambda one: (one.category is not None, one.low + one.margin))


def said(one: Compared) -> str:
    """A measure in words."""
    where = "" if one.category is None else f" of {one.category}"
    bounds = f"[{one.low:+.3f}, {one.high:+.3f}]"
    return f"{NAMES[one.measure]}{where} {one.challenger:.3f} against {one.other:.3f}, {one.difference:+.3f} {bounds}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
