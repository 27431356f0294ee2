"""Pairs of models whose true difference is known, and random test sets of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from inpformer.metrics.bootstrap import image_replicates, mean_replicates
from inpformer.metrics.image import image_metrics
from inpformer.metrics.paired import Paired, mean_of
from inpformer.metrics.pixel_bootstrap import PixelReplicateStream
from inpformer.metrics.settings import BootstrapSettings

LOWEST = -100.0  # a score below all others
Rng = np.random.Generator
# Differences of parts, or scores of two models with their labels and parts.
Draw = Callable[[Rng], Paired]


@dataclass(frozen=True)
class Sizes:
    """`categories` of `parts` parts of each class, with `images` images each; every other category has `unequal` times
    as many parts.
    """

    parts: int
    categories: int = 1
    images: int = 1
    unequal: int = 1

    def of(self, category: int) -> int:
        """The parts of a category and class."""
        return self.parts * (self.unequal if category % 2 else 1)


def shares(sizes: Sizes, lost: float, won: float, replicates: int, alone: bool = False) -> Draw:
    """Recall or specificity: a part is lost with probability `lost` and won with `won`; `alone`: all the losses are in
    the first category.
    """

    def draw(rng: Rng) -> Paired:
        found = []
        for category in range(sizes.categories):
            n = sizes.of(category)
            share = lost * sizes.categories * (category == 0) if alone else lost
            chance = rng.random(n)
            values = np.where(chance < share, -1.0, np.where(chance > 1 - won, 1.0, 0.0))
            settings = BootstrapSettings(replicates, seed=int(rng.integers(2**31)))
            drawn = mean_replicates(values, np.zeros(n, bool), settings, smooth=True)
            found.append(Paired(float(values.mean()), drawn[1:], n))
        return mean_of(found)

    return draw


def separations(
    sizes: Sizes,
    replicates: int,
    auroc: float,
    worse: float,
    rare: str = "",
    levels: int | None = None,
    alike: float = 0.5,
) -> Draw:
    """Image AUROC of normal scores: the champion's true one is `auroc`, the challenger's lower by `worse`. By default
    all its scores are a little less apart; with `rare` "defective" or "good" parts of that class are ranked as wrong as
    can be, as seldom as makes up the difference. `levels` rounds scores to so many, which ties them. `alike` is the
    correlation of the two models' scores.
    """
    apart = np.sqrt(2) * ndtri(auroc)
    shift = apart if rare else np.sqrt(2) * ndtri(auroc - worse)
    share = worse / auroc

    def draw(rng: Rng) -> Paired:
        found = []
        for category in range(sizes.categories):
            n = sizes.of(category)
            labels = np.repeat([0, 1], n * sizes.images)
            groups = np.repeat(np.arange(2 * n), sizes.images)
            common, own, other = (_noise(rng, groups, sizes.images) for _ in range(3))
            champion = np.sqrt(alike) * common + np.sqrt(1 - alike) * own + apart * labels
            challenger = np.sqrt(alike) * common + np.sqrt(1 - alike) * other + shift * labels
            odd = (rng.random(2 * n) < share)[groups]
            if rare:
                challenger = np.where(
                    odd & (labels == (rare == "defective")), LOWEST * (1 if rare == "defective" else -1), challenger
                )
            scores = [_rounded(one, levels).astype(np.float32) for one in (challenger, champion)]
            settings = BootstrapSettings(replicates, seed=int(rng.integers(2**31)))
            names = [str(group) for group in groups]
            drawn = [image_replicates(one, labels, settings, names, smooth=True)["image_auroc"] for one in scores]
            values = [image_metrics(one, labels).auroc for one in scores]
            found.append(Paired(values[0] - values[1], (drawn[0] - drawn[1])[1:], n))
        return mean_of(found)

    return draw


def _noise(rng: Rng, groups: NDArray[np.intp], images: int) -> NDArray[np.float64]:
    """Standard normal; images of one part have half of it in common."""
    alone = rng.normal(size=groups.size)
    if images == 1:
        return alone
    return np.sqrt(0.5) * (alone + rng.normal(size=groups.max() + 1)[groups])


def _rounded(scores: NDArray[np.float64], levels: int | None) -> NDArray[np.float64]:
    if levels is None:
        return scores
    low, high = -3.0, 6.0
    step = (high - low) / levels
    return np.where(np.abs(scores) < -LOWEST / 2, np.round(scores / step) * step, scores)


def places(sizes: Sizes, replicates: int, measure: str, rare: float, good: bool = False) -> Draw:
    """P-AP or AUPRO of one category's maps in which the champion finds every defect: of a share `rare` of the defective
    parts the challenger sees nothing; with `good` it sees defects all over a share of the good ones instead.
    """
    side = 12
    mask = np.zeros((side, side), bool)
    mask[4:7, 4:7] = True
    nothing = np.zeros_like(mask)

    def draw(rng: Rng) -> Paired:
        settings = BootstrapSettings(replicates, seed=int(rng.integers(2**31)))
        found = []
        odd = rng.random(2 * sizes.parts) < rare
        noise = np.round(rng.normal(size=(2 * sizes.parts, side, side)), 1).astype(np.float32)
        for worse in (True, False):
            with PixelReplicateStream(settings, smooth=True) as stream:
                for number, one in enumerate(noise):
                    defective = number >= sizes.parts
                    seen = one + 20.0 * (mask & defective)
                    if worse and odd[number]:
                        if defective and not good:
                            seen = np.where(mask, LOWEST, one)
                        elif good and not defective:
                            seen = one - LOWEST
                    stream.add(seen.astype(np.float32), mask if defective else nothing)
                found.append(stream.result()[measure])
        difference = found[0] - found[1]
        return Paired(float(difference[0]), difference[1:], sizes.parts)

    return draw
