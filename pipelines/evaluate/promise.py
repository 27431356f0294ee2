"""Whether a threshold kept its promise on the good test parts: the numbers, and what they mean in a sentence.

Without scipy and torch: what registers and promotes a version reads them too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# Broken are promises whose corrected p-value is below: of kept ones so many are called broken, at most.
SURPRISING = 0.05
# What a version says of itself: HELD_TAG with one of the three, BROKEN_TAG with the numbers where it was not.
HELD_TAG, BROKEN_TAG = "promise.held", "promise.broken"
HELD, NOT_HELD, NOT_TESTED = "yes", "no", "not tested"
NAMED = 6  # broken ones: a description holds 5000 characters


@dataclass(frozen=True)
class Outcome:
    """Of `good_parts` test parts `false_alarms` FAIL, where `bound` is the largest share that is to: with `confidence`,
    or on average where that is None; `promised` is that of the threshold.

    `p_value` is the probability of as many or more where the promise holds, `unsurprising` the most false alarms for
    which it is not below SURPRISING. `higher` is the share of pairs in which a test part scores above a held-out one,
    of which there are `held_out_parts`; `shift_p_value` that of the two being alike: None where the scores are not of
    one model. Those `corrected` are corrected for the number of categories.
    """

    bound: float
    confidence: float | None
    promised: bool
    held_out_parts: int
    good_parts: int
    false_alarms: int
    unsurprising: int
    p_value: float
    corrected: float
    higher: float | None = None
    shift_p_value: float | None = None
    shift_corrected: float | None = None

    @property
    def held(self) -> bool:
        """Whether so many false alarms are no reason to doubt the promise."""
        return self.corrected >= SURPRISING

    @property
    def numbers(self) -> dict[str, float]:
        """For JSON and MLflow, which take no None."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {**values, "promised": int(self.promised), "held": int(self.held)}

    def sentence(self, category: str) -> str:
        """The verdict with its numbers, and what to do where it is bad."""
        few = "; so few parts could not show otherwise" if self.unsurprising == self.good_parts else ""
        if self.held:
            return f"{category}: the false-alarm rate held: {self.counted}{few}{self._shift}"
        return f"{category}: the false-alarm rate did NOT hold: {self.counted}{self._shift}; {ADVICE}"

    @property
    def counted(self) -> str:
        """What was found, what was promised, and how surprising that is."""
        over = "on average" if self.confidence is None else f"with {self.confidence:g} confidence"
        bound = f"at most {self.bound:.2%} {over} {'were promised' if self.promised else 'would be right'}"
        surprise = f"up to {self.unsurprising} are no surprise, {_p(self.p_value, self.corrected)}"
        return f"{self.false_alarms} of {self.good_parts} good test parts FAIL, {bound} ({surprise})"

    @property
    def _shift(self) -> str:
        if self.higher is None or self.shift_p_value is None or self.shift_corrected is None:
            return ""
        p = _p(self.shift_p_value, self.shift_corrected)
        if self.shift_corrected >= SURPRISING:
            return f"; they score like the {self.held_out_parts} held-out ones ({p})"
        how = "higher" if self.higher > 0.5 else "lower"
        means = (
            "more false alarms than promised may come" if how == "higher" else "the threshold may be needlessly high"
        )
        return (
            f"; they score {how} than the {self.held_out_parts} held-out ones ({self.higher:.0%} of pairs, {p}), as if "
            f"from another production: {means}"
        )


ADVICE = (
    "the held-out pictures are then unlike the test's, or show one part several times: look for such pairs in the "
    "gate's page, name the parts (manifest.part), and hold out pictures from where the test's come from"
)


def _p(p_value: float, corrected: float) -> str:
    """As people read it, with the corrected one where that differs."""
    return f"p {p_value:.2g}" + (f", {corrected:.2g} for all categories" if corrected != p_value else "")


def untested(category: str) -> str:
    """Of a category whose test images show no good part."""
    return f"{category}: whether the false-alarm rate held was not tested: the test images show no good part"


def read_outcomes(numbers: Mapping[str, Any]) -> dict[str, Outcome]:
    """By category, from what evaluation.json has of a setting; empty where that says nothing of it."""
    known = [field.name for field in fields(Outcome)]
    return {
        category: Outcome(**{name: found.get(name) for name in known})
        for category, found in numbers.get("promise", {}).items()
    }


def promise_tags(numbers: Mapping[str, Any]) -> dict[str, str]:
    """HELD_TAG, and BROKEN_TAG where it did not hold, by what evaluation.json has of a setting."""
    outcomes = read_outcomes(numbers)
    if broken := _broken(outcomes):
        return {HELD_TAG: NOT_HELD, BROKEN_TAG: broken}
    return {HELD_TAG: HELD if outcomes else NOT_TESTED}


def verdict(numbers: Mapping[str, Any]) -> str:
    """One line for all categories, by what evaluation.json has of a setting."""
    outcomes = read_outcomes(numbers)
    if not outcomes:
        return "whether the false-alarm rate held was not tested: the test images show no good part"
    kept = sum(outcome.held for outcome in outcomes.values())
    said = f"the false-alarm rate held on the good test parts of {kept} of {len(outcomes)} categories"
    return f"{said}, but not of {broken}" if (broken := _broken(outcomes)) else said


def _broken(outcomes: Mapping[str, Outcome]) -> str:
    broken = [f"{category}: {outcome.counted}" for category, outcome in outcomes.items() if not outcome.held]
    more = [f"{len(broken) - NAMED} more"] if len(broken) > NAMED else []
    return "; ".join([*broken[:NAMED], *more])
