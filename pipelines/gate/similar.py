"""The gate's near duplicates: pictures of one part on both sides of a split."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from pipelines.gate.finding import WARNING, Finding
from pipelines.gate.look import Look
from pipelines.manifest.table import Row

# Cosine from which on two pictures are taken for one part; figures in `near_duplicates`.
ALIKE = 0.3
BLOCK = 1024  # images compared at a time


def near_duplicates(rows: Sequence[Row], looks: Mapping[str, Look]) -> list[Finding]:
    """For each test image its likest train or val image and for each val image its likest train image, if they
    are alike (cosine at least ALIKE); of each category test before val, the likest pairs first. Copies (equal sha256)
    are the business of `duplicates`.

    Pictures of one product all look alike, so the cosine is taken between whitened descriptors: what is common in a
    category counts little, what only two pictures share counts much. n images of a category take O(n) memory
    (1 kB an image and a block of BLOCK×n cosines) and O(n²) time: 25 GFLOP for 10 000 images, some seconds.

    Measured on ../shared/data/magnetic_tile (1344 images; related: at most 100 frames apart and another exposure,
    3169 pairs; unrelated: more than 300 frames apart, 898 141 pairs): 85 % of the related pairs are found, 229
    unrelated ones reported; all that were looked at, 16 across the given split among them, show one tile photographed
    twice. Of test images with a relative among the training images (80/20 split of the good images, 20 draws) 99.6 %
    get a partner. With the bound moved to 100 and to 500 wrong pairs, 64 and 89 % of the related ones are found; by
    imagehash's phash of 256 bits 53 and 85 %, by its other hashes at most 39 and 61 %, by thumbnails (16 to 64
    pixels, cosine, high-passed or not) at most 50 and 64 %, by the bundled encoder's features pooled to 8×8 46 and
    89 % at many times the cost. On aligned products a hash's distance says nothing (demo boards: half of all
    unrelated pairs are within 72 bits), while whitened cosines of unrelated pairs stay below .20 on all the demo's
    products. Pictures saved as JPEG (quality 60), halved or cropped by 1 % reach .50 and more there, and 1.4 times as
    bright, which clips, .25 and more (half of them .44). The limit: a crop of 3 % is mostly missed on metal and board.
    """
    findings: list[Finding] = []
    for category in sorted({row.category for row in rows}):
        members = [row for row in rows if row.category == category]
        whitened = whiten(np.stack([looks[row.path].frequencies for row in members]))
        for held, known in (("test", ("train", "val")), ("val", ("train",))):
            ours = [n for n, row in enumerate(members) if row.split == held]
            theirs = [n for n, row in enumerate(members) if row.split in known]
            for mine, other, cosine in sorted(_likest(whitened, members, ours, theirs), key=lambda found: -found[2]):
                a, b = members[mine], members[other]
                text = f"{a.split} ({a.defect}) and {b.split} ({b.defect}) seem to show one part, likeness {cosine:.2f}"
                findings.append(Finding("near_duplicates", WARNING, category, (a.path, b.path), text))
    return findings


def whiten(frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors [n, d] of one category to whitened ones of length 1 (shrunk covariance: n may be below d).

    Lengths are made equal first, which takes the contrast out; the signed square root tames the few strongest
    frequencies.
    """
    unit = frequencies / np.maximum(np.linalg.norm(frequencies, axis=1, keepdims=True), 1e-6)
    centred = unit - unit.mean(0)
    scaled = centred / np.maximum(np.abs(centred).mean(0), 1e-9)
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
