"""What methods share: which levels they read of an encoder, and whether these need a projection."""

from inpformer.config import require
from inpformer.encoders.levels import Wants
from inpformer.encoders.shapes import VIT_GROUPS, EncoderShape, Level
from inpformer.errors import UserError


def token_wants(shape: EncoderShape, grid: int | None) -> Wants:
    """All levels of the network: a ViT's blocks as the means of their first and second half, a pyramid's side by side
    on `grid`.

    Raises UserError where `grid` does not suit the encoder, and where it has no network.
    """
    numbers = network_levels(shape)
    if shape.heads is None:
        require(grid is not None, "grid", grid, "the tokens a side that a convolutional encoder's levels get, e.g. 16")
        assert grid is not None
        return Wants((numbers,), "channels", (grid,))
    require(grid is None, "grid", grid, "null: a ViT's blocks share one grid")
    share = len(numbers) // VIT_GROUPS
    return Wants(tuple(numbers[n * share : (n + 1) * share] for n in range(VIT_GROUPS)))


def every_level(shape: EncoderShape) -> Wants:
    """Each level of a pyramid on its own grid; of a ViT its blocks as the means of their first and second half."""
    if shape.heads is not None:
        return token_wants(shape, None)
    return Wants(tuple((number,) for number in network_levels(shape)))


def network_levels(shape: EncoderShape) -> tuple[int, ...]:
    """The numbers of the network's levels. Raises UserError where there is none."""
    numbers = shape.of_network
    right = "at least 1, e.g. [8, 16] in features.encoder.levels: 1 there is the picture itself, which none is read of"
    require(len(numbers) > 0, "the number of the network's levels", len(numbers), right)
    return numbers


def picture_level(shape: EncoderShape) -> int:
    """The number of the level that is the picture itself. Raises UserError where there is none."""
    if shape.picture is None:
        raise UserError(
            "the picture itself is not among the encoder's levels: put 1, its stride, into features.encoder.levels of "
            "a convolutional encoder, e.g. [1, 8, 16]."
        )
    return shape.picture


def projected_channels(shape: EncoderShape, groups: tuple[Level, ...], channels: int | None) -> int | None:
    """The channels of the projection that these groups need, None for a ViT's.

    Raises UserError where `channels` does not suit the encoder.
    """
    if shape.heads is not None:
        require(channels is None, "channels", channels, "null: a ViT needs no projection")
        return None
    most = groups[0].channels
    right = f"at most {most}, the channels of the encoder's levels, e.g. 128"
    require(channels is not None and channels <= most, "channels", channels, right)
    return channels


def patch_wants(shape: EncoderShape) -> Wants:
    """All levels of a pyramid's network, the finest first, each on its own grid, which patches cut into the places of
    the coarsest; of a ViT the two halves of its blocks.

    Raises UserError where patches do not fit a grid, and where there is no network.
    """
    if shape.heads is not None:
        return token_wants(shape, None)
    numbers = sorted(network_levels(shape), key=lambda number: -shape.levels[number].side)
    coarsest = shape.levels[numbers[-1]].side
    for side in (shape.levels[number].side for number in numbers):
        right = f"a multiple of {coarsest}, the coarsest one's: use a features.encoder.crop that all strides divide"
        require(side % coarsest == 0, "the side of one of the encoder's levels", side, right)
    return Wants(tuple((number,) for number in numbers))
