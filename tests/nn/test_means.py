"""A mean over images, however they come in batches."""

import pytest
import torch

from inpformer.errors import UserError
from inpformer.nn.means import mean_over_images


def test_batches_of_any_size_have_the_mean_of_all_images() -> None:
    images = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    found = mean_over_images(iter((images[:4], images[4:4], images[4:])))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, images.double().mean(dim=0))


def test_no_image_is_an_error() -> None:
    with pytest.raises(UserError, match="no training features"):
        mean_over_images([])
