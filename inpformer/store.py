"""The feature store: what the frozen encoder made of each image, computed once and shared by everyone.

A store is a folder. Under it, one folder an encoder key, and in that, shards: safetensors files of up to
`SHARD_IMAGES` images with `features` [n, G, N, C] float16 and `sha256` [n, 32], the digests of the image files.
A shard is named by the sha256 of its own bytes and appears whole, by renaming, or not at all: a killed run leaves
what it finished, and runs side by side share what either finishes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inpformer.errors import UserError

SHARD_IMAGES = 64
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Place:
    """Where an image's features lie: the shard's digest (hex) and the row in it."""

    shard: str
    row: int


class FeatureStore:
    """The shards of one encoder in a store."""

    def __init__(self, folder: Path, encoder_key: str) -> None:
        self.folder = folder / encoder_key

    def places(self) -> dict[str, Place]:
        """Every image in the store: the sha256 (hex) of its file, and where its features lie."""
        found = {}
        for shard in sorted(self.folder.glob(f"*{SUFFIX}")):
            for row, digest in enumerate(_read_digests(shard)):
                found[digest] = Place(shard.stem, row)
        return found

    def add(self, digests: Sequence[str], features: Tensor) -> None:
        """Writes one shard: `features` [n, G, N, C], `digests` the sha256 (hex) of the n image files.

        Raises UserError if a value does not fit 16 bit or the disk does not take the shard.
        """
        half = features.to(torch.float16).cpu().contiguous()
        if not torch.isfinite(half).all():
            raise UserError("the encoder gave values beyond 16 bit: check its weights and the images' transform.")
        rows = torch.frombuffer(bytearray.fromhex("".join(digests)), dtype=torch.uint8).view(len(digests), 32)
        temporary = self.folder / f".{uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not by save_file: it makes a file that only its owner may read, and colleagues share the store.
            temporary.write_bytes(save({"features": half, "sha256": rows}))
            temporary.replace(self.folder / f"{_file_digest(temporary)}{SUFFIX}")
        except (OSError, SafetensorError) as error:
            raise UserError(f"the feature store {self.folder} takes no shard ({error}): free or change it.") from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def discard_damaged(self, shards: Iterable[str]) -> list[str]:
        """Removes the shards whose bytes no longer have their digest; returns their names."""
        damaged = [shard for shard in shards if not self._is_whole(shard)]
        for shard in damaged:
            self._path(shard).unlink(missing_ok=True)
        return damaged

    def verify(self, shards: Iterable[str]) -> None:
        """Raises UserError naming a shard that is missing or whose bytes have another digest."""
        for shard in shards:
            if not self._is_whole(shard):
                state = "has a wrong digest" if self._path(shard).exists() else "is missing"
                raise UserError(
                    f"feature shard {self._path(shard)} {state}: "
                    "run `dvc repro --force --single-item features` to compute it again."
                )

    def _is_whole(self, shard: str) -> bool:
        path = self._path(shard)
        return path.exists() and _file_digest(path) == shard

    def _path(self, shard: str) -> Path:
        return self.folder / f"{shard}{SUFFIX}"

    def read(self, places: Sequence[Place]) -> Tensor:
        """The features at `places`, in their order: [n, G, N, C] float16."""
        rows = []
        for place in places:
            with safe_open(self._path(place.shard), framework="pt") as shard:
                rows.append(shard.get_slice("features")[place.row : place.row + 1])
        return torch.cat(rows)


def _read_digests(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, framework="pt") as shard:
            table: Tensor = shard.get_tensor("sha256")
    except (SafetensorError, OSError):
        return  # not whole: as if it were not there
    for row in table:
        yield row.numpy().tobytes().hex()


def _file_digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def batches(store: FeatureStore, places: Mapping[str, Place], order: Sequence[str], size: int) -> Iterator[Tensor]:
    """The features of the images `order` (sha256, hex), up to `size` at a time: [n, G, N, C] float16."""
    for start in range(0, len(order), size):
        yield store.read([places[digest] for digest in order[start : start + size]])
