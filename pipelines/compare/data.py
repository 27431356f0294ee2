"""What all methods are trained and judged on: one manifest, one encoding."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder
from inpformer.errors import StaleFeaturesError, UserError
from inpformer.judging.learnt import LearntFrom
from inpformer.methods.modes import SEMI_SUPERVISED, setting_name
from inpformer.training.settings import TrainSettings
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.encoder_check import check_encoder
from pipelines.features.index import FeatureIndex, encode_lacking, good_views, read_index, wanted_views
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked, read_linked
from pipelines.manifest.table import Manifest, Row, comparable, read_manifest
from pipelines.platform.params import read_section
from pipelines.platform.weights import load_encoder
from pipelines.training.job import wanted_by


@dataclass(frozen=True)
class Data:
    """`stored` says where the features are that `index` names; `anomalies` names the table of pictures with defects,
    None where no method learns from them; `rows` are the test images by category, of those that have good and
    defective ones.
    """

    manifest: Manifest
    linked: Linked
    index: FeatureIndex
    stored: FeatureSettings
    encoder: Encoder
    learnt_from: LearntFrom
    anomalies: str | None
    rows: dict[str, list[Row]]

    def index_for(self, settings: TrainSettings) -> FeatureIndex:
        """What a method reads: a training is the same whatever others read."""
        return replace(self.index, anomalies=self.anomalies if settings.kind.anomalies else None)


def open_data(args: Namespace, methods: Sequence[TrainSettings]) -> Data:
    """Reads what the stages left; makes pictures with defects where a method learns from them and the store has none.

    Raises UserError where a method cannot read these features, before any is trained.
    """
    manifest, index, linked = read_manifest(args.manifest), read_index(args.features), read_linked(args.linked)
    stored = read_section("features", FeatureSettings)
    there = (index.encoder, index.tiling, index.table)
    views = wanted_views(manifest, good_views(manifest, stored.tiling, stored.encoder.white))
    if there != (stored.encoder, stored.tiling, views.digest):
        raise StaleFeaturesError(
            f"{args.features} is of other images, or of another features.encoder or tiling in params.yaml: compute the "
            "features again."
        )
    for settings in methods:
        if index.kept not in (None, wanted_by(settings, index.shape)):
            raise UserError(
                f"params.yaml: features.keep is {stored.keep!r}: what the store has is not what {settings.method} "
                "reads, set it to all and run `dvc repro features`."
            )
    encoder = load_encoder(index.encoder).to(best_device())
    check_encoder(encoder, index)
    first, anomalies = methods[0], None
    if any(settings.kind.anomalies for settings in methods):
        plan = anomaly_plan(manifest, stored, first.setting == SEMI_SUPERVISED)
        anomalies = encode_lacking(manifest, encoder, stored, index.kept, plan).digest
    setting = setting_name(first.setting, len(manifest.data_sets), manifest.shots)
    learnt_from = LearntFrom(setting, manifest.digest, tuple(manifest.categories))
    rows = comparable(manifest.split("test"), manifest.categories)
    return Data(manifest, linked, index, stored, encoder, learnt_from, anomalies, rows)
