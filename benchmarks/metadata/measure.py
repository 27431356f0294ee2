"""Time and memory of a made-up manifest and of its table of views."""

import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inpformer.encoders.shapes import Level
from inpformer.features import SHARD_IMAGES
from inpformer.features.objects import Folder
from inpformer.features.shard import row_bytes
from inpformer.features.store import FeatureStore, Known
from inpformer.features.view_table import Views, Wanted, write_table
from inpformer.images.deep import WHITE
from pipelines.features.index import good_views, wanted_views
from pipelines.manifest.table import Manifest, Row, read_manifest, write_manifest

GRAIN = 100_000
# The 8 blocks that are read of a ViT-B/14 at 392 pixels.
LEVELS = (Level(28, 768),) * 8


def memory(field: str) -> float:
    """VmRSS, what this process holds now, or VmHWM, the most since the last reset, in MB (Linux)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1e3


def told(what: str, work: Callable[[], object]) -> object:
    """Does it, and says how long it took and how much memory it took at most."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, began = memory("VmRSS"), time.perf_counter()
    result = work()
    print(f"{what:46} {time.perf_counter() - began:7.1f} s   at most +{memory('VmHWM') - before:.0f} MB")
    return result


def row(number: int) -> Row:
    """A made-up image."""
    digest = sha256(str(number).encode()).hexdigest()
    split = "val" if number % 5 == 0 else "train"
    path = f"category{number % 10}/train/good/{number:08}.png"
    return Row(path, f"category{number % 10}", split, 0, "good", [], 0, 0, 1024, 1024, digest, "")


def make_manifest(file: Path, images: int) -> None:
    """Writes a manifest piece by piece, as its rows would not have to be in memory together."""
    pieces = []
    for start in range(0, images, GRAIN):
        rows = [row(n) for n in range(start, min(start + GRAIN, images))]
        piece = file.with_name(f"piece{start}.parquet")
        write_manifest(Manifest(Path("data"), "0" * 64, rows, "mvtec", None), piece)
        pieces.append(piece)
    with pq.ParquetWriter(file, pq.read_schema(pieces[0])) as writer:
        for piece in pieces:
            writer.write_table(pq.read_table(piece))
    pa.default_memory_pool().release_unused()


def run(images: int) -> None:
    """Prints a line a step."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / "manifest.parquet"
        make_manifest(file, images)
        manifest = read_manifest(file)
        print(f"{images} images, manifest {file.stat().st_size / 1e6:.0f} MB")
        told("train's driver: read the manifest's head", lambda: read_manifest(file).categories)
        wanted = told(
            "features: stream the manifest, list the views",
            lambda: wanted_views(manifest, good_views(manifest, None, WHITE)),
        )
        assert isinstance(wanted, Wanted)
        store = FeatureStore(Folder(folder / "store"), "key")
        # As if every view lay in its place in a shard of 64: no shard is needed to find places.
        keys = np.unique(wanted.keys)
        count = len(keys)
        shards = tuple(sha256(f"shard {n}".encode()).hexdigest() for n in range(-(-count // SHARD_IMAGES)))
        numbers = np.arange(count)
        known = Known(
            keys,
            (numbers // SHARD_IMAGES).astype(np.int32),
            numbers % SHARD_IMAGES * row_bytes(LEVELS),
            np.zeros(count, np.uint32),
            shards,
            LEVELS,
        )
        told("features: write the table", lambda: write_table(store, wanted, known))
        table = next((folder / "store/key/tables").iterdir())
        print(f"table {table.stat().st_size / 1e6:.0f} MB, {table.stat().st_size / count:.0f} bytes a view")
        views = told("a worker: open the table", lambda: Views(store, wanted.digest))
        assert isinstance(views, Views)
        print(f"{views.count('train')} views to train on, {views.count('val')} held out")
