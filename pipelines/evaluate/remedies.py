"""What would lower the miss rate, by category: more held-out parts, fewer outliers among them, a weaker promise.

All of it is read from the held-out scores, but for the misses at a weaker promise: they are a look at the test images,
and no choice that is made by them.
"""

from collections.abc import Mapping

from inpformer.errors import UserError
from inpformer.judging.calibration import Threshold, calibrate, images_needed
from inpformer.judging.settings import CalibrationSettings
from pipelines.evaluate.measure import Parts, rates

COLUMNS = (
    "category",
    "misses",
    "held-out parts",
    "more, to keep {rate:.3g}",
    "more, so that the highest score does not set FAIL",
    "FAIL above (highest held-out score, median)",
    "misses at twice the promise",
)


def weaker(threshold: Threshold) -> Threshold | None:
    """The threshold that the same held-out scores give at twice the false-alarm rate, with as much to REVIEW; None if
    there is no such rate. Of folds it is not known: their test scores are of the rank that was promised.
    """
    if threshold.cross is not None:
        return None
    held_out = len(threshold.scores)
    ranks = [
        sum(score <= limit for score in threshold.scores) for limit in (threshold.review_threshold, threshold.threshold)
    ]
    try:
        settings = CalibrationSettings(
            2 * threshold.false_alarm_rate, threshold.confidence, (ranks[1] - ranks[0]) / (held_out + 1)
        )
    except UserError:
        return None
    return calibrate({"": threshold.scores}, settings)[""]


def remedies(parts: Mapping[str, Parts], thresholds: Mapping[str, Threshold], rate: float) -> str:
    """A Markdown table; `rate` is the false-alarm rate that was asked for."""
    lines = [
        "What would lower the misses: more independent held-out parts; a look at those that set the thresholds, in "
        "reports/thresholds.png (remove what is no good part, add good parts like it to training); a weaker promise. "
        "The misses at twice the promise are a look at the test images: choose the rate by what a false alarm costs.",
        "",
        "| " + " | ".join(COLUMNS).format(rate=rate) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for category, found in parts.items():
        lines.append("| " + " | ".join(_row(category, found, thresholds[category], rate)) + " |")
    return "\n".join(lines) + "\n"


def _row(category: str, parts: Parts, threshold: Threshold, rate: float) -> list[str]:
    held_out = len(threshold.scores)
    highest, median = threshold.scores[-1], threshold.scores[held_out // 2]
    to_spare = max(0, images_needed(rate, threshold.confidence, above=1) - held_out)
    spared = "–" if threshold.cross else f"{to_spare}" if to_spare else "none"
    other = weaker(threshold)
    return [
        category.replace("|", r"\|"),
        _misses(parts, threshold),
        f"{held_out}",
        f"{threshold.missing_images}" if threshold.missing_images else "none",
        spared,
        f"{threshold.threshold:.4f} ({highest:.4f}, {median:.4f})",
        "–" if other is None else f"{_misses(parts, other)} at {other.false_alarm_rate:.2%}",
    ]


def _misses(parts: Parts, threshold: Threshold) -> str:
    found = rates(parts, threshold).get("miss_rate")
    return "–" if found is None else f"{found.value:.3f} ({found.found} of {found.total})"
