"""Stage features: sends each view of a training image through the frozen encoder once and keeps what came out.

python -m pipelines.features --manifest MANIFEST.parquet --out FEATURES.json

The features lie in the store (`features.store`), keyed by content; the output is a small index that says which.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from inpformer.encoder import Encoder, EncoderSettings, load_encoder
from inpformer.errors import UserError
from inpformer.settings import build, require
from inpformer.store import SHARD_IMAGES, FeatureStore, Place
from inpformer.tiling import Tiling
from inpformer.transform import Transform
from inpformer.views import View, views
from pipelines import stage
from pipelines.manifest import Manifest, Row, read_manifest
from pipelines.params import read_section

T = TypeVar("T")
IMAGES_AHEAD = 8


@dataclass(frozen=True)
class FeatureSettings:
    """`tiling` cuts images into tiles, null takes each whole. `store` is the folder of the feature store, which
    runs, branches and colleagues may share; `batch_size` views go through the encoder at a time.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    tiling: Tiling | None = None
    store: str = ".features"
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(1 <= self.batch_size <= SHARD_IMAGES, "batch_size", self.batch_size, f"between 1 and {SHARD_IMAGES}")
        require(
            self.tiling is None or self.encoder.crop == self.encoder.resize,
            "encoder.crop",
            self.encoder.crop,
            f"equal to resize, {self.encoder.resize}, with tiling: else every tile's margin would go uninspected",
        )
        require("://" not in self.store, "store", self.store, "a folder")


@dataclass(frozen=True)
class FeatureIndex:
    """What the features are: the encoder that made them, and the views of images they were made of (a digest of
    their keys). It holds nothing of where they lie, so it is the same whoever computed them.
    """

    encoder: EncoderSettings
    encoder_key: str
    encoder_digest: str
    tiling: Tiling | None
    views: int
    views_digest: str


def row_views(row: Row, tiling: Tiling | None, shots: int | None) -> list[View]:
    """The views of an image: its tiles, and in few-shot training the 22 forms of each."""
    return views((row.width, row.height), tiling, augmented=shots is not None and row.split == "train")


def feature_keys(rows: Iterable[Row], tiling: Tiling | None, shots: int | None) -> list[str]:
    """The keys in the store of all views of `rows`, each once, in an order that does not depend on file names."""
    return sorted({view.key(row.sha256) for row in rows for view in row_views(row, tiling, shots)})


def compute_features(manifest: Manifest, encoder: Encoder, settings: FeatureSettings) -> FeatureIndex:
    """Encodes the views of train and val images that the store lacks, shard by shard.

    Memory does not grow with the number of images. Shards that were damaged are computed again.
    Raises UserError if an image is missing, unreadable or not the one that the manifest saw.
    """
    store = FeatureStore(Path(settings.store), encoder.key)
    rows = {(row.sha256, row.split): row for row in manifest.rows if row.split != "test"}
    wanted = feature_keys(rows.values(), settings.tiling, manifest.shots)
    places = store.places()
    if damaged := store.discard_damaged({places[key].shard for key in wanted if key in places}):
        print(f"{len(damaged)} damaged feature shards are removed and computed again")
        places = store.places()
    missing = []
    for row in rows.values():
        if lacking := [v for v in row_views(row, settings.tiling, manifest.shots) if v.key(row.sha256) not in places]:
            missing.append((row, lacking))
    count = sum(len(lacking) for _, lacking in missing)
    print(f"{len(wanted) - count} of {len(wanted)} views of {len(rows)} images are in the store {store.folder}")
    with tqdm(total=count, desc="encoding", unit="view", disable=None) as progress:
        for shard in _chunks(_pixels(manifest.root, missing, encoder.transform), SHARD_IMAGES):
            features = []
            for part in _chunks(iter(shard), settings.batch_size):
                pixels = torch.stack([pixels for _, pixels in part])
                features.append(encoder.features(pixels).to("cpu", torch.float16))
                progress.update(len(part))
            store.add([key for key, _ in shard], torch.cat(features))
    together = hashlib.sha256("".join(wanted).encode()).hexdigest()
    return FeatureIndex(encoder.settings, encoder.key, encoder.digest, settings.tiling, len(wanted), together)


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _pixels(
    root: Path, missing: Sequence[tuple[Row, list[View]]], transform: Transform
) -> Iterator[tuple[str, Tensor]]:
    """Key and pixels [3, S, S] of each view; the next images are decoded while the encoder works."""
    pending: list[Future[list[tuple[str, Tensor]]]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, lacking in missing:
            pending.append(pool.submit(_read_views, root, row, lacking, transform))
            if len(pending) > IMAGES_AHEAD:
                yield from pending.pop(0).result()
        for future in pending:
            yield from future.result()


def _read_views(root: Path, row: Row, wanted: Sequence[View], transform: Transform) -> list[tuple[str, Tensor]]:
    image = _read_checked(root, row)
    return [(view.key(row.sha256), view.pixels(image, transform)) for view in wanted]


def _read_checked(root: Path, row: Row) -> Image.Image:
    """The picture of a row. The store is keyed by content, so other content must not get in under its key."""
    path = root / row.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro` to take stock anew.") from None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise UserError(f"{path} changed since the manifest was made: run `dvc repro` to take stock anew.")
    with Image.open(BytesIO(content)) as image:
        image.load()
        return image


def write_index(index: FeatureIndex, file: Path) -> None:
    """Writes the index; `read_index` is its counterpart."""
    with stage.written_whole(file) as temporary:
        temporary.write_text(json.dumps(asdict(index), indent=2) + "\n")


def read_index(file: Path) -> FeatureIndex:
    """Raises UserError if `file` is missing or no feature index."""
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no feature index ({error}): run `dvc repro features`.") from None
    return build(FeatureIndex, values, str(file))


def find_features(store: FeatureStore, keys: Sequence[str]) -> dict[str, Place]:
    """Where the features of the views `keys` lie, each shard verified.

    Raises UserError if one is missing or damaged.
    """
    everything = store.places()
    if lost := sum(key not in everything for key in keys):
        raise UserError(
            f"the store {store.folder} lacks the features of {lost} of {len(keys)} views: "
            "run `dvc repro --force --single-item features`."
        )
    places = {key: everything[key] for key in keys}
    store.verify({place.shard for place in places.values()})
    return places


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Fills the store and writes the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    settings = read_section("features", FeatureSettings)
    manifest = read_manifest(args.manifest)
    encoder = load_encoder(settings.encoder).to(best_device())
    write_index(compute_features(manifest, encoder, settings), args.out)


if __name__ == "__main__":
    stage.run(main)
