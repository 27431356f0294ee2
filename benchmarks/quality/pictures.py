"""What a comparison trains on, calibrates with and judges, as features in a store: encoded once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.quality.spoil import KINDS, spoil
from benchmarks.stored import ENCODED_AT_A_TIME, Stored, store_table
from inpformer.encoders.encoder import Encoder
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.images.frame import MAP_SIZE
from inpformer.images.layouts.sample import GOOD
from inpformer.judging.parts import parts_of
from pipelines.features.encode import Encodable, encode_into
from pipelines.manifest.build import read_mask
from pipelines.manifest.table import Manifest, Row


@dataclass(frozen=True)
class Judged:
    """n pictures: their features by `numbers` in `source`, `masks` [n, 256, 256], `defects` ("good" or the kind) and
    `categories` [n], and `parts` [n], equal for pictures of one part.
    """

    source: Stored
    numbers: tuple[int, ...]
    masks: NDArray[np.bool_]
    defects: NDArray[np.str_]
    categories: NDArray[np.str_]
    parts: NDArray[np.intp]


@dataclass(frozen=True)
class _Picture:
    row: Row
    defect: str = GOOD


def training(manifest: Manifest, encoder: Encoder, store: FeatureStore) -> Stored:
    """The features of the good training images."""
    rows = _good(manifest)
    keys, _ = _encode(manifest, encoder, store, [_Picture(row) for row in rows])
    return Stored(store, store_table(store, keys, [row.category for row in rows]))


def held_out(manifest: Manifest, encoder: Encoder, store: FeatureStore) -> Judged:
    """The good images that nothing is trained on: for thresholds."""
    return _judged(manifest, encoder, store, [_Picture(row) for row in manifest.split("val")])


def spoilt(manifest: Manifest, encoder: Encoder, store: FeatureStore) -> Judged:
    """One held-out good image of each part, and each of these with every kind of pseudo-anomaly."""
    rows = list(manifest.split("val"))
    parts = parts_of([f"{row.category}/{row.part}" if row.part else "" for row in rows], [row.sha256 for row in rows])
    chosen = [rows[first] for first in np.unique(parts, return_index=True)[1]]
    pictures = [_Picture(row, kind) for row in chosen for kind in (GOOD, *KINDS)]
    return _judged(manifest, encoder, store, pictures)


def defective(manifest: Manifest, encoder: Encoder, store: FeatureStore) -> Judged:
    """The held-out good images, and the defective ones that were taken out of the test (see `few_defects`)."""
    real = [row for row in manifest.split("train") if row.label]
    pictures = [_Picture(row) for row in manifest.split("val")] + [_Picture(row, row.defect) for row in real]
    return _judged(manifest, encoder, store, pictures)


def tested(manifest: Manifest, encoder: Encoder, store: FeatureStore) -> Judged:
    """The test images."""
    return _judged(manifest, encoder, store, [_Picture(row, row.defect) for row in manifest.split("test")])


def _good(manifest: Manifest) -> list[Row]:
    return [row for row in manifest.split("train") if not row.label]


def _judged(manifest: Manifest, encoder: Encoder, store: FeatureStore, pictures: Sequence[_Picture]) -> Judged:
    keys, masks = _encode(manifest, encoder, store, pictures)
    rows = [picture.row for picture in pictures]
    places = {key: number for number, key in enumerate(sorted(set(keys)))}
    return Judged(
        Stored(store, store_table(store, keys)),
        tuple(places[key] for key in keys),
        masks,
        np.array([picture.defect for picture in pictures]),
        np.array([row.category for row in rows]),
        parts_of([f"{row.category}/{row.part}" if row.part else "" for row in rows], [row.sha256 for row in rows]),
    )


def _encode(
    manifest: Manifest, encoder: Encoder, store: FeatureStore, pictures: Sequence[_Picture]
) -> tuple[list[str], NDArray[np.bool_]]:
    """Keys in the store, which then has all of them, and masks."""
    keys, masks, views = [], [], []
    train = _good(manifest)
    for picture in tqdm(pictures, desc="pictures", disable=None):
        image, mask = _draw(manifest.root, encoder, picture, train)
        keys.append(sha256(image.tobytes() + f"{image.size} {image.mode}".encode()).hexdigest())
        masks.append(mask)
        views.append(image)
    known = store.scan().find(key_array(keys)) >= 0
    missing = {key: image for key, image, there in zip(keys, views, known, strict=True) if not there}

    def encodables() -> Iterator[Encodable]:
        for key, image in missing.items():
            yield Encodable(key, encoder.transform.image(image))

    with tqdm(total=len(missing), desc="encoding", disable=None if missing else True) as progress:
        encode_into(store, encoder, None, encodables(), ENCODED_AT_A_TIME, progress.update)
    return keys, np.stack(masks)


def _draw(
    root: Path, encoder: Encoder, picture: _Picture, train: Sequence[Row]
) -> tuple[Image.Image, NDArray[np.bool_]]:
    row, image = picture.row, encoder.transform.open(root / picture.row.path)
    if picture.defect == GOOD:
        return image, np.zeros((MAP_SIZE, MAP_SIZE), np.bool_)
    if picture.defect not in KINDS:
        return image, encoder.transform.mask(read_mask(root, row))
    rng = np.random.default_rng([int(row.sha256[:16], 16), list(KINDS).index(picture.defect)])
    other = encoder.transform.open(root / train[rng.integers(len(train))].path)
    while True:  # until it does not lie in the margin that a crop leaves out
        changed, region = spoil(picture.defect, image, other, rng)
        mask = encoder.transform.mask(Image.fromarray(region.astype(np.uint8) * 255))
        if mask.any():
            return changed, mask
