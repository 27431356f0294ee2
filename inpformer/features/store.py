"""The feature store: what the frozen encoder made of each view of an image, computed once and shared by everyone.

Under its address, a folder an encoder key, and in that, shards (`inpformer.features.shard`) of up to `SHARD_IMAGES`
views. A shard is named by the sha256 of its own bytes and appears whole or not at all: a killed run leaves what it
finished, and runs side by side share what either finishes. Under `tables/` lie the tables that say where the views of
a data set are (`inpformer.features.view_table`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import Level
from inpformer.features.objects import Objects, Range
from inpformer.features.shard import HEADER_BYTES, ShardHeader, pack, unpack_header

SUFFIX = ".safetensors"
TABLES = "tables"
# Headers are asked for so many at a time.
HEADERS_AT_ONCE = 256


@dataclass(frozen=True)
class Known:
    """The views in a store, a few dozen bytes each: `keys` [n] of 32 bytes, sorted, each once; `shard` [n] numbers
    `shards`, names without suffix; `offset` [n] is the first byte of the view's row in its shard, `crc32` [n] the
    row's checksum. `levels` are those of every view, () in an empty store.
    """

    keys: NDArray[np.bytes_]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    shards: tuple[str, ...]
    levels: tuple[Level, ...]

    @classmethod
    def of(cls, headers: Sequence[tuple[str, ShardHeader]]) -> "Known":
        """What these shards hold; of a view in several, the first shard's."""
        numbers = [np.full(len(header.keys), n, np.int32) for n, (_, header) in enumerate(headers)]
        offsets = [h.start + h.row_bytes * np.arange(len(h.keys), dtype=np.int64) for _, h in headers]
        keys, first = np.unique(_joined([h.keys for _, h in headers], "S32"), return_index=True)
        return cls(
            keys,
            _joined(numbers, np.int32)[first],
            _joined(offsets, np.int64)[first],
            _joined([h.crc32 for _, h in headers], np.uint32)[first],
            tuple(name for name, _ in headers),
            headers[0][1].levels if headers else (),
        )

    def find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The position in `self.keys` of each key, -1 for those that are not there."""
        at = np.searchsorted(self.keys, keys)
        there = at < len(self.keys)
        there[there] = self.keys[at[there]] == keys[there]
        return np.where(there, at, -1)


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def store_key(encoder_key: str, kept: Wants | None, with_masks: bool = False) -> str:
    """Under which name the features of an encoder lie: `kept` is what of its levels is stored, None for all of them;
    `with_masks`, those of pictures with defects, whose last level is the mask.
    """
    key = encoder_key if kept is None else hashlib.sha256(f"{encoder_key} {kept.key}".encode()).hexdigest()
    return hashlib.sha256(f"{key} with masks".encode()).hexdigest() if with_masks else key


class FeatureStore:
    """The shards of one encoder in a store."""

    def __init__(self, objects: Objects, encoder_key: str) -> None:
        self.objects, self.encoder_key = objects, encoder_key

    @cached_property
    def address(self) -> str:
        """Where the shards are, for people."""
        return f"{self.objects.address}/{self.encoder_key}"

    def scan(self) -> Known:
        """Every view in the store, by its shards' headers; a shard that is not whole is as if it were not there."""
        sizes = [(name, size) for name, size in self.objects.sizes(f"{self.encoder_key}/") if name.endswith(SUFFIX)]
        found = []
        for start in range(0, len(sizes), HEADERS_AT_ONCE):
            part = sizes[start : start + HEADERS_AT_ONCE]
            heads = self.objects.read_ranges([Range(name, 0, HEADER_BYTES) for name, _ in part])
            for (name, size), head in zip(part, heads, strict=True):
                header = unpack_header(head)
                if header is not None and header.size == size:
                    found.append((name.rpartition("/")[2].removesuffix(SUFFIX), header))
        return Known.of(found)

    def add(self, keys: Sequence[str], features: Sequence[Tensor]) -> None:
        """Writes one shard: `features` are levels, each [n, N, C], `keys` those of the n views (hex).

        Raises UserError if a value does not fit 16 bit or the store does not take the shard.
        """
        content = pack(keys, features)
        self.objects.write(self.name(hashlib.sha256(content).hexdigest()), content)

    def discard_damaged(self, shards: Iterable[str]) -> list[str]:
        """Removes the shards whose bytes no longer have their digest; returns their names."""
        damaged = [shard for shard in shards if not self.objects.has_digest(self.name(shard), shard)]
        for shard in damaged:
            self.objects.remove(self.name(shard))
        return damaged

    def name(self, shard: str) -> str:
        """The name of a shard's object."""
        return f"{self.encoder_key}/{shard}{SUFFIX}"
