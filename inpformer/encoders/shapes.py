"""The shapes of what an encoder gives: without torch, so that files can be read and settings checked without it."""

from dataclasses import dataclass

# A ViT's tapped blocks are averaged by halves: INP-Former's grouping.
VIT_GROUPS = 2


@dataclass(frozen=True)
class Level:
    """One level of a pyramid, or one block of a ViT: `side`² tokens of `channels`, row by row."""

    side: int
    channels: int

    @property
    def tokens(self) -> int:
        """N."""
        return self.side**2


@dataclass(frozen=True)
class EncoderShape:
    """The levels that an encoder gives, in its order; `heads` are a ViT's, None for a convolutional network; `picture`
    is the number of the level that is the picture itself, None where there is none.
    """

    levels: tuple[Level, ...]
    heads: int | None
    picture: int | None = None

    @property
    def of_network(self) -> tuple[int, ...]:
        """The numbers of the levels that are the network's: all but the picture."""
        return tuple(number for number in range(len(self.levels)) if number != self.picture)
