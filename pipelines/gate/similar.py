"""The gate's near duplicates: pictures of one part on both sides of a split, and among those that a rate counts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.gate.finding import WARNING, Finding
from pipelines.gate.likeness import Likeness
from pipelines.gate.linked import Linked
from pipelines.gate.look import Look, look_at
from pipelines.gate.parts import suggest_pattern
from pipelines.manifest.splits import cut_here
from pipelines.manifest.table import Row

PATTERN = r"part(\d+)_"  # an example, where the paths suggest no other


def near_duplicates(
    rows: Sequence[Row], looks: Mapping[str, Look], pooled: bool = False
) -> tuple[list[Finding], Linked]:
    """For each test image its likest train or val image and for each val image its likest train image, if they
    show one part (see `likeness`); of each category test before val, the likest pairs first. Copies (equal sha256)
    are the business of `duplicates`. Where the pipeline itself cut val from the training images, val against train is
    one finding a category, which names `manifest.part`. Then the good images of val, and those of test, that show one
    part among them: one finding for each, and the groups, as rates count parts.
    """
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_category[row.category].append(row)
    findings: list[Finding] = []
    groups: list[list[str]] = []
    for category, members in sorted(by_category.items()):
        likeness = Likeness.of([looks[row.path] for row in members], [row.sha256 for row in members])
        findings += _across(category, members, likeness, pooled)
        for split, sides in (("val", ("train", "val") if pooled else ("val",)), ("test", ("test",))):
            ours = [n for n, row in enumerate(members) if row.split in sides and not row.label]
            alike = [[members[n] for n in group] for group in likeness.together(ours)]
            # Pictures of which it is said that they show one part are nothing new.
            found = [[row.path for row in group] for group in alike if len({r.part or r.path for r in group}) > 1]
            if found:
                groups += found
                findings.append(_among(category, "pool" if pooled and split == "val" else split, len(ours), found))
    return findings, Linked(True, groups)


def _across(category: str, members: Sequence[Row], likeness: Likeness, pooled: bool) -> list[Finding]:
    """The findings of a category's pairs on two sides of a split."""
    findings: list[Finding] = []
    for held, known in (("test", ("train", "val")), *([] if pooled else [("val", ("train",))])):
        ours = [n for n, row in enumerate(members) if row.split == held]
        theirs = [n for n, row in enumerate(members) if row.split in known]
        likest = sorted(likeness.likest(ours, theirs), key=lambda found: -found[2])
        pairs = [(members[mine], members[other], cosine) for mine, other, cosine in likest]
        if held == "val" and cut_here(members):
            # Defective val images come from the user: the pipeline cuts good ones only.
            if cut := [(a, b) for a, b, _ in pairs if not a.label]:
                findings.append(_cut_apart(category, members, cut))
            pairs = [pair for pair in pairs if pair[0].label]
        findings += [_pair(category, *pair) for pair in pairs]
    return findings


def look_for_linked(root: Path, paths: Sequence[str], digests: Sequence[str], white: int) -> Linked:
    """The groups among pictures of one category, whose `paths` are relative to `root`, as of the good images of val;
    `white` is that of 16 bits a channel.
    """
    if len(paths) < 2:  # nothing to whiten by
        return Linked(True)
    looks = look_at(root, paths, white)
    likeness = Likeness.of([looks[path] for path in paths], digests)
    return Linked(True, [[paths[n] for n in group] for group in likeness.together(range(len(paths)))])


def _pair(category: str, a: Row, b: Row, cosine: float) -> Finding:
    text = f"{a.split} ({a.defect}) and {b.split} ({b.defect}) seem to show one part, likeness {cosine:.2f}"
    return Finding("near_duplicates", WARNING, category, (a.path, b.path), text)


def _cut_apart(category: str, members: Sequence[Row], pairs: Sequence[tuple[Row, Row]]) -> Finding:
    """One finding for all pairs that the pipeline cut apart; its paths are the pairs, one after the other."""
    held = sum(row.split == "val" and not row.label for row in members)
    pattern = suggest_pattern([row.path for row in members], [(a.path, b.path) for a, b in pairs])
    hint = f"here {pattern!r} fits" if pattern else f"such as {PATTERN!r}"
    text = (
        f"{len(pairs)} of {held} held-out pictures (val, good) seem to show a part that a training picture shows too. "
        f"The pipeline chose them itself: set manifest.part, a regular expression whose first group names the part in "
        f"the path ({hint}), and all pictures of a part stay on one side"
    )
    return Finding("near_duplicates", WARNING, category, tuple(row.path for pair in pairs for row in pair), text)


def _among(category: str, split: str, images: int, groups: Sequence[Sequence[str]]) -> Finding:
    """One finding for all groups; its paths are those of the groups, one after the other."""
    names = {"val": "held-out good pictures (val)", "test": "good test pictures (test)", "pool": "good pictures"}
    joined = sum(map(len, groups))
    text = (
        f"{joined} of {images} {names[split]} seem to show {len(groups)} parts: each of these counts once, where "
        f"thresholds and rates are taken"
    )
    return Finding("near_duplicates", WARNING, category, tuple(path for group in groups for path in group), text)
