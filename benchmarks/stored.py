"""Features of loose images in a store, for benchmarks, which have no manifest."""

from collections.abc import Sequence

import numpy as np

from inpformer.features.shard import key_array
from inpformer.features.store import FeatureStore
from inpformer.features.view_table import Views, Wanted, write_table


def stored_views(store: FeatureStore, keys: Sequence[str]) -> Views:
    """The views with these keys, each once, as the split "train", in the order of the keys."""
    return Views(store, store_table(store, keys))


def store_table(store: FeatureStore, keys: Sequence[str]) -> str:
    """Writes the table of these views; returns its digest."""
    zeros = np.zeros(len(keys), np.int8)
    wanted = Wanted.of(zeros, key_array(keys), zeros.astype(np.int16), ("all",))
    write_table(store, wanted, store.scan())
    return wanted.digest
