"""Renders a data set's images on all cores, into a folder that is there as a whole or not at all."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from inpformer.errors import UserError


def refuse_other(out: Path, categories: Collection[str]) -> None:
    """Raises UserError if the folder `out` holds anything but the categories of an earlier run."""
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - set(categories)):
        raise UserError(f"{out} holds something other than demo data: name another folder with --out.")


def render_all(write: Callable[..., None], jobs: Sequence[Sequence[object]]) -> None:
    """Calls `write` with each of the jobs, in any order."""
    # spawned, because the caller may have threads, which a fork does not survive; many small numpy calls
    # hold the interpreter's lock, so that threads would not help here
    spawn = multiprocessing.get_context("spawn")
    # Ctrl-C reaches this process alone: it stops the others, and they print no traceback
    deaf = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(os.cpu_count(), spawn, signal.signal, deaf) as pool:
        done = pool.map(write, *zip(*jobs, strict=True), chunksize=4)
        for _ in tqdm(done, "demo images", len(jobs), unit="image", disable=None):
            pass
