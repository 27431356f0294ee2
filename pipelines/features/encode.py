"""From image files to features in the store: read, checked, decoded, through the encoder, kept."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.errors import UserError
from inpformer.features import SHARD_IMAGES
from inpformer.features.masks import pack_masks
from inpformer.features.store import FeatureStore
from inpformer.images.transform import Transform
from inpformer.images.views import View
from inpformer.streams import chunks
from pipelines.manifest.table import Row


class Encodable(NamedTuple):
    """A view before the encoder: its key in the store, `pixels` [3, S, S], and of a picture with a defect its `mask`
    [256, 256].
    """

    key: str
    pixels: Tensor
    mask: Tensor | None = None


class Pictures(Protocol):
    """The content of an image file, read on one machine, and the views that are made of it, perhaps on another."""

    @property
    def keys(self) -> Sequence[str]:
        """Those of the views."""

    def encodables(self, transform: Transform) -> list[Encodable]:
        """The views."""


@dataclass(frozen=True)
class ImageViews:
    """The content of an image file, and the views of it that are wanted, with their keys in the store."""

    content: bytes
    views: Sequence[View]
    keys: Sequence[str]
    name: str

    def encodables(self, transform: Transform) -> list[Encodable]:
        """The views, in their order."""
        image = transform.open(self.content, self.name)
        return [Encodable(key, view.pixels(image, transform)) for key, view in zip(self.keys, self.views, strict=True)]


def read_image_views(root: Path, row: Row, wanted: Sequence[View]) -> ImageViews:
    """The image of a row, as `read_content` reads it."""
    return ImageViews(read_content(root, row), wanted, [view.key(row.sha256) for view in wanted], str(root / row.path))


def read_content(root: Path, row: Row) -> bytes:
    """The file of a row. The store is keyed by content, so other content must not get in under its key.

    Raises UserError if the file is missing or changed since the manifest was made.
    """
    path = root / row.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro` to take stock anew.") from None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise UserError(f"{path} changed since the manifest was made: run `dvc repro` to take stock anew.")
    return content


def encode_into(
    store: FeatureStore,
    encoder: Encoder,
    kept: Wants | None,
    views: Iterator[Encodable],
    batch_size: int,
    done: Callable[[int], object],
) -> None:
    """Sends views through the encoder, `batch_size` at a time, and keeps what comes out, or what is `kept` of it, in
    shards; after that the masks, if all of the views have one. `done` is told how many views are.
    """
    for shard in chunks(views, SHARD_IMAGES):
        batches = []
        for part in chunks(iter(shard), batch_size):
            levels = encoder.features(torch.stack([one.pixels for one in part]))
            batches.append([one.to("cpu", torch.float16) for one in (levels if kept is None else kept.of(levels))])
            done(len(part))
        together = [torch.cat(level) for level in zip(*batches, strict=True)]
        masks = [one.mask for one in shard if one.mask is not None]
        store.add([one.key for one in shard], [*together, pack_masks(torch.stack(masks))] if masks else together)
