"""Which blocks of a ViT are tapped, by family and depth: without torch, as settings are checked without it."""

from inpformer.errors import UserError

# INP-Former's, for a ViT-S or ViT-B (12 blocks) and a ViT-L (24 blocks).
MIDDLE = {12: tuple(range(2, 10)), 24: tuple(range(4, 19, 2))}
# DINOv3's middle blocks failed where its last four did well (Dinomaly's issue 21: ViT-L, 512 px).
LAST = 4


def middle_taps(depth: int) -> tuple[int, ...]:
    """The blocks (0-based) that INP-Former reads of a plain ViT. Raises UserError for a depth without a default."""
    if depth not in MIDDLE:
        raise UserError(
            f"features.encoder.taps is null, but a plain ViT of {depth} blocks has no default, only one of 12 or 24: "
            "name the blocks to read, an even number of them."
        )
    return MIDDLE[depth]


def last_taps(depth: int) -> tuple[int, ...]:
    """The last four blocks (0-based), which are read of a DINOv3. Raises UserError if there are fewer."""
    if depth < LAST:
        raise UserError(
            f"features.encoder.taps is null, but the encoder has {depth} blocks: the default reads the last {LAST}."
        )
    return tuple(range(depth - LAST, depth))


def check_taps(taps: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """`taps` as they are. Raises UserError if the encoder has not all of them."""
    if taps[-1] >= depth:
        raise UserError(
            f"features.encoder.taps holds {taps[-1]}: the encoder's {depth} blocks are numbered 0 to {depth - 1}."
        )
    return taps
