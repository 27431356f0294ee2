"""A mean over all training images, as phases without gradient take them: a batch at a time."""

from collections.abc import Iterable

from torch import Tensor

from inpformer.errors import UserError


def mean_over_images(batches: Iterable[Tensor]) -> Tensor:
    """Of batches [B, …] the mean [...], float64. Raises UserError where there is no image."""
    images, total = 0, None
    for batch in batches:
        own = batch.double().sum(dim=0)
        images, total = images + len(batch), own if total is None else total + own
    if total is None:
        raise UserError("there are no training features to measure: add training images.")
    mean: Tensor = total / images
    return mean
