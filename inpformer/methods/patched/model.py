"""A model that rebuilds patches: what it reads, how it is trained, and its maps."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import EncoderShape
from inpformer.encoders.tokens import every_level
from inpformer.methods.base import TOTAL, Anomalies, Fit, Groups, Model, Phase, Seeds, Terms, Train
from inpformer.methods.patched.settings import MaeSettings, PatchedSettings
from inpformer.nn.mae import MaeShape
from inpformer.nn.maps import product_map, spread_scores
from inpformer.nn.means import mean_over_images
from inpformer.nn.optim import mae_adamw
from inpformer.nn.patches import cells, on_one_grid, patch_errors, require_patch

COSINE_WEIGHT = 5.0  # beside the squared error
# Of a channel's mean square, as a share of that of all: a channel below is as good as constant.
SMALLEST_SQUARE = 1e-6


class PatchedModel(Model):
    """All levels of a pyramid side by side on the finest one's grid, which is cut into patches; of a ViT the two halves
    of its blocks. Every channel is divided by its own of `sizes` [C], its root mean square in training images, or 1.
    """

    network: nn.Module

    def __init__(self, settings: PatchedSettings, shape: EncoderShape) -> None:
        """Raises UserError where the patches do not fill the grid."""
        super().__init__()
        self.patch, self._settings = settings.patch, settings
        self.levels = self.wants(settings, shape).shapes(shape.levels)
        self.side = max(level.side for level in self.levels)
        self.channels = sum(level.channels for level in self.levels)
        require_patch(self.patch, self.side)
        self.register_buffer("sizes", torch.ones(self.channels))
        self.sizes: Tensor

    @staticmethod
    def wants(settings: Any, shape: EncoderShape) -> Wants:
        """See `Model`."""
        return every_level(shape)

    def grid(self, groups: Groups) -> Tensor:
        """What is rebuilt: [B, C, S, S]."""
        return on_one_grid(groups, self.side) / self.sizes[:, None, None]

    def scores(self, maps: Tensor) -> Tensor:
        """The standard deviation of each map, at most its largest value."""
        return spread_scores(maps)

    @abstractmethod
    def _loss(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None, seeds: Seeds) -> Terms:
        """See `Train`."""

    @abstractmethod
    def _validate(self, network: Callable[..., Any], groups: Groups, anomalies: Anomalies | None) -> Tensor:
        """See `Train`."""

    def phases(self) -> tuple[Phase, ...]:
        """The sizes are taken, where the settings want them; then the network is trained: AdamW at one rate, nothing
        clipped.
        """
        own = self._settings
        train = Train.at_one_rate(self.network, own, mae_adamw, self._loss, self._validate)
        return (Fit(self._fit_sizes), train) if own.scaled else (train,)

    def _fit_sizes(self, batches: Iterable[Groups]) -> None:
        mean = mean_over_images(
            torch.cat([group.double().square().mean(dim=1) for group in groups], dim=1) for groups in batches
        )
        self.sizes.copy_(mean.clamp(min=SMALLEST_SQUARE * float(mean.mean())).sqrt())

    def _map(self, target: Tensor, rebuilt: Tensor) -> Tensor:
        """Of patches [B, N, p²·C]: [B, 256, 256]."""
        return product_map(cells(target, self.patch), cells(rebuilt, self.patch))

    def _mae_shape(self, settings: MaeSettings) -> MaeShape:
        encoder = settings.width, settings.depth, settings.heads
        decoder = settings.decoder_width, settings.decoder_depth, settings.decoder_heads
        return MaeShape(self.side, self.channels, settings.patch, *encoder, *decoder)


def patch_terms(target: Tensor, rebuilt: Tensor) -> Terms:
    """The loss of patches [B, N, p²·C], and its terms: the mean of 1 - the cosine, and the mean squared error."""
    cosine, squared = patch_errors(target, rebuilt)
    return {TOTAL: COSINE_WEIGHT * cosine + squared, "cosine": cosine, "squared": squared}
