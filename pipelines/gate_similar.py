"""The gate's near duplicates: pictures of one part on both sides of a split."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from pipelines.gate_finding import WARNING, Finding
from pipelines.gate_look import Look
from pipelines.manifest import Row

# Cosine from which on two pictures are taken for one part; figures in `near_duplicates`.
ALIKE = 0.3
BLOCK = 1024  # images compared at a time


def near_duplicates(rows: Sequence[Row], looks: Mapping[str, Look]) -> list[Finding]:
    """For each test image its likest train or val image and for each val image its likest train image, if they
    are alike; the likest pairs first. Copies (equal sha256) are the business of `duplicates`.

    Pictures of one product all look alike, so the cosine is taken between whitened descriptors: what is common in a
    category counts little, what only two pictures share counts much. n images of a category take O(n) memory
    (1 kB an image and a block of BLOCK×n cosines) and O(n²) time: 25 GFLOP for 10 000 images, some seconds.

    Measured on ../shared/data/magnetic_tile (1344 images; related: at most 100 frames apart and another exposure,
    3169 pairs; unrelated: more than 300 frames apart, 898 141 pairs): 85.3 % of the related pairs found, 212
    unrelated ones reported. Those looked at (the likest 60, and all 16 across the given split) show the same tile
    photographed twice. Of test images with a relative among the training images (80/20 split of the good images,
    20 draws) 99.5 % get a partner. At 212 wrong pairs, imagehash's 256-bit phash finds 72 %, its other hashes and
    32×32 thumbnails (cosine, high-passed or not) at most 55 %, the bundled encoder's 4×4 pooled features about 70 %
    at fifteen times the cost. On aligned products a hash's distance says nothing (demo boards: half of all unrelated
    pairs are within 72 bits); whitened cosines of unrelated pairs stay below .23 on all the demo's products, and
    those of a picture saved as JPEG (quality 60), halved, 1.4 times as bright or cropped by 1 % are .32 to .99. The
    limit: a crop of 3 % hides a copy more often than not.
    """
    findings: list[tuple[float, Finding]] = []
    for category in sorted({row.category for row in rows}):
        members = [row for row in rows if row.category == category]
        whitened = whiten(np.stack([looks[row.path].frequencies for row in members]))
        for held, known in (("test", ("train", "val")), ("val", ("train",))):
            ours = [n for n, row in enumerate(members) if row.split == held]
            theirs = [n for n, row in enumerate(members) if row.split in known]
            for mine, other, cosine in _likest(whitened, members, ours, theirs):
                a, b = members[mine], members[other]
                text = f"a {a.split} image looks like the same part as a {b.split} image (likeness {cosine:.2f} of 1)"
                findings.append((cosine, Finding("near_duplicates", WARNING, category, (a.path, b.path), text)))
    return [finding for _, finding in sorted(findings, key=lambda f: (-f[0], f[1].paths))]


def whiten(frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors [n, d] of one category to whitened ones of length 1 (shrunk covariance: n may be below d).

    The signed square root tames the few strongest frequencies. A picture like the average becomes zeros.
    """
    centred = frequencies - frequencies.mean(0)
    scaled = centred / (np.abs(centred).mean(0) + 1e-6)
    rooted = np.sign(scaled) * np.sqrt(np.abs(scaled))
    covariance, _ = ledoit_wolf(rooted, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    whitened = rooted @ (axes / np.sqrt(np.maximum(variances, 1e-6)))
    length = np.linalg.norm(whitened, axis=1, keepdims=True)
    return np.asarray(whitened / np.maximum(length, 1e-6), np.float32)


def _likest(
    whitened: NDArray[np.float32], members: Sequence[Row], ours: Sequence[int], theirs: Sequence[int]
) -> list[tuple[int, int, float]]:
    """The likest of `theirs` for each of `ours`, where the cosine reaches ALIKE."""
    found = []
    _, content = np.unique([row.sha256 for row in members], return_inverse=True)
    for start in range(0, len(ours) if theirs else 0, BLOCK):
        block = np.asarray(ours[start : start + BLOCK])
        cosines = whitened[block] @ whitened[theirs].T
        cosines[content[block][:, None] == content[theirs][None]] = -1
        best = cosines.argmax(1)
        for mine, place, cosine in zip(block, best, cosines[np.arange(len(block)), best], strict=True):
            if cosine >= ALIKE:
                found.append((int(mine), theirs[place], float(cosine)))
    return found
