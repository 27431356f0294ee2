"""The manifest: one table of all images that everything after the stage `manifest` reads, and never the folder."""

import json
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inpformer.errors import UserError
from inpformer.images.layouts import SEVERAL
from pipelines.platform import files

ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One image. `path` and `masks` are relative to the data folder; `split` is train, val or test; `label` 1 for
    anomalous; `width` and `height` in pixels; `sha256` (hex) of the file. A pixel is defective where any mask is
    above `mask_level`; `mask_pixels` counts them: 0 for an anomalous image means that nothing is marked. `part` names
    the physical part that several images of the category show, "" where unknown. `largest` is the largest value of an
    image of 16 bits a channel, 0 of one of 8. Where the data set has saturations, each mask is a region of its own, and
    `saturations` has for each the share of its pixels that is enough; else it is empty.
    """

    path: str
    category: str
    split: str
    label: int
    defect: str
    masks: list[str]
    mask_level: int
    mask_pixels: int
    width: int
    height: int
    sha256: str
    part: str
    largest: int = 0
    saturations: list[float] = field(default_factory=list)

    def white(self, white: int) -> int | None:
        """`white`, if what is seen of the image depends on it: not of 8 bits a channel, nor of all black."""
        return white if self.largest else None


class StoredRows(Collection[Row]):
    """The rows of a manifest's file, read a few at a time: they need no memory that grows with the images."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __len__(self) -> int:
        return int(pq.read_metadata(self.file).num_rows)

    def __iter__(self) -> Iterator[Row]:
        with pq.ParquetFile(self.file) as table:
            for batch in table.iter_batches(ROWS_AT_A_TIME):
                for values in batch.to_pylist():
                    yield Row(**values)

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)


@dataclass(frozen=True)
class Manifest:
    """`root` is the data folder; `digest` (hex) stands for the content of all images and masks and their roles;
    `layout` is the one found, `shots` how many training images of each category were kept (None: all).
    """

    root: Path
    digest: str
    rows: Collection[Row]
    layout: str
    shots: int | None

    @cached_property
    def categories(self) -> list[str]:
        """All categories, sorted."""
        if isinstance(self.rows, StoredRows):
            return sorted(pq.read_table(self.rows.file, columns=["category"])["category"].unique().to_pylist())
        return sorted({row.category for row in self.rows})

    def split(self, name: str) -> list[Row]:
        """The rows of one split: train, val or test."""
        return [row for row in self.rows if row.split == name]

    @property
    def held_out(self) -> Iterator[Row]:
        """The good images of val, for thresholds and for the search of parameters."""
        return (row for row in self.rows if row.split == "val" and not row.label)

    @property
    def data_sets(self) -> list[str]:
        """The names of the data sets if there are several: their categories are called <data set>/<category>."""
        return sorted({name.split("/")[0] for name in self.categories}) if self.layout == SEVERAL else []


def good_rows(rows: Iterable[Row]) -> list[Row]:
    """All good images that are not for the test."""
    return [row for row in rows if row.split != "test" and not row.label]


def comparable(rows: Sequence[Row], categories: Sequence[str]) -> dict[str, list[Row]]:
    """The test images of each of the categories that has good and defective ones, by category."""
    by_category = {name: [row for row in rows if row.category == name] for name in sorted(categories)}
    return {name: own for name, own in by_category.items() if len({row.label > 0 for row in own}) == 2}


def _schema(metadata: dict[str, str]) -> pa.Schema:
    types = {str: pa.string(), int: pa.int64(), list[str]: pa.list_(pa.string()), list[float]: pa.list_(pa.float64())}
    hints = typing.get_type_hints(Row)
    return pa.schema([(f.name, types[hints[f.name]]) for f in fields(Row)], metadata)


def write_manifest(manifest: Manifest, file: Path) -> None:
    """Writes the table; `read_manifest` is its counterpart."""
    metadata = {"root": manifest.root.as_posix(), "digest": manifest.digest, "layout": manifest.layout}
    schema = _schema({**metadata, "shots": json.dumps(manifest.shots)})
    table = pa.Table.from_pylist([asdict(row) for row in manifest.rows], schema)
    with files.written_whole(file) as temporary:
        pq.write_table(table, temporary)


def read_manifest(file: Path) -> Manifest:
    """Raises UserError if `file` is missing or no manifest."""
    try:
        schema = pq.read_schema(file)
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        # Older versions keep manifests without what has a default.
        required = {f.name for f in fields(Row) if f.default is MISSING and f.default_factory is MISSING}
        if missing := required - set(schema.names):
            raise KeyError(min(missing))
        shots = json.loads(metadata["shots"])
        return Manifest(Path(metadata["root"]), metadata["digest"], StoredRows(file), metadata["layout"], shots)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{file} is no manifest ({error}): run `dvc repro manifest`.") from None
