"""The flows: what they say of volumes, what they compute in 32 bit, and the unit of their losses and maps."""

import pytest
import torch
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.methods.dadf.flow import Coupling, Flow, Flows, Latents
from inpformer.methods.dadf.losses import dimensions, energy_map, likelihood_map, surprises, worth

LEVELS = (Level(4, 3), Level(2, 5))


def disturbed(network: torch.nn.Module) -> torch.nn.Module:
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


@pytest.fixture
def flows() -> Flows:
    torch.manual_seed(0)
    made = disturbed(Flows(LEVELS, depth=3))
    assert isinstance(made, Flows)
    return made


def grids(images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 3 * one.channels, one.side, one.side, generator=generator) for one in LEVELS]


@pytest.mark.parametrize("channels", [4, 5])
def test_the_logarithm_of_the_determinant_is_that_of_the_jacobian(channels: int) -> None:
    torch.manual_seed(0)
    flow = disturbed(Flow(Level(2, channels), depth=3)).double()
    assert isinstance(flow, Flow)
    flow.norm = torch.nn.Identity()  # type: ignore[assignment]  # which is before the flow
    x = torch.randn(1, channels, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda value: flow(value)[0], x)
    assert isinstance(jacobian, Tensor)
    _, expected = torch.linalg.slogdet(jacobian.reshape(4 * channels, 4 * channels))
    torch.testing.assert_close(flow(x)[1], expected[None])


def test_a_coupling_keeps_half_of_the_channels_but_for_their_scale_and_place() -> None:
    torch.manual_seed(0)
    coupling = Coupling(5, kernel=3)
    x = torch.randn(2, 5, 4, 4)
    with torch.no_grad():
        found, _ = coupling(x)
    back = torch.empty_like(found)
    back[:, coupling.permutation] = found
    torch.testing.assert_close(back[:, :3], x[:, :3])
    assert not torch.isclose(back[:, 3:], x[:, 3:]).all()
    assert sorted(coupling.permutation.tolist()) == list(range(5))


def test_steps_see_neighbours_and_places_alone_in_turn() -> None:
    kernels = [step.subnet[0].kernel_size for step in Flow(Level(4, 6), depth=4).steps]  # type: ignore[index,union-attr]
    assert kernels == [(3, 3), (1, 1), (3, 3), (1, 1)]


def test_in_16_bit_exponents_and_sums_keep_32(flows: Flows) -> None:
    with torch.no_grad():
        exact = flows(*grids())
        with torch.autocast("cpu", torch.bfloat16):
            found = flows(*(grid.bfloat16() for grid in grids()))
    for one, other in zip(found.values + found.log_determinants, exact.values + exact.log_determinants, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.05 * float(other.abs().max()))
    # A channel's own scale is a sum of hundreds of logarithms: in 16 bit it would be wrong in the third digit.
    idle = Flow(Level(16, 30), depth=8)
    for step in idle.steps:
        assert isinstance(step, Coupling)
        for parameter in step.subnet.parameters():
            parameter.data.zero_()
        step.scale.data += 0.1
    with torch.no_grad():
        alone = idle(torch.randn(1, 30, 16, 16))[1]
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(idle(torch.randn(1, 30, 16, 16).bfloat16())[1], alone)


def test_losses_are_means_over_images_and_a_number_of_an_image_is_counted_once() -> None:
    values = [torch.full((2, 3, 4, 4), 2.0), torch.zeros(2, 5, 2, 2)]
    values[0][1] = 4.0
    latents = Latents(values, [torch.tensor([1.0, 3.0]), torch.tensor([-5.0, -7.0])])
    assert surprises(latents).tolist() == [(48 * 4 / 2 + 48 * 16 / 2) / 2 - 2.0, 6.0]
    assert dimensions(latents).tolist() == [48, 20]


def test_a_loss_that_reads_as_another_value_keeps_its_gradient() -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = worth(x.square().sum(), x.square().sum() / 1e5)
    assert float(loss.detach()) == pytest.approx(25e-5, rel=1e-6)
    loss.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 8.0]


def test_energies_have_the_order_of_likelihoods_and_tell_very_unlikely_places_apart() -> None:
    square = torch.tensor([0.0, 1.0, 1.1, 20.0, 60.0, 120.0, 1e6])
    latents = Latents([square.sqrt()[None, None].expand(1, 6, 7, 7)], [torch.zeros(1)])
    likelihood = likelihood_map(latents, 7)
    energy = energy_map(likelihood)
    assert float(likelihood.min()) == pytest.approx(-torch.e)
    torch.testing.assert_close(energy[0, 0, :6], square[:6] / 2, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(energy).all()
    assert (energy[0, 0].diff() > 0).all()
