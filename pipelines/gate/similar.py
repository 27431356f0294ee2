"""The gate's near duplicates: pictures of one part on both sides of a split, and among those that a rate counts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.covariance import ledoit_wolf

from pipelines.gate.finding import WARNING, Finding
from pipelines.gate.linked import Linked
from pipelines.gate.look import Look, look_at
from pipelines.gate.parts import suggest_pattern
from pipelines.manifest.splits import cut_here
from pipelines.manifest.table import Row

# Cosine from which on two pictures are taken for one part. How it was chosen, and what is found: benchmarks/gate.md.
ALIKE = 0.3
BLOCK = 1024  # images compared at a time
HALF = 0.5  # of the links between two groups, which may be missing where they are one part
MOST_LINKED = 4096  # pictures that chain together and are still looked at for groups in them: some 130 MB
WHITENING = 20_000  # images of a category that the whitening is fitted on, at most
PATTERN = r"part(\d+)_"  # an example, where the paths suggest no other


def near_duplicates(rows: Sequence[Row], looks: Mapping[str, Look]) -> tuple[list[Finding], Linked]:
    """For each test image its likest train or val image and for each val image its likest train image, if they
    are alike (cosine at least ALIKE); of each category test before val, the likest pairs first. Copies (equal sha256)
    are the business of `duplicates`. Where the pipeline itself cut val from the training images, val against train is
    one finding a category, which names `manifest.part`. Then the good images of val, and those of test, that show one
    part among them: one finding for each, and the groups, as rates count parts.

    Pictures of one product all look alike, so the cosine is taken between whitened descriptors: what is common in a
    category counts little, what only two pictures share counts much. n images of a category take O(n) memory
    and O(n²) time.
    """
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_category[row.category].append(row)
    findings: list[Finding] = []
    groups: list[list[str]] = []
    for category, members in sorted(by_category.items()):
        whitened = whiten(np.stack([looks[row.path].frequencies for row in members]))
        findings += _across(category, members, whitened)
        for split in ("val", "test"):
            ours = [n for n, row in enumerate(members) if row.split == split and not row.label]
            alike = [[members[n] for n in g] for g in together(whitened, [row.sha256 for row in members], ours)]
            # Pictures of which it is said that they show one part are nothing new.
            found = [[row.path for row in group] for group in alike if len({r.part or r.path for r in group}) > 1]
            if found:
                groups += found
                findings.append(_among(category, split, len(ours), found))
    return findings, Linked(True, groups)


def _across(category: str, members: Sequence[Row], whitened: NDArray[np.float16]) -> list[Finding]:
    """The findings of a category's pairs on two sides of a split."""
    findings: list[Finding] = []
    for held, known in (("test", ("train", "val")), ("val", ("train",))):
        ours = [n for n, row in enumerate(members) if row.split == held]
        theirs = [n for n, row in enumerate(members) if row.split in known]
        likest = sorted(_likest(whitened, members, ours, theirs), key=lambda found: -found[2])
        pairs = [(members[mine], members[other], cosine) for mine, other, cosine in likest]
        if held == "val" and cut_here(members):
            # Defective val images come from the user: the pipeline cuts good ones only.
            if cut := [(a, b) for a, b, _ in pairs if not a.label]:
                findings.append(_cut_apart(category, members, cut))
            pairs = [pair for pair in pairs if pair[0].label]
        findings += [_pair(category, *pair) for pair in pairs]
    return findings


def look_for_linked(root: Path, paths: Sequence[str], digests: Sequence[str]) -> Linked:
    """The groups among pictures of one category, whose `paths` are relative to `root`, as of the good images of val."""
    if len(paths) < 2:  # nothing to whiten by
        return Linked(True)
    looks = look_at(root, paths)
    whitened = whiten(np.stack([looks[path].frequencies for path in paths]))
    return Linked(True, [[paths[n] for n in group] for group in together(whitened, digests, range(len(paths)))])


def together(whitened: NDArray[np.float16], digests: Sequence[str], ours: Sequence[int]) -> list[list[int]]:
    """The groups of two or more of the images `ours` that show one part, by their numbers; of images with one digest
    the first stands for all.

    Two pictures are linked by a cosine of ALIKE. A picture belongs to a group if it is linked to half of it (average
    linkage): a chain of neighbours is not one part, and one link that is missing does not split an exposure off.
    """
    first = {digests[n]: n for n in reversed(ours)}
    images = sorted(first.values())
    pairs = _links(whitened, np.asarray(images, int))
    chained = connected_components(coo_array((np.ones(len(pairs)), pairs.T), (len(images),) * 2), directed=False)[1]
    groups = []
    for number in np.unique(chained[pairs[:, 0]]):
        members = np.flatnonzero(chained == number)
        if 2 < len(members) <= MOST_LINKED:
            apart = np.ones((len(members),) * 2)
            inside = np.searchsorted(members, pairs[chained[pairs[:, 0]] == number])
            apart[inside[:, 0], inside[:, 1]] = apart[inside[:, 1], inside[:, 0]] = 0
            np.fill_diagonal(apart, 0)
            labels = fcluster(linkage(squareform(apart), "average"), HALF, "distance")
        else:
            labels = np.ones(len(members), int)
        groups += [members[labels == label] for label in np.unique(labels)]
    return [[images[n] for n in group] for group in groups]


def _links(whitened: NDArray[np.float16], images: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs [p, 2] of places in `images` whose cosine reaches ALIKE, the lower place first."""
    found = [np.empty((0, 2), int)]
    for start in range(0, len(images), BLOCK):
        mine = whitened[images[start : start + BLOCK]].astype(np.float32)
        for other in range(start, len(images), BLOCK):
            theirs = whitened[images[other : other + BLOCK]].astype(np.float32)
            pairs = np.argwhere(mine @ theirs.T >= ALIKE) + np.array([start, other])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


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
    joined, name = sum(map(len, groups)), {"val": "held-out good pictures", "test": "good test pictures"}[split]
    text = (
        f"{joined} of {images} {name} ({split}) seem to show {len(groups)} parts: each of these counts once, where "
        f"thresholds and rates are taken"
    )
    return Finding("near_duplicates", WARNING, category, tuple(path for group in groups for path in group), text)


def whiten(frequencies: NDArray[np.float16]) -> NDArray[np.float16]:
    """Descriptors [n, d] of one category to whitened ones of length 1 (shrunk covariance: n may be below d).

    Lengths are made equal first, which takes the contrast out; the signed square root tames the few strongest
    frequencies.
    """
    count = len(frequencies)
    chosen = slice(None) if count <= WHITENING else np.random.default_rng(0).choice(count, WHITENING, replace=False)
    sample = _unit(frequencies[chosen])
    mean = sample.mean(0)
    spread = np.maximum(np.abs(sample - mean).mean(0), 1e-9)
    covariance, _ = ledoit_wolf(_rooted((sample - mean) / spread), assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    scaled = (axes / np.sqrt(np.maximum(variances, 1e-6))).astype(np.float32)
    whitened = np.empty(frequencies.shape, np.float16)
    for start in range(0, count, BLOCK):
        block = _unit(frequencies[start : start + BLOCK])
        whitened[start : start + BLOCK] = _unit(_rooted((block - mean) / spread) @ scaled)
    return whitened


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    exact = vectors.astype(np.float32)
    return np.asarray(exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-6), np.float32)


def _rooted(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sign(vectors) * np.sqrt(np.abs(vectors)), np.float32)


def _likest(
    whitened: NDArray[np.float16], members: Sequence[Row], ours: Sequence[int], theirs: Sequence[int]
) -> list[tuple[int, int, float]]:
    """The likest of `theirs` for each of `ours`, where the cosine reaches ALIKE."""
    found = []
    _, content = np.unique([row.sha256 for row in members], return_inverse=True)
    for start in range(0, len(ours), BLOCK):
        mine = np.asarray(ours[start : start + BLOCK])
        exact = whitened[mine].astype(np.float32)
        best, place = np.full(len(mine), -1, np.float32), np.zeros(len(mine), int)
        for other in range(0, len(theirs), BLOCK):
            known = np.asarray(theirs[other : other + BLOCK])
            cosines = exact @ whitened[known].astype(np.float32).T
            cosines[content[mine][:, None] == content[known][None]] = -1
            at = cosines.argmax(1)
            top = cosines[np.arange(len(mine)), at]
            better = top > best
            best[better], place[better] = top[better], known[at[better]]
        found += [
            (int(a), int(b), float(cosine)) for a, b, cosine in zip(mine, place, best, strict=True) if cosine >= ALIKE
        ]
    return found
