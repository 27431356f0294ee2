"""What a first champion has to beat: a memory of normal tokens, fitted on the same training images in the same features
and calibrated on the same held-out ones.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from inpformer.config import build
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from inpformer.judging.seen import SeenImages
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import find_method
from inpformer.methods.base import Model
from inpformer.training.loop import LoopConfig, TrainingLoop
from inpformer.training.settings import TrainSettings
from pipelines.calibrate.held_out import GoodImage, scores_of, thresholds
from pipelines.calibrate.judge import InProcess
from pipelines.features.index import compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.gate.linked import Linked
from pipelines.manifest.table import Manifest
from pipelines.training.features import training_features

BASELINE = "nearest"


def fit_baseline(
    challenger: Detector, manifest: Manifest, linked: Linked, stored: FeatureSettings, own: Mapping[str, Any]
) -> Detector:
    """A detector of BASELINE as the challenger's training would have made it; `own` is its table of settings, `stored`
    says where features are kept.

    Raises UserError if a training or held-out image is not the one that the manifest names.
    """
    method = find_method(BASELINE)
    encoder = challenger.encoder
    settings = TrainSettings(method=BASELINE, own=build(method.settings, own, f"train.{BASELINE}"))
    stored = replace(stored, encoder=encoder.settings, tiling=challenger.tiling)
    kept = method.wants(settings.own, encoder.shape) if stored.keep == "wanted" else None
    index = compute_features(manifest, encoder, stored, kept)
    features = training_features(stored, index)
    # One model a category where the challenger has that.
    names = sorted(challenger.folds or challenger.models)
    models = {}
    for name in names:
        source = features if name == ALL else replace(features, category=name)
        models[name] = _fitted(LoopConfig(settings, encoder.shape, source), encoder.device)
    seen = SeenImages.of(row.sha256 for row in manifest.rows if row.split == "train")
    made = Detector(encoder, method, settings.own, models, challenger.learnt_from, {}, challenger.tiling, seen)
    good = [
        GoodImage(manifest.root / row.path, row.category, row.sha256, row.part, linked.group(row.path))
        for row in manifest.held_out
    ]
    asked = next(iter(challenger.thresholds.values()))
    promise = CalibrationSettings(min(asked.false_alarm_rate, 0.999), asked.confidence)
    made.thresholds = thresholds(good, scores_of(InProcess(made), good)[0], promise, "checked")
    return made


def _fitted(config: LoopConfig, device: torch.device) -> Model:
    loop = TrainingLoop(config, device)
    with tqdm(total=len(loop.phases), desc=f"fitting {BASELINE}", unit="pass", disable=None) as progress:
        while not loop.done:
            loop.advance()
            progress.update()
    return loop.model.eval()
