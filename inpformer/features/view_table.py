"""The table of a data set's views: which of them each split has, and where their features lie in the store.

It lies in the store itself, named by a digest of what it lists (not of where that lies), and takes about 50 bytes a
view: workers read it and find every row by number, so nothing that grows with the images passes through the driver.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.features.objects import Range
from inpformer.features.shard import row_bytes
from inpformer.features.store import SUFFIX, TABLES, FeatureStore, Known

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Wanted:
    """The views of a data set, sorted by split, key and category, each triple once: `split` [n] numbers `SPLITS`,
    `category` [n] numbers `categories`, `keys` [n] are digests of 32 bytes.
    """

    split: NDArray[np.int8]
    keys: NDArray[np.bytes_]
    category: NDArray[np.int16]
    categories: tuple[str, ...]

    @classmethod
    def of(
        cls,
        split: NDArray[np.int8],
        keys: NDArray[np.bytes_],
        category: NDArray[np.int16],
        categories: Sequence[str],
    ) -> "Wanted":
        """From arrays [n] in any order."""
        order = np.lexsort((category, keys, split))
        split, keys, category = split[order], keys[order], category[order]
        new = np.ones(len(keys), bool)
        new[1:] = (keys[1:] != keys[:-1]) | (split[1:] != split[:-1]) | (category[1:] != category[:-1])
        return cls(split[new], keys[new], category[new], tuple(categories))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all of it."""
        digest = hashlib.sha256(json.dumps(self.categories).encode())
        for array in (self.split, self.keys, self.category):
            digest.update(array.tobytes())
        return digest.hexdigest()


def write_table(store: FeatureStore, wanted: Wanted, known: Known) -> None:
    """Puts the table of `wanted` into the store. Raises UserError if one of its views is not known."""
    at = known.find(wanted.keys)
    if lost := int((at < 0).sum()):
        raise UserError(
            f"{lost} views are not in the store {store.address} although they were encoded: features.store must be a "
            "place that all machines see, and nobody may remove shards meanwhile; run the same command again."
        )
    used, shard = np.unique(known.shard[at], return_inverse=True)
    arrays: dict[str, NDArray[Any]] = {
        "split": wanted.split,
        "keys": np.frombuffer(wanted.keys.tobytes(), np.uint8).reshape(-1, 32),
        "category": wanted.category,
        "shard": shard.astype(np.int32),
        "offset": known.offset[at],
        "crc32": known.crc32[at],
        "shards": np.frombuffer(bytes.fromhex("".join(known.shards[n] for n in used)), np.uint8).reshape(-1, 32),
        "levels": np.array([(level.side, level.channels) for level in known.levels], np.int64),
    }
    store.objects.write(_name(store, wanted.digest), save(arrays, {"categories": json.dumps(wanted.categories)}))


def _name(store: FeatureStore, digest: str) -> str:
    return f"{store.encoder_key}/{TABLES}/{digest}{SUFFIX}"


class Views:
    """The features of a data set, by split and number."""

    def __init__(
        self,
        store: FeatureStore,
        digest: str,
        category: str | None = None,
        left_out: NDArray[np.bytes_] | None = None,
        dropped: NDArray[np.bytes_] | None = None,
    ) -> None:
        """Opens the table `digest`; of one of its categories, or of all, where a view that several have counts once.

        Where keys of views are `left_out`, these are "val" and all others of both splits "train", but for those that
        are `dropped`.

        Raises StaleFeaturesError if the table is missing or damaged.
        """
        self._store = store
        table = _read_table(store, digest)
        self._shard, self._offset, self._crc32 = table["shard"], table["offset"], table["crc32"]
        self._category = table["category"]
        self._shards = [bytes(name).hex() for name in table["shards"]]
        self.levels = tuple(Level(int(side), int(channels)) for side, channels in table["levels"])
        if category is None:
            chosen = np.ones(len(self._shard), bool)
            same = (table["keys"][1:] == table["keys"][:-1]).all(axis=1) & (table["split"][1:] == table["split"][:-1])
            chosen[1:] = ~same
        else:
            chosen = table["category"] == list(table["categories"]).index(category)
        self._rows = {name: np.flatnonzero(chosen & (table["split"] == n)) for n, name in enumerate(SPLITS)}
        if left_out is not None:
            keys = np.frombuffer(table["keys"].tobytes(), "S32")
            # By their keys, each once: the order of training must not tell which of them were "val" in the table.
            rows = np.flatnonzero(chosen & np.isin(table["split"], [SPLITS.index("train"), SPLITS.index("val")]))
            rows = rows[np.unique(keys[rows], return_index=True)[1]]
            if dropped is not None:
                rows = rows[~np.isin(keys[rows], dropped)]
            out = np.isin(keys[rows], left_out)
            self._rows = {"train": rows[~out], "val": rows[out]}

    def count(self, split: str) -> int:
        """How many views a split has: "train" or "val"."""
        return len(self._rows[split])

    def categories(self, split: str, indices: Sequence[int]) -> list[int]:
        """The category of some views of a split, by their numbers, in that order: each the place of its name among
        those of the data set.
        """
        found: list[int] = self._category[self._rows[split][np.asarray(indices, np.int64)]].tolist()
        return found

    def refuse_missing(self) -> None:
        """Raises StaleFeaturesError naming a shard that is gone or cut off. Sizes are compared, no shard is read."""
        sizes = dict(self._store.objects.sizes(f"{self._store.encoder_key}/"))
        last = np.zeros(len(self._shards), np.int64)
        np.maximum.at(last, self._shard, self._offset + row_bytes(self.levels))
        for shard, end in zip(self._shards, last.tolist(), strict=True):
            if sizes.get(self._store.name(shard), 0) < end:
                raise self._refusal(self._store.name(shard), "is missing or cut off")

    def _refusal(self, name: str, state: str) -> StaleFeaturesError:
        return StaleFeaturesError(
            f"feature shard {self._store.objects.address}/{name} {state}: remove it if it is there and "
            "compute the features again."
        )

    def read(self, split: str, indices: Sequence[int]) -> list[Tensor]:
        """The features of some views of a split, by their numbers, in that order: levels, each [n, N, C] float16.

        Raises StaleFeaturesError naming a shard that is missing or damaged.
        """
        rows = self._rows[split][np.asarray(indices, np.int64)]
        size = row_bytes(self.levels)
        names = [self._store.name(self._shards[self._shard[row]]) for row in rows]
        wanted = [
            Range(name, int(self._offset[row]), size, int(self._crc32[row]))
            for name, row in zip(names, rows, strict=True)
        ]
        contents = self._store.objects.read_ranges(wanted)
        for one, content in zip(wanted, contents, strict=True):
            if not one.holds(content):
                raise self._refusal(one.name, "is damaged" if content else "is missing")
        together = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.float16).view(len(rows), -1)
        sizes = [level.tokens * level.channels for level in self.levels]
        parts = together.split(sizes, dim=1)
        return [part.unflatten(1, (level.tokens, -1)) for part, level in zip(parts, self.levels, strict=True)]


def _read_table(store: FeatureStore, digest: str) -> dict[str, NDArray[Any]]:
    content = store.objects.read(_name(store, digest))
    if content is None:
        raise StaleFeaturesError(f"the store {store.address} lacks the features of this data set: compute them again.")
    try:
        table: dict[str, NDArray[Any]] = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        table["categories"] = np.array(json.loads(header["__metadata__"]["categories"]))
    except (SafetensorError, ValueError, KeyError):
        raise StaleFeaturesError(
            f"the table {store.objects.address}/{_name(store, digest)} is damaged: compute the features again."
        ) from None
    return table
