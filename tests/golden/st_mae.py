"""ST-MAE against its authors' modules: the latents of both halves, what is rebuilt, loss, map, score, steps, gradients.

Their own program does not run: the modules are theirs, the order of their use is the paper's.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from inpformer.methods.st_mae.network import StMaeNetwork
from tests.golden.mae import compared, evaluated, load, mae_shape, trained
from tests.golden.row import Row


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    network = StMaeNetwork(mae_shape(meta))
    positions = load(network, golden)
    once = partial(network, golden["features"], golden["shuffle"])
    found = latents(network, golden) | evaluated(network, once)
    steps, first = trained(network, once, meta)
    return [positions, *compared(found | steps, first, golden)]


@torch.no_grad()
def latents(network: StMaeNetwork, golden: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of both halves, as the file calls them."""
    first, second = network.halves(golden["features"], golden["shuffle"])
    return {"eval/latent_first": first, "eval/latent_second": second}
