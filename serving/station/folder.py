"""The folder that a camera's software drops pictures into: which are whole, and where they go.

IN/part.png                                   dropped
IN/taken/20250102T030405678901-2-part.png     being judged, as product 2; after a crash it is judged again
IN/done/20250102T030405678901-2-part.png      judged, with its verdict beside it as …-part.png.json
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inpformer.errors import UserError
from inpformer.images.layouts.sample import IMAGE_SUFFIXES

STILL_SECONDS = 0.2  # so long nobody has written to a file that is whole
LONGEST_NAME = 150  # of what is kept of a name, in bytes


@dataclass(frozen=True)
class Stamp:
    """Tells whether a file was written to."""

    size: int
    changed: int
    number: int


@dataclass
class Dropped:
    """A file in the folder. `look` is the number of the look that found it first."""

    path: Path
    stamp: Stamp
    since: float
    look: int

    @property
    def order(self) -> tuple[int, int, str]:
        """Of arrival."""
        return self.look, self.stamp.changed, self.path.name


@dataclass(frozen=True)
class Picture:
    """A file that was taken; `name` is what the camera's software called it, `product` the number of the trigger that
    waited for it, 0 where none did.
    """

    path: Path
    name: str
    product: int

    def stamp(self) -> Stamp:
        """As it lies there now."""
        return _stamp(self.path.stat())


class Folder:
    """One station's, which locks it. Raises UserError where another station has it, or it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._taken, self._done = folder, folder / "taken", folder / "done"
        self._found: dict[str, Dropped] = {}
        self.looks = 0
        self._putting = threading.Lock()
        try:
            self._make()
            self._lock = (self._taken / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--folder is {folder}, which another station watches: give each its own.") from None
        except OSError as error:
            raise UserError(
                f"--folder is {folder}, which cannot be used ({error.strerror}): a station moves "
                "files in it and locks it."
            ) from None

    def _make(self) -> None:
        for place in (self._taken, self._done):
            place.mkdir(exist_ok=True)

    def left(self) -> list[Picture]:
        """What a station took before it was ended, the first first."""
        return [_picture(path) for path in sorted(_pictures(self._taken))]

    def look(self) -> list[Dropped]:
        """What is whole and was not taken, the first first: nobody has written to it for STILL_SECONDS."""
        self._make()  # somebody may have cleared too much
        self.looks += 1
        now, found = time.monotonic(), {}
        for path in _pictures(self._folder):
            with suppress(FileNotFoundError):
                stamp, before = _stamp(path.stat()), self._found.get(path.name)
                if before is None:
                    found[path.name] = Dropped(path, stamp, now, self.looks)
                elif before.stamp == stamp:
                    found[path.name] = before
                else:
                    found[path.name] = Dropped(path, stamp, now, before.look)
        self._found = found
        return sorted((one for one in found.values() if now - one.since >= STILL_SECONDS), key=lambda one: one.order)

    def take(self, dropped: Dropped, product: int) -> Picture:
        """Out of the way of the next file of that name. Raises OSError where it is gone, or cannot be moved."""
        picture = self._named(dropped.path.name, product)
        dropped.path.rename(picture.path)
        return picture

    def put(self, content: bytes, name: str, product: int) -> Picture:
        """A picture that nobody dropped is taken. Raises OSError where it cannot be written; it leaves nothing then."""
        unfinished = self._taken / ".picture"
        with self._putting:
            picture = self._named(name, product)
            try:
                self._make()
                unfinished.write_bytes(content)
                unfinished.rename(picture.path)
            except OSError:
                unfinished.unlink(missing_ok=True)  # verdicts need the room
                raise
        return picture

    def _named(self, name: str, product: int) -> Picture:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        end = os.fsdecode(os.fsencode(name)[-LONGEST_NAME:])
        return Picture(self._taken / f"{stamp}-{product}-{end}", name, product)

    def keep(self, picture: Picture, verdict: dict[str, Any]) -> None:
        """The picture is done; a second time, the verdict is another one."""
        content = json.dumps({"file": picture.name, **verdict}, indent=1)
        # The verdict first: of a picture that is done there is one, whenever the station is killed.
        unfinished = self._taken / ".verdict"
        with unfinished.open("w") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._done / f"{picture.path.name}.json")
        with suppress(FileNotFoundError):  # the second time
            picture.path.rename(self._done / picture.path.name)


def _pictures(folder: Path) -> Iterator[Path]:
    """Files that may be pictures: no links, and nothing that is named as unfinished."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if not entry.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        yield path


def _picture(taken: Path) -> Picture:
    _, product, name = [*taken.name.split("-", 2), "", ""][:3]
    return Picture(taken, name or taken.name, int(product) if product.isascii() and product.isdigit() else 0)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
