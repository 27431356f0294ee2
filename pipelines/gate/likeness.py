"""Which pictures of one category show one part: like each other as no others are, and one place when registered.

Pictures of one product all look alike, so a cosine is taken between whitened descriptors: what is common in a category
counts little, what only two pictures share counts much. Pairs that reach it are registered, as neighbouring places of
one object share more than others do, and not the place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.covariance import ledoit_wolf

from pipelines.gate.look import Look
from pipelines.gate.registration import AGREE, agreement

# Cosines from which on two pictures are registered: from the first on they must agree better than is usual in their
# category, from the second on only as one place does. How they were chosen, and what is found: benchmarks/gate.md.
PERHAPS, ALIKE = 0.2, 0.3
A_LITTLE = 0.1  # cosine of pictures that are alike, but of two parts: they show what is usual
USUAL_PAIRS, FEWEST_PAIRS = 256, 16
STANDS_OUT = 3.0  # robust standard deviations above it
TRIED = 8  # likest pictures of one, that are registered with it
BLOCK = 1024  # images compared at a time
WHITENING = 20_000  # images of a category that the whitening is fitted on, at most
HALF = 0.5  # of the links between two groups, which may be missing where they are one part
MOST_LINKED = 4096  # pictures that chain together and are still looked at for groups in them: some 130 MB


@dataclass(frozen=True)
class Likeness:
    """n pictures of one category: their `whitened` descriptors [n, d], `phases` [n, p] and `contents` [n], equal for
    copies; `unusual` is the agreement that pictures of the category seldom have. O(n) memory; every comparison of all
    with all takes O(n²) time.
    """

    whitened: NDArray[np.float16]
    phases: NDArray[np.uint8]
    contents: NDArray[np.intp]
    unusual: float

    @classmethod
    def of(cls, looks: Sequence[Look], digests: Sequence[str]) -> "Likeness":
        """Of what was seen in each picture, and the digest of its file."""
        whitened = whiten(np.stack([look.frequencies for look in looks]))
        contents, phases = np.unique(digests, return_inverse=True)[1], np.stack([look.phases for look in looks])
        return cls(whitened, phases, contents, _unusual(whitened, phases, contents))

    def likest(self, ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int, float]]:
        """The likest of `theirs` that shows the place of one of `ours`, for each of `ours` that has one, with the
        cosine. Copies are left out.
        """
        found = []
        for mine, candidates, cosines in self._candidates(np.asarray(ours, int), np.asarray(theirs, int)):
            agree = self._agree(np.full_like(candidates, mine), candidates, cosines)
            if agree.any():
                first = int(agree.argmax())
                found.append((mine, int(candidates[first]), float(cosines[first])))
        return found

    def _agree(
        self, ones: NDArray[np.intp], others: NDArray[np.intp], cosines: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Whether pairs of pictures show one place. A product that always lies alike agrees with all others: then only
        the cosine tells.
        """
        needed = np.where(cosines >= ALIKE, AGREE, max(AGREE, self.unusual))
        return np.asarray(agreement(self.phases[ones], self.phases[others]) >= needed)

    def _candidates(
        self, ours: NDArray[np.intp], theirs: NDArray[np.intp]
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.float32]]]:
        """Of each of `ours` at most TRIED of `theirs` whose cosines reach PERHAPS, the likest first."""
        for start in range(0, len(ours), BLOCK):
            mine = ours[start : start + BLOCK]
            exact = self.whitened[mine].astype(np.float32)
            kept, places = np.empty((len(mine), 0), np.float32), np.empty((len(mine), 0), int)
            for other in range(0, len(theirs), BLOCK):
                known = theirs[other : other + BLOCK]
                cosines = exact @ self.whitened[known].astype(np.float32).T
                cosines[self.contents[mine][:, None] == self.contents[known]] = -1
                if cosines.max() < PERHAPS:
                    continue
                kept = np.concatenate([kept, cosines], 1)
                places = np.concatenate([places, np.broadcast_to(known, cosines.shape)], 1)
                if kept.shape[1] > TRIED:
                    best = np.argpartition(-kept, TRIED - 1, 1)[:, :TRIED]
                    kept, places = np.take_along_axis(kept, best, 1), np.take_along_axis(places, best, 1)
            for number, row, candidates in zip(mine, kept, places, strict=True):
                order = np.argsort(-row)[: (row >= PERHAPS).sum()]
                if len(order):
                    yield int(number), candidates[order], row[order]

    def together(self, ours: Sequence[int]) -> list[list[int]]:
        """The groups of two or more of the images `ours` that show one part, by their numbers; of copies the first
        stands for all.

        A picture belongs to a group if it is linked to half of it (average linkage): a chain of neighbours is not one
        part, and one link that is missing does not split an exposure off.
        """
        first = {self.contents[n]: n for n in reversed(ours)}
        images = sorted(first.values())
        pairs = self.links(np.asarray(images, int))
        links = coo_array((np.ones(len(pairs)), pairs.T), (len(images), len(images)))
        chained = connected_components(links, directed=False)[1]
        groups = []
        for number in np.unique(chained[pairs[:, 0]]):
            members = np.flatnonzero(chained == number)
            groups += _groups(members, pairs[chained[pairs[:, 0]] == number])
        return [[images[n] for n in group] for group in groups]

    def links(self, images: NDArray[np.intp]) -> NDArray[np.intp]:
        """The pairs [p, 2] of places in `images` that show one place, the lower first."""
        found = [np.empty((0, 2), int)]
        for start in range(0, len(images), BLOCK):
            mine = self.whitened[images[start : start + BLOCK]].astype(np.float32)
            for other in range(start, len(images), BLOCK):
                theirs = self.whitened[images[other : other + BLOCK]].astype(np.float32)
                cosines = mine @ theirs.T
                pairs = np.argwhere(cosines >= PERHAPS)
                pairs = pairs[pairs[:, 0] + start < pairs[:, 1] + other]
                likeness = cosines[pairs[:, 0], pairs[:, 1]]
                pairs += np.array([start, other])
                found.append(pairs[self._agree(images[pairs[:, 0]], images[pairs[:, 1]], likeness)])
        return np.concatenate(found)


def _unusual(whitened: NDArray[np.float16], phases: NDArray[np.uint8], contents: NDArray[np.intp]) -> float:
    """STANDS_OUT robust standard deviations (median, MAD) above the agreement of pictures that are a little alike, but
    not so much as those of one part; of any pictures, where hardly two are.
    """
    rng = np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(contents))[:BLOCK])
    exact = whitened[sample].astype(np.float32)
    cosines = np.triu(exact @ exact.T, 1)
    pairs = np.argwhere((cosines >= A_LITTLE) & (cosines < PERHAPS))
    if len(pairs) < FEWEST_PAIRS:
        pairs = rng.integers(len(sample), size=(USUAL_PAIRS, 2))
    pairs = sample[pairs[rng.permutation(len(pairs))[:USUAL_PAIRS]]]
    pairs = pairs[contents[pairs[:, 0]] != contents[pairs[:, 1]]]
    if not len(pairs):
        return 0.0
    found = agreement(phases[pairs[:, 0]], phases[pairs[:, 1]])
    median = np.median(found)
    return float(median + STANDS_OUT * 1.4826 * np.median(np.abs(found - median)))


def _groups(members: NDArray[np.intp], pairs: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The groups among images that `pairs` chain together; all of them where they are too many to look at."""
    if len(members) == 2 or len(members) > MOST_LINKED:
        return [members]
    apart = np.ones((len(members), len(members)))
    inside = np.searchsorted(members, pairs)
    apart[inside[:, 0], inside[:, 1]] = apart[inside[:, 1], inside[:, 0]] = 0
    np.fill_diagonal(apart, 0)
    labels = fcluster(linkage(squareform(apart), "average"), HALF, "distance")
    return [members[labels == label] for label in np.unique(labels) if (labels == label).sum() > 1]


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
