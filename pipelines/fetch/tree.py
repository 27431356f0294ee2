"""The objects under a prefix of S3 made into a tree of files, several at a time."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from inpformer.errors import UserError
from inpformer.images.layouts.sample import Problem, refuse_all
from pipelines.fetch.unpack import SUFFIXES
from pipelines.platform import s3
from pipelines.platform.download import download, part_file


@dataclass(frozen=True)
class Item:
    """One object: `path` relative to the prefix, `size` in bytes, `modified` in seconds since 1970."""

    location: s3.Location
    path: PurePosixPath
    size: int
    modified: int


def list_tree(client: Any, location: s3.Location) -> list[Item]:
    """All objects under the prefix `location`.

    Raises UserError if there are none, or for all keys at once that would lie outside a folder; ClientError and
    BotoCoreError.
    """
    prefix = location.key.rstrip("/") + "/" if location.key else ""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=prefix)
    items = [
        Item(
            s3.Location(location.bucket, entry["Key"]),
            PurePosixPath(entry["Key"].removeprefix(prefix)),
            entry["Size"],
            int(entry["LastModified"].timestamp()),
        )
        for page in pages
        for entry in page.get("Contents", [])
        if not entry["Key"].endswith("/")  # consoles make these to show folders
    ]
    if not items:
        raise UserError(
            f"nothing lies under {s3.Location(location.bucket, prefix)} at {s3.endpoint(client)}: "
            f"name a prefix of several files, or an archive ({', '.join(SUFFIXES)})."
        )
    outside = [i.location for i in items if i.path.is_absolute() or ".." in i.path.parts]
    refuse_all(Problem.at(key, "it would lie outside the folder") for key in outside)
    return items


def download_tree(client: Any, items: list[Item], folder: Path, advance: Callable[[int], object]) -> Counter[str]:
    """Makes `folder` hold the items and nothing else; returns how many passed which check.

    A file is there already if size and time are the object's. `advance` is told numbers of bytes, by one thread at
    a time. An exception, Ctrl-C included, stops all downloads at their next piece.

    Raises UserError for whatever fails; OSError.
    """
    stopped, lock = threading.Event(), threading.Lock()

    def advance_unless_stopped(count: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        with lock:
            advance(count)

    with ThreadPoolExecutor(s3.CONNECTIONS) as pool:
        futures = [pool.submit(_bring, client, item, folder, advance_unless_stopped) for item in items]
        try:
            checks = Counter(future.result() for future in as_completed(futures))
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    wanted = {folder / item.path for item in items}
    for path in folder.rglob("*"):
        if not path.is_dir() and path not in wanted:
            path.unlink()  # of an object that was removed or changed since an earlier call
    return checks


def _bring(client: Any, item: Item, folder: Path, advance: Callable[[int], object]) -> str:
    target = folder / item.path
    if target.exists() and (target.stat().st_size, int(target.stat().st_mtime)) == (item.size, item.modified):
        advance(item.size)
        return "an earlier call"
    target.parent.mkdir(parents=True, exist_ok=True)
    with s3.explained(client, item.location):
        head = s3.head(client, item.location)
        part = part_file(target, head)
        check = download(client, item.location, head, part, None, advance)
    modified = head["LastModified"].timestamp()
    os.utime(part, (modified, modified))
    part.rename(target)
    return check
