"""One shard of the feature store: a safetensors file whose header alone says what is in it, and where.

`features` is [n, numbers] float16, a row a view: its levels one after the other, each N tokens of C channels. The
header's metadata says which levels, and holds 72 hex digits for each row: the key of the view, 32 bytes, and the
checksum of the row, 4 bytes, so that a row read on its own can be checked on its own.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from inpformer.encoders.shapes import Level
from inpformer.errors import UserError

# Enough for the header of a full shard: one read of a bucket gets it.
HEADER_BYTES = 8192
FEATURES, VIEWS = "features", "views"
LEVELS = "levels"


@dataclass(frozen=True)
class ShardHeader:
    """`keys` [n] of 32 bytes and `crc32` [n] uint32; the rows, each of `levels`, begin at byte `start`."""

    keys: NDArray[np.bytes_]
    crc32: NDArray[np.uint32]
    levels: tuple[Level, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """The size of one row."""
        return row_bytes(self.levels)

    @property
    def size(self) -> int:
        """The size of the whole shard in bytes."""
        return self.start + len(self.keys) * self.row_bytes


def row_bytes(levels: Sequence[Level]) -> int:
    """The size of the features of one view in bytes."""
    return 2 * sum(level.tokens * level.channels for level in levels)


def key_array(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """Digests (hex) as an array [n] of 32 bytes each, which sorts as they do."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype="S32")


def pack(keys: Sequence[str], features: Sequence[Tensor]) -> bytes:
    """The bytes of a shard of n views: `keys` their digests (hex), `features` their levels, each [n, N, C].

    Raises UserError if a value does not fit 16 bit.
    """
    levels = [(round(level.shape[1] ** 0.5), level.shape[2]) for level in features]
    half = torch.cat([level.flatten(1).to("cpu", torch.float16) for level in features], dim=1).contiguous()
    if not torch.isfinite(half).all():
        raise UserError("the encoder gave values beyond 16 bit: check its weights and the images' transform.")
    rows = [f"{key}{zlib.crc32(row.tobytes()):08x}" for key, row in zip(keys, half.numpy(), strict=True)]
    # In one text: safetensors writes several in no fixed order, and the same shard must have the same bytes.
    return save({FEATURES: half}, metadata={VIEWS: json.dumps({LEVELS: levels, VIEWS: "".join(rows)})})


def unpack_header(head: bytes) -> ShardHeader | None:
    """What the first bytes of a shard say; None if they are not of one."""
    length = int.from_bytes(head[:8], "little")
    try:
        header = json.loads(head[8 : 8 + length])
        shape = header[FEATURES]["shape"]
        said = json.loads(header["__metadata__"][VIEWS])
        levels = tuple(Level(int(side), int(channels)) for side, channels in said[LEVELS])
        views = np.frombuffer(bytes.fromhex(said[VIEWS]), [("key", "S32"), ("crc32", ">u4")])
    except (ValueError, KeyError, TypeError):
        return None
    if (shape[0], 2 * shape[1]) != (len(views), row_bytes(levels)):
        return None
    return ShardHeader(views["key"].copy(), views["crc32"].astype(np.uint32), levels, 8 + length)
