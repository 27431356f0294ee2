"""Split and folds on photographs, by nearest neighbours: what becomes of a promise, and what it misses."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from inpformer.devices import best_device
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.images.layouts.sample import list_images
from inpformer.judging.calibration import calibrate, calibrate_across
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import METHODS
from inpformer.methods.base import Fit, Model
from inpformer.methods.nearest.settings import NearestSettings
from inpformer.streams import chunks

METHOD, OWN = METHODS["nearest"], NearestSettings()
BATCH, JUDGED = 16, 150  # good images and defective ones that are judged in each draw


def encoded(encoder: Encoder, files: Sequence[Path]) -> list[Tensor]:
    """What the method wants of each image: [N, C] float16."""
    wants = METHOD.wants(OWN, encoder.shape)
    found: list[Tensor] = []
    for batch in tqdm(list(chunks(iter(files), BATCH)), disable=None):
        (group,) = wants.of(encoder.encode([encoder.transform.open(file) for file in batch]))
        found += group.half().cpu()
    return found


def trained(encoder: Encoder, images: Sequence[Tensor]) -> Model:
    """On these images."""
    torch.manual_seed(1)
    model = METHOD.make(OWN, encoder.shape).to(encoder.device)
    for phase in model.phases():
        assert isinstance(phase, Fit)
        phase.fit([batch] for batch in batches(encoder, images))
    return model.eval()


def batches(encoder: Encoder, images: Sequence[Tensor]) -> list[Tensor]:
    """Each [B, N, C] float32."""
    return [torch.stack(batch).to(encoder.device).float() for batch in chunks(iter(images), BATCH)]


@torch.inference_mode()
def scores(encoder: Encoder, model: Model, images: Sequence[Tensor]) -> NDArray[np.float64]:
    """Of each image."""
    size = encoder.transform.crop
    found = [model.scores(model.maps([batch], size, False)).cpu() for batch in batches(encoder, images)]
    return torch.cat(found).double().numpy()


def run(folder: Path, parts: int, rate: float, count: int) -> None:
    """Prints a line a draw: the shares of good images that FAIL and of defective ones that do not, of a split by half,
    then of as many folds as parts. `folder` is a category as MVTec AD lays it out.
    """
    encoder = load_encoder(EncoderSettings()).to(best_device())
    places = [folder / "train/good", folder / "test/good"]
    good = encoded(encoder, [file for place in places for file in list_images(place)])
    kinds = [kind for kind in sorted((folder / "test").iterdir()) if kind.name != "good"]
    defective = encoded(encoder, [file for kind in kinds for file in list_images(kind)])
    shares = []
    for draw in range(count):
        rng = random.Random(draw)
        rng.shuffle(good)
        known, new = good[:parts], [*good[parts : parts + JUDGED], *rng.sample(defective, min(JUDGED, len(defective)))]
        held = parts // 2
        one = trained(encoder, known[held:])
        settings = CalibrationSettings(rate, folds=parts)
        limit = calibrate({"": scores(encoder, one, known[:held]).tolist()}, settings)[""].threshold
        by_split = scores(encoder, one, new) > limit
        models = [trained(encoder, known[:n] + known[n + 1 :]) for n in range(parts)]
        left_out = [float(scores(encoder, model, known[n : n + 1])[0]) for n, model in enumerate(models)]
        limits = calibrate_across("", left_out, list(range(parts)), settings)
        assert limits.cross is not None
        own = np.stack([scores(encoder, model, new) for model in models])
        judged = [limits.cross.score(dict(enumerate(o)), limits.scores, limits.threshold) for o in own.T.tolist()]
        by_folds = np.array(judged) > limits.threshold
        of_good = min(JUDGED, len(good) - parts)
        shares.append([s for f in (by_split, by_folds) for s in (f[:of_good].mean(), 1 - f[of_good:].mean())])
        print(f"draw {draw}: " + ", ".join(f"{share:.3f}" for share in shares[-1]), flush=True)
    print("mean: " + ", ".join(f"{share:.3f}" for share in np.mean(shares, axis=0)))
