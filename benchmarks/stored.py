"""Features of loose images for a training loop, as benchmarks have no manifest: in a store, or encoded every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views, Wanted, write_table
from pipelines.features.encode import Encodable, encode_into

ENCODED_AT_A_TIME = 16


@dataclass(frozen=True)
class Stored:
    """The features of a table, for a training loop."""

    store: FeatureStore
    table: str
    kept: Wants | None = None

    def open(self) -> Views:
        """The features, by split and number."""
        return Views(self.store, self.table)


@dataclass(frozen=True)
class Encoded:
    """Read, decoded and encoded anew each time, as without a store: `files` are the images of the split "train"."""

    encoder: Encoder
    files: Sequence[Path]
    kept: None = None

    def open(self) -> "Encoded":
        """Itself, which has what a loop reads of `Views`."""
        return self

    def count(self, split: str) -> int:
        """How many views a split has."""
        return len(self.files) if split == "train" else 0

    def read(self, split: str, numbers: Sequence[int]) -> list[Tensor]:
        """Levels, each [n, N, C] float32, on the CPU as those of a store."""
        return [
            level.cpu() for level in self.encoder.encode([self.encoder.transform.open(self.files[n]) for n in numbers])
        ]


def encode_files(store: FeatureStore, encoder: Encoder, files: Sequence[Path], kept: Wants | None = None) -> list[str]:
    """Encodes what the store lacks of these images; returns their keys, in the files' order."""
    keys = [sha256(file.read_bytes()).hexdigest() for file in files]
    there = store.scan().find(key_array(keys)) >= 0
    missing = {key: file for key, file, known in zip(keys, files, there, strict=True) if not known}
    transform = encoder.transform
    views = (Encodable(key, transform.image(transform.open(file))) for key, file in missing.items())
    with tqdm(total=len(missing), desc="encoding", disable=None if missing else True) as progress:
        encode_into(store, encoder, kept, views, ENCODED_AT_A_TIME, progress.update)
    return keys


def store_table(store: FeatureStore, keys: Sequence[str], categories: Sequence[str] | None = None) -> str:
    """Writes the table of these views, as the split "train", each once and sorted by key; returns its digest. Without
    `categories`, one a view, all are of one.
    """
    of = np.array(categories or ["all"] * len(keys))
    names, numbers = np.unique(of, return_inverse=True)
    wanted = Wanted.of(np.zeros(len(keys), np.int8), key_array(keys), numbers.astype(np.int16), names.tolist())
    write_table(store, wanted, store.scan())
    return wanted.digest
