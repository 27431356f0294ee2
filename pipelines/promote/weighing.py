"""Judges, compares and concludes: all of the gate but where it is written."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from sys import stderr
from typing import Any

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.judging.detector import Detector
from pipelines.manifest.table import Row, comparable
from pipelines.platform.registry import DIGEST_TAG, Version, download_detector
from pipelines.platform.weights import load_encoder
from pipelines.promote.compare import bootstrap_of, compare, parts_by_class
from pipelines.promote.cost import IMAGES, Cost, measure_apart
from pipelines.promote.decide import Conclusion, Evidence, conclude, decisions_of
from pipelines.promote.first import against_chance, baseline_of, conclude_first
from pipelines.promote.forest import draw_forest
from pipelines.promote.images import SharedImages, images_of
from pipelines.promote.page import Shown, page
from pipelines.promote.rescore import Pair, check_there, rescore, same_promise, unseen
from pipelines.promote.settings import PromoteSettings
from pipelines.promote.verdict import BETTER, NOT_WORSE, TOO_FEW, WORSE, Outcome

WORDS: dict[Outcome, str] = {
    BETTER: "{} is better than {}",
    NOT_WORSE: "{} is not worse than {}",
    WORSE: "{} is worse than {}",
    TOO_FEW: "too few images to say whether {} is as good as {}",
}


@dataclass(frozen=True)
class Weighed:
    """What was found. `details` go into verdict.json; `shown` onto the page."""

    outcome: Outcome
    allows: bool
    sentence: str
    details: dict[str, Any]
    shown: Shown

    def page(self, forest: Path) -> str:
        """As HTML; `forest` is the picture of the differences."""
        return page(self.shown, forest)


@dataclass(frozen=True)
class Scope:
    """What is compared: `rows` by category. `lost` categories only the champion knows, `new` ones only the challenger;
    `untested` both know, but the test images cannot tell. `notes` say for people what was done.
    """

    rows: Mapping[str, Sequence[Row]]
    lost: Sequence[str]
    new: Sequence[str]
    untested: Sequence[str]
    notes: Sequence[str]


def weighed(
    model_name: str, challenger: Version, champion: Version | None, settings: PromoteSettings, forest: Path
) -> Weighed:
    """See `pipelines.promote.gate.weigh`; draws `forest`."""
    # Whatever works prints how far it is: standard output is for the verdict.
    with tempfile.TemporaryDirectory(prefix="inpformer-") as temporary, redirect_stdout(stderr):
        folder = Path(temporary)
        tests = images_of(model_name, challenger, champion, folder)
        check_there(tests.manifest.root, tests.manifest.split("test"))
        load = _loading()
        folders = {f"version {challenger.number}": download_detector(model_name, challenger.number, folder / "one")}
        detector = load(folders[f"version {challenger.number}"])
        if champion is not None:
            name = f"version {champion.number}"
            folders[name] = download_detector(model_name, champion.number, folder / "other")
            other, about = load(folders[name]), ""
        else:
            made, about = baseline_of(detector, tests)
            name, other = (f"the baseline {made.method.name}", made) if made else ("chance", detector)
        pair = Pair(detector, other, (f"version {challenger.number}", name))
        scope = scope_of(tests, pair)
        found, flips = rescore(tests.manifest.root, scope.rows, tests.linked, pair, bootstrap_of(settings))
        images = [(tests.manifest.root / row.path, category) for category, own in scope.rows.items() for row in own]
        chosen = images[:: max(1, -(-len(images) // IMAGES))]
        costs = {name: measure_apart([one], chosen, folder)[0] for name, one in folders.items()} if chosen else {}
        chance = [] if champion is not None else against_chance(found, 1 - settings.confidence)
        compared = [*chance, *(compare(found, settings) if other is not detector else [])]
        draw_forest(compared, forest)
    evidence = Evidence(
        [one for one in compared if one not in chance],
        decisions_of(found),
        scope.lost,
        scope.untested,
        parts_by_class(found),
        1 - settings.confidence,
    )
    concluded = conclude(evidence) if champion is not None else conclude_first(evidence, chance, other is not detector)
    broken = broken_budgets(costs.get(pair.names[0]), settings)
    enough = (BETTER, NOT_WORSE) if champion is not None else (BETTER,)
    allows = concluded.outcome in enough and not broken
    sentence = sentence_of(pair.names, concluded, scope, broken)
    notes = [*([about] if about else []), *scope.notes]
    details = details_of(model_name, challenger, champion, tests, scope, settings) | {
        "compared": [{**asdict(one), "difference": one.difference, "held": one.held} for one in compared],
        "decisions": asdict(evidence.decisions),
        "takes": concluded.takes,
        "parts": {name: dict(own) for name, own in evidence.now.items()},
        "costs": {name: asdict(cost) for name, cost in costs.items()},
        "budgets_broken": broken,
        "notes": notes,
        "flips": flips.listed,
    }
    shown = Shown(
        concluded.outcome, sentence, allows, pair.names, notes, compared, evidence.decisions, costs, broken, flips
    )
    return Weighed(concluded.outcome, allows, sentence, details, shown)


def scope_of(tests: SharedImages, pair: Pair) -> Scope:
    """Gives both detectors thresholds at the same promise, and says what can be compared."""
    mine, theirs = (set(one.thresholds) for one in pair.both)
    test = [row for row in tests.manifest.split("test") if row.category in mine & theirs]
    kept = unseen(test, tests.linked, pair.both)
    rows = comparable(kept, sorted(mine & theirs))
    notes = [
        f"{sum(map(len, rows.values()))} test images of {len(rows)} categories, those of version {tests.version}, "
        f"data {tests.manifest.digest[:12]}"
    ]
    if tests.dropped:
        notes.append(f"{len(tests.dropped)} test images that the champion was measured on are not among them")
    if len(kept) < len(test):
        notes.append(
            f"{len(test) - len(kept)} of {len(test)} test images are left out, as one of the two was trained on them "
            "or on another picture of the same part"
        )
    if not tests.linked.looked:
        notes.append("pictures are taken to be of different parts: near duplicates were not looked for (gate.ignore)")
    if moved := same_promise(pair, sorted(rows)):
        notes.append(
            "recall and specificity are those at the weaker of both promises, with thresholds made anew from each "
            f"one's held-out images, for {', '.join(moved)}: as they stand, they promise different rates"
        )
    if len({(one.encoder.transform, one.tiling) for one in pair.both}) > 1:
        notes.append(
            "the two see images differently (size, cut, tiles or what is white): pixel measures are each one's own, "
            "and leave out images whose defect one of them does not see"
        )
    new = sorted(mine - theirs)
    if new:
        notes.append(f"new, and not compared: {', '.join(new)}")
    untested = sorted((mine & theirs) - set(rows))
    return Scope(rows, sorted(theirs - mine), new, untested, notes)


def broken_budgets(cost: Cost | None, settings: PromoteSettings) -> list[str]:
    """A sentence for each budget of the challenger's that is broken, or was not measured."""
    said = []
    for name, what, unit in (("latency_ms", "p99_ms", "ms"), ("memory_mb", "memory_mb", "MB")):
        budget = getattr(settings, name)
        if budget is None:
            continue
        value = None if cost is None else getattr(cost, what)
        if value is None:
            said.append(f"promote.{name} is {budget:g} {unit}, and was not measured for want of test images")
        elif value > budget:
            words = "an image's 99th percentile" if unit == "ms" else "the peak of memory"
            said.append(f"{words} is {value:.1f} {unit}, above promote.{name}, {budget:g} {unit}")
    return said


def sentence_of(names: tuple[str, str], concluded: Conclusion, scope: Scope, broken: Sequence[str]) -> str:
    """One for the outcome, and one for each budget that is broken."""
    said = f"{WORDS[concluded.outcome].format(*names)}: {concluded.reasons}."
    return " ".join([said[0].upper() + said[1:], *(f"{one[0].upper()}{one[1:]}." for one in broken)])


def details_of(
    model_name: str,
    challenger: Version,
    champion: Version | None,
    tests: SharedImages,
    scope: Scope,
    settings: PromoteSettings,
) -> dict[str, Any]:
    """What was weighed, and how."""
    return {
        "model": model_name,
        "detectors": {one.number: one.tags.get(DIGEST_TAG) for one in (challenger, champion) if one is not None},
        "data": {"digest": tests.manifest.digest, "kept_by": tests.version, "folder": tests.manifest.root.as_posix()},
        "images": {category: len(own) for category, own in scope.rows.items()},
        "lost": list(scope.lost),
        "new": list(scope.new),
        "untested": list(scope.untested),
        "settings": asdict(settings),
    }


def _loading() -> Callable[[Path], Detector]:
    """Loads detectors; those that name one encoder share it."""
    device = best_device()

    @cache
    def encoder(settings: EncoderSettings) -> Encoder:
        return load_encoder(settings)

    return lambda folder: Detector.load(folder, device=device, load=encoder)
