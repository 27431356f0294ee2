"""From image files to features in the store: read, checked, decoded, through the encoder, kept."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.errors import UserError
from inpformer.features import SHARD_IMAGES
from inpformer.features.store import FeatureStore
from inpformer.images.opening import open_image
from inpformer.images.transform import Transform
from inpformer.images.views import View
from inpformer.streams import chunks
from pipelines.manifest.table import Row


@dataclass(frozen=True)
class ImageViews:
    """The content of an image file, and the views of it that are wanted, with their keys in the store."""

    content: bytes
    views: Sequence[View]
    keys: Sequence[str]
    name: str

    def pixels(self, transform: Transform) -> list[tuple[str, Tensor]]:
        """Key and pixels [3, S, S] of each view."""
        image = open_image(self.content, self.name)
        return [(key, view.pixels(image, transform)) for key, view in zip(self.keys, self.views, strict=True)]


def read_image_views(root: Path, row: Row, wanted: Sequence[View]) -> ImageViews:
    """The image of a row. The store is keyed by content, so other content must not get in under its key.

    Raises UserError if the file is missing or changed since the manifest was made.
    """
    path = root / row.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro` to take stock anew.") from None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise UserError(f"{path} changed since the manifest was made: run `dvc repro` to take stock anew.")
    return ImageViews(content, wanted, [view.key(row.sha256) for view in wanted], str(path))


def encode_into(
    store: FeatureStore,
    encoder: Encoder,
    kept: Wants | None,
    pixels: Iterator[tuple[str, Tensor]],
    batch_size: int,
    done: Callable[[int], object],
) -> None:
    """Sends views (key and pixels [3, S, S]) through the encoder, `batch_size` at a time, and keeps what comes out, or
    what is `kept` of it, in shards; `done` is told how many views are.
    """
    for shard in chunks(pixels, SHARD_IMAGES):
        batches = []
        for part in chunks(iter(shard), batch_size):
            levels = encoder.features(torch.stack([one for _, one in part]))
            batches.append([one.to("cpu", torch.float16) for one in (levels if kept is None else kept.of(levels))])
            done(len(part))
        store.add([key for key, _ in shard], [torch.cat(level) for level in zip(*batches, strict=True)])
