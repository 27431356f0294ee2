"""The version that was loaded last, kept as files on this machine: it serves where the registry does not answer."""

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from serving.fetched import WEIGHTS_FOLDER
from serving.locks import locked, opened

# In the place: a link to the folder of the version that is kept, which is called <version>-<something>; folders that
# somebody fetches into, each locked by who does; and a lock.
LATEST, FETCHING, LOCK = "latest", "fetching-", "lock"
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class KeptVersion:
    """A version of the registry, as files in a folder that `serving.fetched.load` reads."""

    folder: Path
    version: int


class Kept:
    """One version of what an alias points to. Several processes may keep and read it at a time."""

    def __init__(self, folder: Path, tracking_uri: str, model: str, alias: str) -> None:
        # Names from outside become no path.
        self._place = folder / sha256(json.dumps([tracking_uri, model, alias]).encode()).hexdigest()[:32]

    @contextmanager
    def fetching(self) -> Iterator[Path]:
        """A folder to fetch a version into, with the weights of the one that is kept. Gone afterwards, unless `keep`
        took it.
        """
        try:
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked(fcntl.LOCK_SH):
                folder = Path(tempfile.mkdtemp(prefix=FETCHING, dir=self._place))
                mine = os.open(folder, os.O_RDONLY)
                fcntl.flock(mine, fcntl.LOCK_SH)
                if (weights := self._place / LATEST / WEIGHTS_FOLDER).is_dir():
                    shutil.copytree(weights, folder / WEIGHTS_FOLDER, copy_function=os.link)
        except OSError as error:
            log.warning(
                "nothing is kept for a start without the registry: %s cannot be written (%s)", self._place, error
            )
            with tempfile.TemporaryDirectory(prefix="inpformer-") as elsewhere:
                yield Path(elsewhere)
            return
        try:
            yield folder
        finally:
            os.close(mine)
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, fetched: Path, version: int, weights: set[str]) -> None:
        """Keeps what `fetching` gave, of the weights these alone, instead of what was kept before."""
        if fetched.parent != self._place:
            return
        try:
            for file in (fetched / WEIGHTS_FOLDER).glob("*"):
                if file.name not in weights:
                    file.unlink()
            with self._locked(fcntl.LOCK_EX):
                kept = self._place / f"{version}-{fetched.name.removeprefix(FETCHING)}"
                fetched.rename(kept)
                os.sync()  # the files before the link, as power may fail
                link = self._place / f"{FETCHING}{kept.name}"
                link.symlink_to(kept.name)
                link.replace(self._place / LATEST)
                self._remove_all_but(kept)
        except OSError as error:
            log.warning("version %d is not kept in %s (%s)", version, self._place, error)

    @contextmanager
    def latest(self) -> Iterator[KeptVersion | None]:
        """What was kept last, for as long as this lasts; None where there is nothing."""
        if not (self._place / LATEST).is_dir():
            yield None
            return
        with self._locked(fcntl.LOCK_SH):
            folder = (self._place / LATEST).resolve()
            yield KeptVersion(folder, int(folder.name.partition("-")[0]))

    def forget(self) -> None:
        """Keeps nothing any more."""
        with suppress(OSError):
            (self._place / LATEST).unlink()  # the folder goes with the next version

    def _remove_all_but(self, kept: Path) -> None:
        for other in self._place.iterdir():
            if other.name in (kept.name, LATEST, LOCK):
                continue
            if other.is_symlink():
                other.unlink()
            elif not (other.name.startswith(FETCHING) and _is_locked(other)):
                shutil.rmtree(other, ignore_errors=True)

    def _locked(self, kind: int) -> AbstractContextManager[None]:
        # Only read, as a place that cannot be written may be read.
        return locked(self._place / LOCK, kind, os.O_RDONLY | os.O_CREAT)


def _is_locked(folder: Path) -> bool:
    with opened(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
