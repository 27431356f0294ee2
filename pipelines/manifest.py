"""Stage manifest: takes stock of the images, once and completely; everything after it reads this table.

python -m pipelines.manifest --data FOLDER --out MANIFEST.parquet
"""

import argparse
import hashlib
import io
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from inpformer.depth import refuse_deep
from inpformer.errors import UserError
from inpformer.layout import GOOD, Sample, read_mvtec, refuse_all
from inpformer.settings import require
from pipelines import stage
from pipelines.params import read_section


@dataclass(frozen=True)
class ManifestSettings:
    """`data` is the image folder; `val_fraction` of each category's normal training images becomes `val`."""

    data: str
    val_fraction: float = 0.2

    def __post_init__(self) -> None:
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "between 0 and 1, e.g. 0.2")


@dataclass(frozen=True, slots=True)
class Row:
    """One image. `path` and `mask` are relative to the data folder, `mask` "" where there is none; `split` is
    train, val or test; `label` 1 for anomalous; `width` and `height` in pixels; `sha256` (hex) of the file.
    `mask_pixels` counts the mask's set pixels: 0 for an anomalous image means that its mask is empty.
    """

    path: str
    category: str
    split: str
    label: int
    defect: str
    mask: str
    mask_pixels: int
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`root` is the data folder; `digest` (hex) stands for the content of all images and masks and their roles."""

    root: Path
    digest: str
    rows: list[Row]

    def split(self, name: str) -> list[Row]:
        """The rows of one split: train, val or test."""
        return [row for row in self.rows if row.split == name]


def build_manifest(root: Path, settings: ManifestSettings) -> Manifest:
    """Reads every image and mask of `root`.

    Raises UserError that lists all the broken files at once: unreadable images, masks of another size, images
    and masks without their counterpart, categories without good images.
    """
    samples = read_mvtec(root)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(lambda s: _inspect(s, root), samples), "images", len(samples), disable=None))
    refuse_all(problem for problem, _, _ in found if problem)
    rows = [row for _, row, _ in found if row]
    digest = hashlib.sha256()
    for row, (_, _, mask_digest) in zip(rows, found, strict=True):
        digest.update(json.dumps([row.path, row.sha256, mask_digest]).encode())
    return Manifest(root, digest.hexdigest(), _cut_validation(rows, settings.val_fraction))


def _inspect(sample: Sample, root: Path) -> tuple[str, Row | None, str]:
    """What is wrong with a sample (or ""), its row (or None) and its mask's sha256 (or "")."""
    image, problem, digest = _decode(sample.path)
    if image is None:
        return problem, None, ""
    mask_pixels, mask_digest = 0, ""
    if sample.mask is not None:
        mask, problem, mask_digest = _decode(sample.mask)
        if mask is None:
            return problem, None, ""
        if mask.size != image.size:
            sizes = f"{mask.width}×{mask.height}, its image {sample.path} is {image.width}×{image.height} pixels"
            return f"{sample.mask}: the mask is {sizes}", None, ""
        mask_pixels = int(np.count_nonzero(np.asarray(mask.convert("L")) > 127))
    row = Row(
        path=sample.path.relative_to(root).as_posix(),
        category=sample.category,
        split=sample.split,
        label=int(sample.defect != GOOD),
        defect=sample.defect,
        mask=sample.mask.relative_to(root).as_posix() if sample.mask else "",
        mask_pixels=mask_pixels,
        width=image.width,
        height=image.height,
        sha256=digest,
    )
    return "", row, mask_digest


def _decode(path: Path) -> tuple[Image.Image | None, str, str]:
    """The picture, or what is wrong with it, and the sha256 of its file."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            refuse_deep(image, str(path))
            return image, "", hashlib.sha256(content).hexdigest()
    except UserError as error:
        return None, str(error), ""
    except Exception as error:  # Pillow's decoders raise anything from OSError to struct.error
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        return None, f"{path}: it cannot be read ({reason})", ""


def _cut_validation(rows: Iterable[Row], fraction: float) -> list[Row]:
    """Moves `fraction` of each category's training images to val, chosen by their content alone.

    Copies of one image go to the same side, and an added image moves few of the others.
    """
    rows = list(rows)
    chosen: set[tuple[str, str]] = set()
    for category in {row.category for row in rows}:
        digests = sorted({row.sha256 for row in rows if row.category == category and row.split == "train"})
        if len(digests) < 2:
            raise UserError(
                f"category {category} has one good training image: add more, a threshold needs images of its own."
            )
        count = min(len(digests) - 1, max(1, round(fraction * len(digests))))
        chosen |= {(category, digest) for digest in digests[:count]}
    return [
        replace(row, split="val") if row.split == "train" and (row.category, row.sha256) in chosen else row
        for row in rows
    ]


def write_manifest(manifest: Manifest, file: Path) -> None:
    """Writes the table; `read_manifest` is its counterpart."""
    table = pa.Table.from_pylist([asdict(row) for row in manifest.rows])
    table = table.replace_schema_metadata({"root": manifest.root.as_posix(), "digest": manifest.digest})
    with stage.written_whole(file) as temporary:
        pq.write_table(table, temporary)


def read_manifest(file: Path) -> Manifest:
    """Raises UserError if `file` is missing or no manifest."""
    try:
        table = pq.read_table(file)
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = [Row(**{f.name: values[f.name] for f in fields(Row)}) for values in table.to_pylist()]
        return Manifest(Path(metadata["root"]), metadata["digest"], rows)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{file} is no manifest ({error}): run `dvc repro manifest`.") from None


def main() -> None:
    """Writes the manifest and says what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    manifest = build_manifest(args.data, read_section("manifest", ManifestSettings))
    write_manifest(manifest, args.out)
    for category in sorted({row.category for row in manifest.rows}):
        rows = [row for row in manifest.rows if row.category == category]
        counts = {split: sum(row.split == split for row in rows) for split in ("train", "val", "test")}
        anomalous = sum(row.label for row in rows)
        print(
            f"{category}: {counts['train']} train, {counts['val']} val, {counts['test']} test ({anomalous} anomalous)"
        )


if __name__ == "__main__":
    stage.run(main)
