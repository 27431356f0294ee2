"""Features of loose images in a store, for benchmarks, which have no manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inpformer.encoders.encoder import Encoder
from inpformer.features.levels import Wants
from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views, Wanted, write_table
from inpformer.images.transform import read_image
from pipelines.features.encode import encode_into

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


def encode_files(store: FeatureStore, encoder: Encoder, files: Sequence[Path], kept: Wants | None = None) -> list[str]:
    """Encodes what the store lacks of these images; returns their keys, in the files' order."""
    keys = [sha256(file.read_bytes()).hexdigest() for file in files]
    there = store.scan().find(key_array(keys)) >= 0
    missing = {key: file for key, file, known in zip(keys, files, there, strict=True) if not known}
    pixels = ((key, encoder.transform.image(read_image(file))) for key, file in missing.items())
    with tqdm(total=len(missing), desc="encoding", disable=None if missing else True) as progress:
        encode_into(store, encoder, kept, pixels, ENCODED_AT_A_TIME, progress.update)
    return keys


def store_table(store: FeatureStore, keys: Sequence[str]) -> str:
    """Writes the table of these views, as the split "train", each once and sorted by key; returns its digest."""
    zeros = np.zeros(len(keys), np.int8)
    wanted = Wanted.of(zeros, key_array(keys), zeros.astype(np.int16), ("all",))
    write_table(store, wanted, store.scan())
    return wanted.digest
