"""The encoder on a cluster: the same features as here, through images that only the driver can see."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from pipelines.features.anomalies import anomaly_plan
from pipelines.features.index import compute_features
from pipelines.features.on_cluster import held_encoder
from pipelines.features.settings import AnomalySettings, FeatureSettings
from pipelines.training.features import training_anomalies, training_features
from tests.conftest import noise_parts


def test_a_cluster_makes_the_features_that_one_machine_makes(
    encoder: Encoder, tmp_path: Path, ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = noise_parts(tmp_path / "data", 150)
    here = FeatureSettings(encoder.settings, store=str(tmp_path / "here"), anomalies=AnomalySettings(1, "images"))
    there = replace(here, store=str(tmp_path / "there"))
    plan = anomaly_plan(manifest, here, False)
    index = compute_features(manifest, encoder, here, None, plan)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    assert compute_features(manifest, encoder, there, None, plan) == index
    for features in (training_features, training_anomalies):
        views = [found.open() for settings in (here, there) if (found := features(settings, index)) is not None]
        both = [one.read("train", range(one.count("train"))) for one in views]
        for one, other in zip(*both, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    assert len(list((tmp_path / "there").glob("*/*.safetensors"))) == 2 * 3  # shards of 64 views


def test_other_weights_on_the_workers_are_refused(encoder: Encoder) -> None:
    with pytest.raises(UserError, match="the weights of tf_efficientnet_lite0 in bundled differ between driver and"):
        held_encoder(encoder.settings, "0" * 64)
    assert held_encoder(encoder.settings, encoder.key).key == encoder.key
