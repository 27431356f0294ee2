"""Which features there are, and what of them the store lacks: that goes through the frozen encoder once."""

import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from inpformer.config import build
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
from pipelines.features.encode import Pictures, encode_into, read_image_views
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.table import Manifest, Row
from pipelines.platform import files, ray_address
from pipelines.platform.bucket import open_objects

# So many images are read at a time, beside the encoder's work: disks and buckets make wait.
IMAGES_AHEAD = 8


@dataclass(frozen=True)
class FeatureIndex:
    """What the features are: the encoder that made them (`shape` is that of its levels, `kept` what of them is stored,
    None for all), and the views of images they were made of (how many, and the digest that names their table in the
    store); `anomalies` names the table of pictures with defects, None where the method learns from good ones alone. It
    holds nothing of where they lie, so it is the same whoever computed them.
    """

    encoder: EncoderSettings
    encoder_key: str
    encoder_digest: str
    shape: EncoderShape
    kept: Wants | None
    tiling: Tiling | None
    views: int
    table: str
    anomalies: str | None = None


class Keyed(Protocol):
    """One of the views that are made of an image."""

    def key(self, sha256: str) -> str:
        """Names what it makes of the image whose file has that sha256 (hex)."""


V = TypeVar("V", bound=Keyed)


@dataclass(frozen=True)
class Plan(Generic[V]):
    """What is to be in the store: the views of each row, and how they are read."""

    views: Callable[[Row], Sequence[V]]
    read: Callable[[Row, Sequence[V]], Pictures]
    with_masks: bool = False


def row_views(row: Row, tiling: Tiling | None, shots: int | None, white: int) -> list[View]:
    """The views of an image: its tiles, and in few-shot training the 22 forms of each. `white` is the encoder's."""
    augmented = shots is not None and row.split == "train"
    return views((row.width, row.height), tiling, augmented, row.white(white))


def good_views(manifest: Manifest, tiling: Tiling | None, white: int) -> Plan[View]:
    """The views of the good images that training learns from and validates on."""

    def of(row: Row) -> Sequence[View]:
        return row_views(row, tiling, manifest.shots, white) if row.split in SPLITS and not row.label else ()

    return Plan(of, partial(read_image_views, manifest.root))


def wanted_views(manifest: Manifest, plan: Plan[V]) -> Wanted:
    """All that is to be there; rows stream by."""
    numbers = {category: n for n, category in enumerate(manifest.categories)}
    keys, splits, categories = bytearray(), array("b"), array("h")
    for row in manifest.rows:
        for view in plan.views(row):
            keys += bytes.fromhex(view.key(row.sha256))
            splits.append(SPLITS.index(row.split))
            categories.append(numbers[row.category])
    return Wanted.of(
        np.frombuffer(splits, np.int8),
        np.frombuffer(keys, "S32"),
        np.frombuffer(categories, np.int16),
        manifest.categories,
    )


def compute_features(
    manifest: Manifest,
    encoder: Encoder,
    settings: FeatureSettings,
    kept: Wants | None = None,
    anomalies: Plan[Any] | None = None,
) -> FeatureIndex:
    """Encodes the views of good train and val images, and the pictures with defects that `anomalies` names, as far as
    the store lacks them.

    Raises UserError if an image is missing, unreadable or not the one that the manifest saw.
    """
    good = encode_lacking(
        manifest, encoder, settings, kept, good_views(manifest, settings.tiling, encoder.settings.white)
    )
    bad = None if anomalies is None else encode_lacking(manifest, encoder, settings, kept, anomalies)
    return FeatureIndex(
        encoder.settings,
        encoder.key,
        encoder.digest,
        encoder.shape,
        kept,
        settings.tiling,
        len(np.unique(good.keys)),
        good.digest,
        None if bad is None else bad.digest,
    )


def encode_lacking(
    manifest: Manifest, encoder: Encoder, settings: FeatureSettings, kept: Wants | None, plan: Plan[V]
) -> Wanted:
    """Encodes what the store lacks of a plan, shard by shard: here, or on the cluster of RAY_ADDRESS; writes the table.

    Memory grows by some dozen bytes an image. Shards that were damaged are computed again.
    """
    objects = open_objects(settings.store, settings.cache_gigabytes)
    store = FeatureStore(objects, store_key(encoder.key, kept, plan.with_masks))
    wanted, known = wanted_views(manifest, plan), store.scan()
    at = known.find(wanted.keys)
    if damaged := store.discard_damaged(known.shards[n] for n in np.unique(known.shard[at[at >= 0]])):
        print(f"{len(damaged)} damaged feature shards are removed and computed again")
        known = store.scan()
    distinct = np.unique(wanted.keys)
    missing = distinct[known.find(distinct) < 0]
    what = "made pictures with defects" if plan.with_masks else "views"
    print(f"{len(distinct) - len(missing)} of {len(distinct)} {what} are in the store {store.address}")
    with tqdm(total=len(missing), desc="encoding", unit="view", disable=None) as progress:
        lacking = _lacking(manifest, plan, missing)
        if len(missing) and ray_address.is_set():
            # Only here: without a cluster nobody needs to wait for Ray's import.
            from pipelines.features.on_cluster import encode_on_cluster

            images = ahead(lambda one: plan.read(*one), lacking, IMAGES_AHEAD)
            encode_on_cluster(images, encoder, kept, store, settings.batch_size, progress)
        else:
            transform = encoder.transform
            # Decoding and resizing let go of Python's lock: threads are as fast as processes (benchmarks/stages.md).
            threads = max(IMAGES_AHEAD, os.cpu_count() or 1)
            made = ahead(lambda one: plan.read(*one).encodables(transform), lacking, threads)
            views = (view for image in made for view in image)
            encode_into(store, encoder, kept, views, settings.batch_size, progress.update)
    write_table(store, wanted, store.scan() if len(missing) else known)
    return wanted


def _lacking(manifest: Manifest, plan: Plan[V], missing: NDArray[np.bytes_]) -> Iterator[tuple[Row, list[V]]]:
    """The rows that have views among the sorted keys `missing`, with these views; no view comes twice."""
    taken = np.zeros(len(missing), bool)
    for row in manifest.rows:
        found = []
        for view in plan.views(row):
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
