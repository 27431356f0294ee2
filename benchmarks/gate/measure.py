"""What the gate costs an image, and what its checks find."""

import argparse
import dataclasses
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.gate import near
from inpformer.images.deep import WHITE
from inpformer.images.opening import open_image
from inpformer.judging.settings import CalibrationSettings
from pipelines.gate import suspects as suspects_check
from pipelines.gate.finding import CHECKS
from pipelines.gate.inspect import inspect
from pipelines.gate.look import look_at
from pipelines.gate.processes import spread
from pipelines.gate.settings import GateSettings
from pipelines.manifest.build import build_manifest
from pipelines.manifest.settings import ManifestSettings
from pipelines.manifest.table import Manifest, Row, read_manifest, write_manifest

COSTLY = ("nothing", "near_duplicates", "suspects")  # the other checks read the manifest's rows only
PLANTED = 3  # of each kind of defect at a time


def made_up(folder: Path, images: int, categories: int) -> Path:
    """Writes noise of 32 pixels, 20 % val and 10 % test, and the manifest's file, which it returns."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(images):
        path = f"category{number % categories}/train/good/{number:07}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / path)
        split = "test" if number % 10 == 9 else "val" if number % 10 > 6 else "train"
        digest = sha256((folder / path).read_bytes()).hexdigest()
        rows.append(Row(path, path.split("/")[0], split, 0, "good", [], 0, 0, 32, 32, digest, ""))
    file = folder / f"manifest{images}.parquet"
    write_manifest(Manifest(folder, "0" * 64, rows, "mvtec", None), file)
    return file


def check_cost(file: Path, check: str) -> tuple[float, float, float]:
    """Seconds of processor and of the clock, and MB at most: of this process and those that it starts."""
    ignore = tuple(name for name in CHECKS if name != check)
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before, began = sum(sum(resource.getrusage(who)[:2]) for who in usage), time.perf_counter()
    inspect(read_manifest(file), GateSettings(ignore), CalibrationSettings(0.05), WHITE)
    seconds = sum(sum(resource.getrusage(who)[:2]) for who in usage) - before
    memory = sum(resource.getrusage(who).ru_maxrss for who in usage) / 1e3
    return seconds, time.perf_counter() - began, memory


def cost(images: int, categories: int) -> None:
    """Prints a line a check; "nothing" only looks, which every check does first."""
    with tempfile.TemporaryDirectory() as temporary:
        few = images // 4
        files = [made_up(Path(temporary) / str(n), n, categories) for n in (few, images)]
        for check in COSTLY:
            (small, _, less), (large, clock, more) = (_alone(file, check) for file in files)
            print(
                f"{check:16} {(large - small) / (images - few) * 1e3:6.2f} ms of processor and "
                f"{(more - less) / (images - few) * 1e3:6.2f} kB an image; {images} images: "
                f"{large:.0f} s of processor, {clock:.0f} s, {more:.0f} MB",
                flush=True,
            )


def _alone(file: Path, check: str) -> tuple[float, float, float]:
    """In a process of its own, which may start others, as a pool's may not."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_cost, args=(theirs, file, check))
    process.start()
    theirs.close()
    try:
        values: tuple[float, float, float] = ours.recv()
    finally:
        process.join()
    return values


def _send_cost(pipe: Connection, file: Path, check: str) -> None:
    pipe.send(check_cost(file, check))


def deviations(root: Path, paths: Sequence[Path]) -> NDArray[np.float64]:
    """Of each picture, taken as one category, as `suspects` counts them."""
    names = [str(path.relative_to(root)) for path in paths]
    order = suspects_check.sample_first(names)
    with spread(len(names)) as each, tqdm(disable=True) as progress:
        scores = suspects_check.score_all(root, order, WHITE, each, progress)
    found = dict(zip(order, suspects_check.deviations(scores), strict=True))
    return np.array([found[name] for name in names])


def planted(root: Path, category: Path, rounds: int) -> None:
    """Prints how many of the defective pictures are flagged among the good ones, and how many good ones alone."""
    good = sorted((category / "train/good").iterdir())
    kinds = [sorted(kind.iterdir()) for kind in sorted((category / "test").iterdir()) if kind.name != "good"]
    bound = suspects_check.STANDS_OUT
    alone, flagged, of, beside = int((deviations(root, good) > bound).sum()), 0, 0, []
    for number in range(rounds):
        odd = [path for kind in kinds for path in kind[PLANTED * number : PLANTED * (number + 1)]]
        far = deviations(root, [*good, *odd]) > bound
        flagged, of = flagged + int(far[len(good) :].sum()), of + len(odd)
        beside.append(int(far[: len(good)].sum()))
    print(
        f"{category.name}: {flagged} of {of} planted defects flagged; of {len(good)} good ones {alone}, beside planted "
        f"ones {beside}",
        flush=True,
    )


def near_duplicates(root: Path | None, folders: Sequence[Path]) -> None:
    """Prints what is found on the tiles, on planted copies of the good pictures in folders, and on stand-ins."""
    if root:
        rows = list(build_manifest(root, ManifestSettings("unused")).rows)
        looks = look_at(root, [row.path for row in rows], WHITE)
        near.tiles([row.path for row in rows], [looks[row.path] for row in rows])
    for folder in folders:
        good = sorted(path for path in folder.rglob("*") if path.parent.name == "good" and path.is_file())
        near.copies(folder.name, [open_image(path, str(path), WHITE).convert("RGB") for path in good])
    near.neighbours("machined", near.machined, near.OBJECTS)
    for category in ("metal", "fabric", "board"):
        near.neighbours(category, near.product(category), 20)


def run(args: argparse.Namespace) -> None:
    """Prints what is asked for."""
    if args.what == "cost":
        cost(args.images, args.categories)
    if args.what == "suspects" and args.demo:
        print(dataclasses.asdict(suspects_check.ENCODER), f"bound {suspects_check.STANDS_OUT:g}")
        for category in sorted(args.demo.iterdir()):
            planted(args.demo, category, rounds=3)
    if args.what == "suspects" and args.tiles:
        planted(args.tiles, args.tiles, rounds=10)
    if args.what == "near_duplicates":
        near_duplicates(args.tiles, args.folder)
