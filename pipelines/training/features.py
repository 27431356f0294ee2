"""What a training is told of its features: where they are, not what they are; any machine can open them."""

from dataclasses import dataclass, replace

import numpy as np

from inpformer.encoders.levels import Wants
from inpformer.features.store import FeatureStore, store_key
from inpformer.features.view_table import Views
from pipelines.features.index import FeatureIndex
from pipelines.features.settings import FeatureSettings
from pipelines.platform.bucket import open_objects


@dataclass(frozen=True)
class TrainingFeatures:
    """`store` is the address, `kept` what of the encoder's levels is stored, None for all; `table` the digest of the
    data set's views, `category` None for all of them. `with_masks`: they are pictures with defects. `left_out` are the
    keys of the views of a fold, 32 bytes each: they are "val" and all others "train", but for those `dropped`; None for
    the splits of the table.
    """

    store: str
    cache_gigabytes: float
    encoder_key: str
    kept: Wants | None
    table: str
    category: str | None = None
    with_masks: bool = False
    left_out: bytes | None = None
    dropped: bytes = b""

    def open(self) -> Views:
        """The features, by split and number. Raises UserError if the store lacks them."""
        name = store_key(self.encoder_key, self.kept, self.with_masks)
        store = FeatureStore(open_objects(self.store, self.cache_gigabytes), name)
        left_out = None if self.left_out is None else np.frombuffer(self.left_out, "S32")
        return Views(store, self.table, self.category, left_out, np.frombuffer(self.dropped, "S32"))


def training_features(settings: FeatureSettings, index: FeatureIndex) -> TrainingFeatures:
    """What workers need to find the features of an index in the store."""
    address = open_objects(settings.store, settings.cache_gigabytes).address
    return TrainingFeatures(address, settings.cache_gigabytes, index.encoder_key, index.kept, index.table)


def training_anomalies(settings: FeatureSettings, index: FeatureIndex) -> TrainingFeatures | None:
    """The same of the pictures with defects, None where there are none."""
    if index.anomalies is None:
        return None
    return replace(training_features(settings, index), table=index.anomalies, with_masks=True)
