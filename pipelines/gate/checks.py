"""The gate's simple checks: of what the manifest and the files say."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from inpformer.images.frame import MAP_SIZE
from inpformer.judging.calibration import images_needed
from inpformer.judging.cross import keeps, parts_needed
from pipelines.gate.finding import ERROR, WARNING, Finding
from pipelines.gate.linked import Linked, good_parts
from pipelines.gate.look import Look
from pipelines.manifest.few import few_images
from pipelines.manifest.table import Row

FEWEST_MASK_PIXELS = 4  # at the size that is measured: fewer may vanish in scaling
MOST_OF_IMAGE = 0.9  # marked: more looks like good and defective exchanged
DARK = 4  # times smaller than white: all lower than that looks like another number of bits
WHITES = (2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)  # of cameras of 10, 12, 14 and 16 bits
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
# Images are resized to a square, whatever their shape: between the narrowest and the widest, a part may be
# stretched by this factor before it is said, and shrunk by that.
WIDEST, LARGEST = 1.5, 2.0


def duplicates(rows: Sequence[Row]) -> list[Finding]:
    """Files of equal content: an error across two of train, val and test, or good and defective, else a warning."""
    copies = defaultdict(list)
    for row in rows:
        copies[row.sha256].append(row)
    findings = []
    for same in copies.values():
        if len(same) > 1:
            if len({row.label for row in same}) > 1:
                severity, text = ERROR, "one picture is filed as good and as defective"
            elif len(splits := {row.split for row in same}) > 1:
                sides = " and ".join(f"the {name} images" for split, name in SPLIT_NAMES.items() if split in splits)
                severity, text = ERROR, f"one picture is in {sides}"
            else:
                severity, text = WARNING, f"one picture is there {len(same)} times"
            findings.append(Finding("duplicates", severity, same[0].category, tuple(r.path for r in same), text))
    return sorted(findings, key=lambda f: (f.severity != ERROR, f.paths))


def masks(rows: Sequence[Row]) -> list[Finding]:
    """Defective images without a mask pixel, with less than FEWEST_MASK_PIXELS at MAP_SIZE, or with more than
    MOST_OF_IMAGE marked.
    """
    findings = []
    for category, members in _by_category(rows):
        defective = [row for row in members if row.label]
        empty = [row.path for row in defective if not row.mask_pixels]
        tiny = [
            row.path
            for row in defective
            if 0 < row.mask_pixels * MAP_SIZE**2 / (row.width * row.height) < FEWEST_MASK_PIXELS
        ]
        full = [row.path for row in defective if row.mask_pixels > MOST_OF_IMAGE * row.width * row.height]
        findings += _listed("masks", category, empty, "defective, without a single pixel marked")
        few = f"with less than {FEWEST_MASK_PIXELS} pixels marked, scaled to {MAP_SIZE}×{MAP_SIZE}"
        findings += _listed("masks", category, tiny, f"defective, {few}")
        most = f"with more than {MOST_OF_IMAGE:.0%} of it marked: the mask may be inverted"
        findings += _listed("masks", category, full, f"defective, {most}")
    return findings


def formats(rows: Sequence[Row], looks: Mapping[str, Look]) -> list[Finding]:
    """Transparency, CMYK, palettes, turned pictures; grey among coloured; very different sizes and shapes."""
    findings = []
    for category, members in _by_category(rows):
        seen = {row.path: looks[row.path] for row in members}
        grey = [path for path, look in seen.items() if look.mode in ("1", "L", "LA", "La")]
        coloured = [path for path in seen if path not in set(grey)]
        odd = {
            "with transparency, which is dropped": [p for p, look in seen.items() if look.transparent],
            "in the colours of printing (CMYK)": [p for p, look in seen.items() if look.mode == "CMYK"],
            "with a palette": [p for p, look in seen.items() if look.mode in ("P", "PA")],
            "turned only by a note in the file (EXIF orientation), which is not applied": [
                p for p, look in seen.items() if look.orientation != 1
            ],
            "grey among coloured ones": grey if len(grey) <= len(coloured) else [],
            "coloured among grey ones": coloured if len(coloured) < len(grey) else [],
        }
        for text, paths in odd.items():
            findings += _listed("formats", category, paths, text)
        findings += _shapes(category, members)
    return findings


def depth(rows: Sequence[Row], white: int) -> list[Finding]:
    """Categories whose pictures of 16 bits a channel are all darker than a quarter of `white`, or some brighter: by the
    good ones that are not for the test.
    """
    findings = []
    for category, members in _by_category(rows):
        deep = [row for row in members if row.largest and row.split != "test" and not row.label]
        if not deep:
            continue
        brightest = max(deep, key=lambda row: (row.largest, row.path))
        right = next(value for value in WHITES if value >= brightest.largest)
        if right == white or white / DARK <= brightest.largest <= white:
            continue
        said = "what is brighter is white alike" if brightest.largest > white else "they are dark to the model"
        text = (
            f"the largest value of {len(deep)} good pictures of 16 bits a channel is {brightest.largest}, and "
            f"features.encoder.white is {white}, so that {said}: {right} would cover them"
        )
        findings.append(Finding("depth", WARNING, category, (brightest.path,), text))
    return findings


def held_out(
    rows: Sequence[Row], linked: Linked, false_alarm_rate: float, confidence: float | None, folds: int | None = None
) -> list[Finding]:
    """Categories whose val images (with `folds`: good images but for the test's) are fewer than the promise takes, or
    which have very few good images in all. Copies count once, and so do several images of one part: the promise is
    about parts. With folds, a part whose defect is learnt from is held out of no training, and does not count.
    """
    needed = images_needed(false_alarm_rate, confidence)
    splits, state = (("val",), "held out") if folds is None else (("train", "val"), f"there for {folds} folds")
    promise = f"a false-alarm rate of {false_alarm_rate:.3g}"
    promise += f" at {confidence:.3g} confidence" if confidence is not None else ""
    findings = []
    few = few_images(rows)
    for category, members in _by_category(rows):
        ours = [row for row in members if row.split in splits and not row.label]
        taught = [row for row in members if folds is not None and row.split == "train" and row.label]
        held = len(good_parts([*ours, *taught], linked)[0])
        texts = [few[category]] if category in few else []
        if folds is not None:
            needed = held if keeps(held, folds, false_alarm_rate) else parts_needed(folds, false_alarm_rate, held)
        if held < needed:
            counted = f"{held} good images" if held == len(ours) else f"{len(ours)} good images of {held} parts"
            texts.append(f"{counted} are {state}, {promise} takes {needed}: {needed - held} more are needed")
        if texts:
            findings.append(Finding("held_out", WARNING, category, (), ". ".join(texts)))
    return findings


def _shapes(category: str, rows: Sequence[Row]) -> list[Finding]:
    """A warning that shows the two extremes."""
    findings = []
    for measure, bound, what in (
        (lambda row: row.width / row.height, WIDEST, "wider in shape"),
        (lambda row: math.sqrt(row.width * row.height), LARGEST, "larger a side"),
    ):
        first, last = min(rows, key=measure), max(rows, key=measure)
        factor = measure(last) / measure(first)
        if factor > bound:
            sizes = f"{last.width}×{last.height} pixels, the other is {first.width}×{first.height}"
            text = f"one picture is {factor:.1f} times {what} than another: {sizes}"
            findings.append(Finding("formats", WARNING, category, (last.path, first.path), text))
    return findings


def _listed(check: str, category: str, paths: Sequence[str], text: str) -> list[Finding]:
    """One warning for all the files that share a fault, if there are any."""
    count = "1 picture is" if len(paths) == 1 else f"{len(paths)} pictures are"
    return [Finding(check, WARNING, category, tuple(paths), f"{count} {text}")] if paths else []


def _by_category(rows: Sequence[Row]) -> Iterable[tuple[str, list[Row]]]:
    ordered = sorted(rows, key=lambda row: row.category)
    return [(category, list(members)) for category, members in groupby(ordered, lambda row: row.category)]
