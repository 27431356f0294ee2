"""How the methods were compared, in sentences for the page."""

from math import comb

from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import find_method
from inpformer.metrics.paired import replicates_needed
from pipelines.compare.comparison import Judgements, lines_of
from pipelines.compare.data import Data
from pipelines.compare.judgement import Rules
from pipelines.gate.linked import numbered
from pipelines.platform.params import read_section


def notes_of(judgements: Judgements, data: Data, rules: Rules) -> list[str]:
    """What was judged, by which promise, what intervals cover and what is corrected for."""
    draws = rules.draws
    notes = [_images(data), _promise(judgements, rules.promise), *_seeds(judgements)]
    notes += [
        "A part counts once, however many images show it, and so do copies and the near duplicates that the gate found."
        if data.linked.looked
        else "Images are taken to show different parts, but for copies and named parts: nobody looked for near "
        "duplicates (gate.ignore).",
        "“More than chance”: the paired difference to the best, by part, excludes 0 at a level that is corrected for "
        f"all pairs of methods (Holm), so that among methods that are equal one is called worse with a probability of "
        f"{1 - draws.confidence:.0%} at most, for each metric of a table; in the tables by category and by kind, for "
        "all lines together.",
        "Bounds reckon with one part more than there are, on which a method does as badly as can be: with few parts "
        "nothing is claimed.",
        "Time: the median of one image at a time, from its bytes to the decision, on one thread of this machine, all "
        "methods in one process and in turn. Memory: the peak of a process that judges with the method alone. A "
        "training's time is that of its own steps, beside others on the same machine.",
    ]
    if read_section("calibrate", CalibrationSettings).folds is not None:
        notes.append("calibrate.folds is left out: each method has one model a training, judged by its own thresholds.")
    for scope, lines in lines_of(judgements).items():
        fewest = replicates_needed(comb(len(judgements), 2) * len(lines), 1 - draws.confidence)
        if draws.replicates < fewest:
            notes.append(
                f"In the table by {scope} nothing could be told apart, as it has too many comparisons for "
                f"{draws.replicates} draws: set promote.replicates to {fewest}."
            )
    if without := sorted(set(data.manifest.categories) - set(data.rows)):
        notes.append(f"Not compared, for want of good or of defective test images: {', '.join(without)}.")
    return notes


def _images(data: Data) -> str:
    rows = [row for own in data.rows.values() for row in own]
    parts = sum(int(numbered(own, data.linked).max()) + 1 for own in data.rows.values())
    bad = sum(row.label for row in rows)
    return (
        f"{len(rows)} test images of {parts} parts in {len(data.rows)} categories, {bad} of them defective, data "
        f"{data.manifest.digest[:12]}. Nothing was chosen by them. Means are over the categories."
    )


def _promise(judgements: Judgements, promise: CalibrationSettings) -> str:
    first = next(iter(judgements.values()))[0]
    rates = sorted(first.false_alarm_rate.values())
    kept = f"{rates[0]:.2%}" if rates[0] == rates[-1] else f"{rates[0]:.2%} to {rates[-1]:.2%}"
    asked = promise.false_alarm_rate
    less = "" if rates[-1] <= asked + 1e-9 else f" (asked for were {asked:.2%}: there are too few held-out images)"
    how = "on average" if promise.confidence is None else f"with {promise.confidence:g} confidence"
    return (
        "Misses are the defective parts that PASS. Every training's thresholds come from the same held-out good images "
        f"and promise the same: {kept} false alarms {how} at most{less}."
    )


def _seeds(judgements: Judgements) -> list[str]:
    taught = {method: own for method, own in judgements.items() if find_method(method).learns}
    untaught = [method for method in judgements if method not in taught]
    said = []
    if any(len(own) > 1 for own in taught.values()):
        most = max(len(own) for own in taught.values())
        said.append(
            f"Intervals cover other test parts of the same kind and other seeds of the training ({most} were tried; "
            "how uncertain the spread of so few is, is reckoned with). They do not cover other training images or "
            "other held-out ones."
        )
    elif taught:
        said.append(
            "One training of each method: intervals and differences cover other test parts of the same kind, but are "
            "of these very trainings. With more seeds they cover others, too."
        )
    if untaught:
        said.append(f"{', '.join(untaught)}: nothing is learnt, so that every seed gives the same.")
    return said
