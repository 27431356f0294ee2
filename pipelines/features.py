"""Stage features: sends each training image through the frozen encoder once and keeps what came out.

python -m pipelines.features --manifest MANIFEST.parquet --out FEATURES.json

The features lie in the store (`features.store`), keyed by content; the output is a small index that says which.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from inpformer.encoder import Encoder, EncoderSettings, load_encoder
from inpformer.errors import UserError
from inpformer.settings import build, require
from inpformer.store import SHARD_IMAGES, FeatureStore, Place
from pipelines import stage
from pipelines.manifest import Manifest, Row, read_manifest
from pipelines.params import read_section


@dataclass(frozen=True)
class FeatureSettings:
    """`store` is the folder of the feature store, which runs, branches and colleagues may share; `batch_size`
    images go through the encoder at a time.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    store: str = ".features"
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(1 <= self.batch_size <= SHARD_IMAGES, "batch_size", self.batch_size, f"between 1 and {SHARD_IMAGES}")
        require("://" not in self.store, "store", self.store, "a folder")


@dataclass(frozen=True)
class FeatureIndex:
    """What the features are: the encoder that made them, and the images they were made of (a digest of their
    digests). It holds nothing of where they lie, so it is the same whoever computed them.
    """

    encoder: EncoderSettings
    encoder_key: str
    encoder_digest: str
    images: int
    images_digest: str


def compute_features(manifest: Manifest, encoder: Encoder, settings: FeatureSettings) -> FeatureIndex:
    """Encodes the train and val images that the store lacks, shard by shard.

    Memory does not grow with the number of images. Shards that were damaged are computed again.
    Raises UserError if an image is missing, unreadable or not the one that the manifest saw.
    """
    store = FeatureStore(Path(settings.store), encoder.key)
    wanted = {row.sha256: row for row in manifest.rows if row.split != "test"}
    places = store.places()
    if damaged := store.discard_damaged({places[digest].shard for digest in wanted if digest in places}):
        print(f"{len(damaged)} damaged feature shards are removed and computed again")
        places = store.places()
    missing = [row for digest, row in wanted.items() if digest not in places]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} images are in the store {store.folder}")
    with tqdm(total=len(missing), desc="encoding", unit="image", disable=None) as progress:
        for rows in _chunks(missing, SHARD_IMAGES):
            features = []
            for part, images in _read_ahead(manifest.root, list(_chunks(rows, settings.batch_size))):
                features.append(encoder.encode(images).to("cpu", torch.float16))
                progress.update(len(part))
            store.add([row.sha256 for row in rows], torch.cat(features))
    together = hashlib.sha256("".join(sorted(wanted)).encode()).hexdigest()
    return FeatureIndex(encoder.settings, encoder.key, encoder.digest, len(wanted), together)


def _chunks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _read_ahead(root: Path, parts: Sequence[Sequence[Row]]) -> Iterator[tuple[Sequence[Row], list[Image.Image]]]:
    """Decodes the next batch while the encoder works on this one."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = [pool.submit(_read_checked, root, row) for row in parts[0]]
        for number, part in enumerate(parts):
            images = [future.result() for future in pending]
            if number + 1 < len(parts):
                pending = [pool.submit(_read_checked, root, row) for row in parts[number + 1]]
            yield part, images


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


def find_features(store: FeatureStore, rows: Sequence[Row]) -> dict[str, Place]:
    """Where the features of `rows` lie, by the sha256 of the image, each shard verified.

    Raises UserError if one is missing or damaged.
    """
    everything = store.places()
    lost = [row.path for row in rows if row.sha256 not in everything]
    if lost:
        raise UserError(
            f"the store {store.folder} lacks the features of {len(lost)} images, such as {lost[0]}: "
            "run `dvc repro --force --single-item features`."
        )
    places = {row.sha256: everything[row.sha256] for row in rows}
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
