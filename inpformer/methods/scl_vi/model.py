"""SCL-VI as a method: it reads the picture itself, learns from pairs of patches, remembers some and judges by them."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpformer.config import require
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import picture_level
from inpformer.errors import UserError
from inpformer.images.frame import MAP_SIZE
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.scl_vi.affinity import affinity, spread_out
from inpformer.methods.scl_vi.network import SclViNetwork
from inpformer.methods.scl_vi.pairs import draw_pairs, fewest_pixels, picture_seeds
from inpformer.methods.scl_vi.settings import LARGE, SMALL, SclViSettings
from inpformer.nn.coreset import Sample, farthest_points
from inpformer.nn.memory import like_the_stored, nearest
from inpformer.nn.precision import precise
from inpformer.nn.tensors import part_of

SCALE = 255
PATCHES_AT_A_TIME = 128  # of a picture, through the network


class Bank(nn.Module):
    """`memory` [m, D]: the vectors of normal patches of one size."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(0, dimension))
        self.memory: Tensor


class SclVi(Model):
    """The trained network; `mean` [N, 3], the mean of the training images by pixel; a bank of each size of patches."""

    def __init__(self, settings: SclViSettings, shape: EncoderShape) -> None:
        super().__init__()
        self.settings = settings
        (picture,) = self.wants(settings, shape).shapes(shape.levels)
        self.side = picture.side
        self.network = SclViNetwork(settings.width, settings.dimension, settings.relations == "trained")
        self.register_buffer("mean", torch.zeros(picture.tokens, picture.channels))
        self.large, self.small = Bank(settings.dimension), Bank(settings.dimension)
        self.mean: Tensor

    @staticmethod
    def wants(settings: SclViSettings, shape: EncoderShape) -> Wants:
        """See `Model`. The picture itself."""
        number = picture_level(shape)
        side, stride = shape.levels[number].side, settings.strides[0]
        fewest = fewest_pixels(LARGE)
        example = LARGE + stride * math.ceil((fewest - LARGE) / stride)
        right = f"{LARGE} and a multiple of {stride}, the first of strides, and at least {fewest}: e.g. {example}"
        fitting = side >= fewest and (side - LARGE) % stride == 0
        require(fitting, "the side of the picture, features.encoder.crop,", side, right)
        return Wants(((number,),))

    def phases(self) -> tuple[Phase, ...]:
        """The mean image is taken, the network is trained, then the banks are filled."""
        train = Train.at_one_rate(self.network, self.settings, torch.optim.Adam, self._loss, self._validate)
        return Fit(self._fit_mean), train, Fit(self._fill)

    def maps(self, groups: Groups, image_size: int, zero_shot: bool) -> Tensor:
        """The product of both sizes' maps, each the mean score of the patches that cover a pixel."""
        product = torch.ones((), device=self.mean.device)
        sizes = zip((LARGE, SMALL), self.settings.strides, (self.large, self.small), strict=True)
        for (size, stride, bank), vectors in zip(sizes, self.vectors(groups), strict=True):
            if not len(bank.memory):
                raise UserError("the banks of normal patches are empty: train the detector again.")
            near = nearest(vectors.flatten(1, 2), bank.memory, self.settings.neighbours)
            scores = affinity(near).unflatten(1, vectors.shape[1:3])
            product = product * spread_out(scores, size, stride, self.side)
        return F.interpolate(product[:, None], (MAP_SIZE, MAP_SIZE), mode="bilinear", align_corners=False)[:, 0]

    def scores(self, maps: Tensor) -> Tensor:
        """The largest value of each map."""
        return maps.amax(dim=(1, 2))

    def vectors(self, groups: Groups) -> tuple[Tensor, Tensor]:
        """Those of all patches of each size, [B, n, n, D]. The larger ones' quadrants are among the smaller ones, so
        the network sees each of these once.
        """
        step, stride = self.settings.strides
        patches = self._pictures(groups).unfold(2, SMALL, stride).unfold(3, SMALL, stride).permute(0, 2, 3, 1, 4, 5)
        count = patches.shape[1]
        found = [
            self.network.small(rows.flatten(0, 2)).view(-1, rows.shape[1], count, self.settings.dimension)
            for rows in patches.split(max(1, PATCHES_AT_A_TIME // count), dim=1)
        ]
        small = torch.cat(found, dim=1)
        last = count - SMALL // stride
        lines = [slice(start, start + last, step // stride) for start in (0, SMALL // stride)]
        quadrants = torch.stack([small[:, rows, columns] for rows in lines for columns in lines], dim=3)
        large: Tensor = self.network.joined(quadrants.unflatten(3, (2, 2)).flatten(0, 2))
        return large.view(-1, *quadrants.shape[1:3], self.settings.dimension), small

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """The banks may be of any length, and are empty until they are filled. Raises UserError naming `source` for
        whatever else does not fit; then they stay as they were.
        """
        large, small = part_of(tensors, "large."), part_of(tensors, "small.")
        with like_the_stored(self.large, large), like_the_stored(self.small, small):
            super().load_tensors(tensors, source)

    def _pictures(self, groups: Groups) -> Tensor:
        """Without the mean image, in units of the full scale: [B, 3, S, S]."""
        centred = (groups[0] - self.mean) / SCALE
        pictures: Tensor = centred.transpose(1, 2).unflatten(2, (self.side, self.side))
        return pictures

    def _fit_mean(self, batches: Iterable[Groups]) -> None:
        total, count = torch.zeros_like(self.mean, dtype=torch.float64), 0
        for (pictures,) in batches:
            total += pictures.double().sum(dim=0)
            count += len(pictures)
        if not count:
            raise UserError("there are no training images to learn from: add some.")
        self.mean.copy_(total / count)

    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        return self._terms(network, groups, seeds)

    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        return self._terms(network, groups, picture_seeds(groups[0]))[TOTAL]

    def _terms(self, network: Callable[..., Any], groups: Groups, seeds: Seeds) -> Terms:
        drawn = draw_pairs(self._pictures(groups), (LARGE, SMALL), self.settings.pairs, seeds)
        found = network(*((one.puzzle, one.coinciding) for one in drawn))
        terms: Terms = {}
        for name, judged, pairs in zip(("large", "small"), found, drawn, strict=True):
            terms[f"relation_{name}"] = F.cross_entropy(precise(judged.logits), pairs.relations)
            terms[f"svdd_{name}"] = judged.distances.mean()
        weights = {name: self.settings.svdd_weight if name.startswith("svdd") else 1.0 for name in terms}
        return {TOTAL: torch.stack([weights[name] * term for name, term in terms.items()]).sum(), **terms}

    def _fill(self, batches: Iterable[Groups]) -> None:
        samples = [Sample(torch.initial_seed()) for _ in range(2)]
        for groups in batches:
            for found, vectors in zip(samples, self.vectors(groups), strict=True):
                found.add(vectors.flatten(0, 2))
        for bank, found in zip((self.large, self.small), samples, strict=True):
            if not found.count:
                raise UserError("there are no training images to fill the banks with: add some.")
            bank.memory = farthest_points(found.kept.to(self.mean.device), self.settings.bank)
