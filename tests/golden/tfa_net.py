"""TFA-Net against its authors' code: what is rebuilt, loss, map, score, steps and gradients."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from inpformer.methods.tfa_net.network import TfaNetwork
from tests.golden.mae import compared, evaluated, load, mae_shape, trained
from tests.golden.row import Row


def rows(meta: Mapping[str, str], golden: Mapping[str, Tensor]) -> list[Row]:
    """All groups, in the order in which the method computes them."""
    network = TfaNetwork(mae_shape(meta))
    positions = load(network, golden)
    once = partial(run, network, golden)
    found = evaluated(network, once)
    steps, first = trained(network, once, meta)
    return [positions, *compared(found | steps, first, golden)]


def run(network: TfaNetwork, golden: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The file's images with its one reference: patches and what is made of them."""
    features, reference = golden["features"], golden["reference_features"]
    found: tuple[Tensor, Tensor] = network(features, reference.expand(len(features), -1, -1, -1))
    return found
