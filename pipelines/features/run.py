"""Fills the store with what the method learns from, and writes the index."""

from argparse import Namespace
from collections import Counter

from inpformer.devices import best_device
from inpformer.methods.modes import SEMI_SUPERVISED
from inpformer.training.settings import TrainSettings
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.index import compute_features, write_index
from pipelines.features.settings import FeatureSettings
from pipelines.features.sheet import draw_sheets
from pipelines.features.tile_check import check_tiles
from pipelines.manifest.table import read_manifest
from pipelines.platform import files
from pipelines.platform.params import read_section
from pipelines.platform.weights import load_encoder


def run(args: Namespace) -> None:
    """See above. The pictures are drawn first: whoever looks at them need not wait for the encoder."""
    settings, train = read_section("features", FeatureSettings), read_section("train", TrainSettings)
    manifest = read_manifest(args.manifest)
    check_tiles(manifest, settings.tiling)
    encoder = load_encoder(settings.encoder).to(best_device())
    kept = train.kind.wants(train.own, encoder.shape) if settings.keep == "wanted" else None
    semi_supervised = train.setting == SEMI_SUPERVISED
    # Models that are taken as they are learn from nothing.
    learns = train.kind.anomalies and (train.weights is None or bool(train.kind.builds_on(train.own)))
    plan = anomaly_plan(manifest, settings, semi_supervised) if learns else None
    if semi_supervised:
        counts = Counter(row.category for row in manifest.rows if row.split == "train" and row.label)
        print("real defects to learn from: " + ", ".join(f"{n} of {name}" for name, n in sorted(counts.items())))
    with files.written_whole(args.pictures) as folder:
        draw_sheets(manifest, plan, encoder.transform, folder)
    write_index(compute_features(manifest, encoder, settings, kept, plan), args.out)
