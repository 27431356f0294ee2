"""Sends each view of a training image through the frozen encoder once and keeps what came out."""

import json
import os
from argparse import Namespace
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inpformer.config import build
from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.encoders.settings import EncoderSettings
from inpformer.encoders.shapes import EncoderShape
from inpformer.errors import UserError
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore, store_key
from inpformer.features.view_table import SPLITS, Wanted, write_table
from inpformer.images.tiling import Tiling
from inpformer.images.views import View, views
from inpformer.streams import ahead
from inpformer.training.settings import TrainSettings
from pipelines.features.encode import encode_into, read_image_views
from pipelines.features.settings import FeatureSettings
from pipelines.features.tile_check import check_tiles
from pipelines.manifest.table import Manifest, Row, read_manifest
from pipelines.platform import files
from pipelines.platform.bucket import open_objects
from pipelines.platform.params import read_section
from pipelines.platform.weights import load_encoder

# So many images are read at a time, beside the encoder's work.
IMAGES_AHEAD = 8


@dataclass(frozen=True)
class FeatureIndex:
    """What the features are: the encoder that made them (`shape` is that of its levels, `kept` what of them is stored,
    None for all), and the views of images they were made of (how many, and the
    digest that names their table in the store). It holds nothing of where they lie, so it is the same whoever computed
    them.
    """

    encoder: EncoderSettings
    encoder_key: str
    encoder_digest: str
    shape: EncoderShape
    kept: Wants | None
    tiling: Tiling | None
    views: int
    table: str


def row_views(row: Row, tiling: Tiling | None, shots: int | None) -> list[View]:
    """The views of an image: its tiles, and in few-shot training the 22 forms of each."""
    return views((row.width, row.height), tiling, augmented=shots is not None and row.split == "train")


def wanted_views(manifest: Manifest, tiling: Tiling | None) -> Wanted:
    """The views of the good images that training learns from and validates on; rows stream by."""
    numbers = {category: n for n, category in enumerate(manifest.categories)}
    keys, splits, categories = bytearray(), array("b"), array("h")
    for row in _learnt(manifest):
        for view in row_views(row, tiling, manifest.shots):
            keys += bytes.fromhex(view.key(row.sha256))
            splits.append(SPLITS.index(row.split))
            categories.append(numbers[row.category])
    return Wanted.of(
        np.frombuffer(splits, np.int8),
        np.frombuffer(keys, "S32"),
        np.frombuffer(categories, np.int16),
        manifest.categories,
    )


def _learnt(manifest: Manifest) -> Iterator[Row]:
    return (row for row in manifest.rows if row.split in SPLITS and not row.label)


def compute_features(
    manifest: Manifest, encoder: Encoder, settings: FeatureSettings, kept: Wants | None = None
) -> FeatureIndex:
    """Encodes the views of good train and val images that the store lacks, shard by shard: here, or on the cluster of
    RAY_ADDRESS.

    Memory grows by some dozen bytes an image. Shards that were damaged are computed again.
    Raises UserError if an image is missing, unreadable or not the one that the manifest saw.
    """
    store = FeatureStore(open_objects(settings.store, settings.cache_gigabytes), store_key(encoder.key, kept))
    wanted, known = wanted_views(manifest, settings.tiling), store.scan()
    at = known.find(wanted.keys)
    if damaged := store.discard_damaged(known.shards[n] for n in np.unique(known.shard[at[at >= 0]])):
        print(f"{len(damaged)} damaged feature shards are removed and computed again")
        known = store.scan()
    distinct = np.unique(wanted.keys)
    missing = distinct[known.find(distinct) < 0]
    print(f"{len(distinct) - len(missing)} of {len(distinct)} views are in the store {store.address}")
    with tqdm(total=len(missing), desc="encoding", unit="view", disable=None) as progress:
        lacking = _lacking(manifest, settings.tiling, missing)
        if len(missing) and (os.environ.get("RAY_ADDRESS") or "local") != "local":
            # Only here: without a cluster nobody needs to wait for Ray's import.
            from pipelines.features.on_cluster import encode_on_cluster

            images = ahead(lambda one: read_image_views(manifest.root, *one), lacking, IMAGES_AHEAD)
            encode_on_cluster(images, encoder, kept, store.objects.address, settings.batch_size, progress)
        else:
            transform = encoder.transform
            views = ahead(lambda one: read_image_views(manifest.root, *one).pixels(transform), lacking, IMAGES_AHEAD)
            pixels = (view for image in views for view in image)
            encode_into(store, encoder, kept, pixels, settings.batch_size, progress.update)
    write_table(store, wanted, store.scan() if len(missing) else known)
    return FeatureIndex(
        encoder.settings,
        encoder.key,
        encoder.digest,
        encoder.shape,
        kept,
        settings.tiling,
        len(distinct),
        wanted.digest,
    )


def _lacking(
    manifest: Manifest, tiling: Tiling | None, missing: NDArray[np.bytes_]
) -> Iterator[tuple[Row, list[View]]]:
    """The rows that have views among the sorted keys `missing`, with these views; no view comes twice."""
    taken = np.zeros(len(missing), bool)
    for row in _learnt(manifest):
        found = []
        for view in row_views(row, tiling, manifest.shots):
            key = key_array([view.key(row.sha256)])
            at = int(np.searchsorted(missing, key)[0])
            if at < len(missing) and missing[at] == key[0] and not taken[at]:
                taken[at] = True
                found.append(view)
        if found:
            yield row, found


def write_index(index: FeatureIndex, file: Path) -> None:
    """Writes the index; `read_index` is its counterpart."""
    with files.written_whole(file) as temporary:
        temporary.write_text(json.dumps(asdict(index), indent=2) + "\n")


def read_index(file: Path) -> FeatureIndex:
    """Raises UserError if `file` is missing or no feature index."""
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no feature index ({error}): run `dvc repro features`.") from None
    return build(FeatureIndex, values, str(file))


def run(args: Namespace) -> None:
    """Fills the store and writes the index."""
    settings = read_section("features", FeatureSettings)
    manifest = read_manifest(args.manifest)
    check_tiles(manifest, settings.tiling)
    encoder = load_encoder(settings.encoder).to(best_device())
    kept = None
    if settings.keep == "wanted":
        train = read_section("train", TrainSettings)
        kept = train.kind.wants(train.own, encoder.shape)
    write_index(compute_features(manifest, encoder, settings, kept), args.out)
