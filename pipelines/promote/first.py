"""The first champion has nothing to beat but chance and a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inpformer.judging.detector import Detector
from inpformer.methods.modes import ZERO_SHOT
from inpformer.metrics.paired import Paired, mean_of
from pipelines.features.settings import FeatureSettings
from pipelines.platform.params import read_all, read_section
from pipelines.promote.baseline import BASELINE, fit_baseline
from pipelines.promote.compare import CHANCE, Both, Compared, compared_as, independent_parts
from pipelines.promote.decide import Conclusion, Evidence, conclude, said, too_few
from pipelines.promote.images import SharedImages
from pipelines.promote.rescore import Rescored
from pipelines.promote.verdict import BETTER, NOT_WORSE, TOO_FEW, WORSE

GUESSED = 0.5  # chance's image AUROC


def baseline_of(challenger: Detector, tests: SharedImages) -> tuple[Detector | None, str]:
    """The baseline, None where there can be none, and a sentence about it. Raises what `fit_baseline` raises."""
    if challenger.method.name == BASELINE:
        return None, f"it is a {BASELINE} itself, the baseline of the others: a first champion of it has chance to beat"
    if challenger.learnt_from.setting == ZERO_SHOT:
        return None, "no baseline can be fitted without training images: zero-shot has chance alone to beat"
    own: Mapping[str, Any] = read_all().get("train", {}).get(BASELINE) or {}
    made = fit_baseline(challenger, tests.manifest, tests.linked, read_section("features", FeatureSettings), own)
    return made, f"the baseline is {BASELINE}, fitted and calibrated on the images that the challenger was"


def against_chance(found: Sequence[Rescored], level: float) -> list[Compared]:
    """The challenger's image AUROC less that of chance, the mean over the categories."""
    over = []
    for one in found:
        report = one.reports[0]
        replicates = report.replicates["image_auroc"][1:] - GUESSED
        value = report.metrics["image_auroc"]
        # A part that is missing is ranked as badly as can be, where chance has it in the middle.
        paired = Paired(value - GUESSED, replicates, independent_parts(one), worst=GUESSED)
        over.append(Both(value, GUESSED, paired))
    if not over:
        return []
    mean = mean_of([one.paired for one in over])
    value = mean.difference + GUESSED
    return [compared_as(CHANCE, None, Both(value, GUESSED, mean), 0.0, level, 1)]


def conclude_first(evidence: Evidence, chance: Sequence[Compared], baseline: bool) -> Conclusion:
    """Better only where it beats chance, and the baseline if there is one."""
    unbeaten = [one for one in chance if not one.held]
    if unbeaten or not chance:
        if any(one.high < 0 for one in unbeaten):
            return Conclusion(WORSE, "; ".join(map(said, unbeaten)))
        return too_few(evidence, unbeaten)
    beaten = "; ".join(map(said, chance))
    if not baseline:
        untested = bool(evidence.untested)
        return too_few(evidence, []) if untested else Conclusion(BETTER, beaten)
    found = conclude(evidence)
    if found.outcome == NOT_WORSE:
        return replace(
            found, reasons=f"a first champion must be better than the baseline, and is not shown to be; {found.reasons}"
        )
    return replace(found, reasons=f"{found.reasons}; {beaten}") if found.outcome in (BETTER, TOO_FEW) else found
