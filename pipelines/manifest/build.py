"""Takes stock of the images, once and completely; everything after it reads this table."""

import hashlib
import json
import os
from argparse import Namespace
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from inpformer.errors import UserError
from inpformer.images.deep import DeepPicture
from inpformer.images.layouts import detect, list_data
from inpformer.images.layouts.masks import union
from inpformer.images.layouts.sample import GOOD, Problem, Sample, Unreachable, refuse_all
from inpformer.images.opening import open_as_it_is, open_image
from pipelines.manifest.few import few_images
from pipelines.manifest.saturations import saturated_shares
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.splits import cut_validation, keep_shots, name_parts, refuse_leaks
from pipelines.manifest.table import Manifest, Row, write_manifest
from pipelines.platform.params import read_section

T = TypeVar("T")


def build_manifest(root: Path, settings: ManifestSettings) -> Manifest:
    """Reads every image and mask of `root`.

    Raises UserError that lists all that is wrong at once: files that cannot be used, masks of another size, images and
    masks without their counterpart, categories without good images; and if nothing is, all that stands against a
    split. Also if `root` is a file: DVC would watch it alone, and changed images would leave stale results.
    """
    if root.is_file():
        raise UserError(f"{root} is a file: name its folder in manifest.data, where a table is called samples.csv.")
    data = list_data(root, settings.layout, parquet=_read_parquet)
    told = {known.place for known in data.problems if isinstance(known, Unreachable)}

    def inspect(sample: Sample) -> tuple[Row, list[str]] | list[Problem]:
        return _inspect(sample, data.root, told)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(inspect, data.samples), "images", len(data.samples), disable=None))
    refuse_all([*data.problems, *(one for item in found if isinstance(item, list) for one in item)])
    inspected = [pair for pair in found if not isinstance(pair, list)]
    rows = [row for row, _ in inspected]
    if settings.part is not None:
        rows = name_parts(rows, settings.part)
    rows = cut_validation(rows, settings.val_fraction)
    refuse_leaks(rows)
    if settings.shots is not None:
        rows = keep_shots(rows, settings.shots)
    masks = {row.path: digests for row, digests in inspected}
    digest = hashlib.sha256()
    for row in rows:
        identity = asdict(row)
        # Manifests that are older than these keep their digest: sha256 settles the one, most data has not the other.
        del identity["largest"]
        if not row.saturations:
            del identity["saturations"]
        digest.update(json.dumps([identity, masks[row.path]]).encode())
    return Manifest(data.root, digest.hexdigest(), rows, data.layout, settings.shots)


def _read_parquet(file: Path) -> list[dict[str, object]]:
    try:
        rows: list[dict[str, object]] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file} cannot be read as a Parquet file ({error}): mend it.") from None
    return rows


def _inspect(sample: Sample, root: Path, told: Collection[object]) -> tuple[Row, list[str]] | list[Problem]:
    """A sample's row and its masks' sha256; or all that is wrong with its files, but for those in `told`."""
    problems: list[Problem] = []
    seen = None if sample.path in told else _try(_see, sample.path, problems)
    opened = [None if file in told else _try(_decode, file, problems) for file in sample.masks]
    masks = [pair for pair in opened if pair]
    if seen:
        for file, mask in zip(sample.masks, opened, strict=True):
            if mask and mask[0].size != seen.size:
                width, height = seen.size
                sizes = f"{mask[0].width}×{mask[0].height}, its image is {width}×{height} pixels"
                problems.append(Problem.at(file, f"the mask is {sizes}"))
    if problems or not seen or len(masks) < len(sample.masks):
        return problems
    saturations = saturated_shares(sample, [mask for mask, _ in masks], problems)
    if problems:
        return problems
    marked = np.asarray(union([mask for mask, _ in masks], sample.mask_level)) if masks else np.zeros(0)
    row = Row(
        path=sample.path.relative_to(root).as_posix(),
        category=sample.category,
        split=sample.split,
        label=int(sample.defect != GOOD),
        defect=sample.defect,
        masks=[file.relative_to(root).as_posix() for file in sample.masks],
        mask_level=sample.mask_level,
        mask_pixels=int(np.count_nonzero(marked)),
        width=seen.size[0],
        height=seen.size[1],
        sha256=seen.sha256,
        part=sample.part,
        largest=seen.largest,
        saturations=saturations,
    )
    return row, [digest for _, digest in masks]


def _try(read: Callable[[Path], T], file: Path, problems: list[Problem]) -> T | None:
    try:
        return read(file)
    except UserError as error:
        problems.append(Problem(file, str(error)))
        return None


class _Seen(NamedTuple):
    """Of an image; `largest` as in `Row`."""

    size: tuple[int, int]
    largest: int
    sha256: str


def _see(path: Path) -> _Seen:
    """Raises UserError that says what is wrong with the image."""
    content = _read(path)
    picture = open_as_it_is(content, str(path))
    largest = picture.largest if isinstance(picture, DeepPicture) else 0
    return _Seen(picture.size, largest, hashlib.sha256(content).hexdigest())


def _decode(path: Path) -> tuple[Image.Image, str]:
    """A mask, of 8 bits a channel, and the sha256 of its file. Raises UserError that says what is wrong with it."""
    content = _read(path)
    return open_image(content, str(path)), hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from None


def read_mask(root: Path, row: Row) -> Image.Image:
    """Where a row's image is defective: its size, mode "L", 255 where any of its masks says so and 0 elsewhere.

    Raises UserError naming a mask that cannot be read or is no longer of the image's size.
    """
    masks = _reread(root, row)
    return union(masks, row.mask_level) if masks else Image.new("L", (row.width, row.height))


def read_regions(root: Path, row: Row) -> list[Image.Image]:
    """As `read_mask`, each of its masks apart."""
    return [union([mask], row.mask_level) for mask in _reread(root, row)]


def _reread(root: Path, row: Row) -> list[Image.Image]:
    masks = [_decode(root / name)[0] for name in row.masks]
    for name, mask in zip(row.masks, masks, strict=True):
        if mask.size != (row.width, row.height):
            raise UserError(f"{root / name} changed since the manifest was made: run `dvc repro` to take stock anew.")
    return masks


def run(args: Namespace) -> None:
    """Writes the manifest and says what it found."""
    settings = read_section("manifest", ManifestSettings)
    manifest = build_manifest(Path(settings.data), settings)
    write_manifest(manifest, args.out)
    print(describe(manifest))


def describe(manifest: Manifest) -> str:
    """What was found, for people: the layout, a line a category, and what is missing for a good model."""
    layout = "; ".join(f"{name} is {detect(manifest.root / name)}" for name in manifest.data_sets) or manifest.layout
    table = [["category", "train", "val", "test good", "test defective", "masks", "kinds of defect"]]
    for category in manifest.categories:
        rows = [row for row in manifest.rows if row.category == category]
        roles = [(row.split, row.label) for row in rows]
        counts = [roles.count(role) for role in (("train", 0), ("val", 0), ("test", 0), ("test", 1))]
        counts.append(sum(len(row.masks) for row in rows))
        table.append([category, *map(str, counts), ", ".join(sorted({row.defect for row in rows if row.label}))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"{manifest.root}: layout {layout}, {len(manifest.rows)} images, {len(table) - 1} categories"]
    for first, *numbers, last in table:
        middle = "  ".join(f"{text:>{width}}" for text, width in zip(numbers, widths[1:-1], strict=True))
        lines.append(f"{first:{widths[0]}}  {middle}  {last}")
    for category in manifest.categories:
        unmasked = sum(bool(row.label and not row.masks) for row in manifest.rows if row.category == category)
        if unmasked:
            lines.append(f"{category}: defective images without a mask: {unmasked}, they count for image metrics alone")
        if any(row.saturations for row in manifest.rows if row.category == category):
            lines.append(f"{category}: how much of each defect is enough is known: evaluate measures sPRO besides")
        taught = sum(row.label and row.split == "train" for row in manifest.rows if row.category == category)
        if taught:
            lines.append(
                f"{category}: defective training images: {taught}, a semi-supervised training learns from them"
            )
    if manifest.shots is None:  # few-shot wants few
        lines += [f"{category}: {said}" for category, said in few_images(manifest.rows).items()]
    return "\n".join(lines)
