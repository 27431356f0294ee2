"""One shard of the feature store: a safetensors file whose header alone says what is in it, and where.

`features` is [n, G, N, C] float16. The header's metadata holds `views`, 72 hex digits for each row: the key of the
view, 32 bytes, and the checksum of the row, 4 bytes, so that a row read on its own can be checked on its own.
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

from inpformer.errors import UserError
from inpformer.features import SHARD_IMAGES as SHARD_IMAGES

# Enough for the header of a full shard: one read of a bucket gets it.
HEADER_BYTES = 8192
FEATURES, VIEWS = "features", "views"


@dataclass(frozen=True)
class ShardHeader:
    """`keys` [n] of 32 bytes and `crc32` [n] uint32; the rows, of `row_shape` (G, N, C), begin at byte `start`."""

    keys: NDArray[np.bytes_]
    crc32: NDArray[np.uint32]
    row_shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """The size of one row."""
        return row_bytes(self.row_shape)

    @property
    def size(self) -> int:
        """The size of the whole shard in bytes."""
        return self.start + len(self.keys) * self.row_bytes


def row_bytes(row_shape: Sequence[int]) -> int:
    """The size of the features of one view in bytes."""
    return 2 * int(np.prod(row_shape))


def key_array(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """Digests (hex) as an array [n] of 32 bytes each, which sorts as they do."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype="S32")


def pack(keys: Sequence[str], features: Tensor) -> bytes:
    """The bytes of a shard of n views: `keys` their digests (hex), `features` [n, G, N, C].

    Raises UserError if a value does not fit 16 bit.
    """
    half = features.to(torch.float16).cpu().contiguous()
    if not torch.isfinite(half).all():
        raise UserError("the encoder gave values beyond 16 bit: check its weights and the images' transform.")
    rows = [f"{key}{zlib.crc32(row.tobytes()):08x}" for key, row in zip(keys, half.numpy(), strict=True)]
    # In one text: safetensors writes several in no fixed order, and the same shard must have the same bytes.
    return save({FEATURES: half}, metadata={VIEWS: "".join(rows)})


def unpack_header(head: bytes) -> ShardHeader | None:
    """What the first bytes of a shard say; None if they are not of one."""
    length = int.from_bytes(head[:8], "little")
    try:
        header = json.loads(head[8 : 8 + length])
        shape = header[FEATURES]["shape"]
        views = np.frombuffer(bytes.fromhex(header["__metadata__"][VIEWS]), [("key", "S32"), ("crc32", ">u4")])
    except (ValueError, KeyError, TypeError):
        return None
    if len(views) != shape[0]:
        return None
    return ShardHeader(views["key"].copy(), views["crc32"].astype(np.uint32), tuple(shape[1:]), 8 + length)
