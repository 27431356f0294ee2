"""Archives made into folders: nothing outside the folder, and nothing half done under its name."""

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from inpformer.errors import UserError
from pipelines.platform import files

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class ArchiveError(UserError):
    """An archive that no disk could take: the same bytes would be refused again."""


def stem(name: str) -> str | None:
    """The file name of an archive without its suffix; None for what is no archive by its name."""
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), None)
    return name.rpartition("/")[2][: -len(suffix)] if suffix else None


def unpack(archive: Path, name: str, folder: Path) -> None:
    """Makes `folder` of an archive whose name was `name`.

    An outer folder in the archive that is called like the archive itself is left out.
    Raises ArchiveError for a broken archive and for one that would write outside `folder`; UserError for a disk that is
    full or cannot be written; OSError.
    """
    with files.written_whole(folder) as temporary:
        temporary.mkdir()
        try:
            (_unpack_zip if name.lower().endswith(".zip") else _unpack_tar)(archive, name, temporary)
        except tarfile.FilterError as error:
            raise ArchiveError(f"the archive {name} is not safe to unpack ({error}): ask who made it.") from None
        except NotImplementedError as error:  # zipfile: Deflate64 and the like
            raise ArchiveError(f"{name} is packed in a way that cannot be read ({error}): pack it as .tar.") from None
        except _BROKEN as error:
            raise ArchiveError(f"{name} is no archive that can be read ({error}): look at what was uploaded.") from None
        _lift_outer(temporary, stem(name) or "")


def _lift_outer(folder: Path, name: str) -> None:
    """Replaces an only folder called `name` by what is in it."""
    if [path.name for path in folder.iterdir()] == [name] and (folder / name).is_dir():
        outer = (folder / name).rename(folder / f".{name}.outer")  # as it may hold a file of its own name
        for path in outer.iterdir():
            path.rename(folder / path.name)
        outer.rmdir()


def _unpack_tar(archive: Path, name: str, folder: Path) -> None:
    with tarfile.open(archive) as tar, tqdm(desc="unpacking", unit="B", unit_scale=True, disable=None) as bar:

        def counted() -> Iterator[tarfile.TarInfo]:
            for member in tar:
                yield member
                bar.update(member.size)

        tar.extractall(folder, counted(), filter="data")


def _unpack_zip(archive: Path, name: str, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in tqdm(file.infolist(), "unpacking", disable=None):
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.parts[:1] == ("__MACOSX",):
                continue  # what a Mac notes of its own files
            if path.is_absolute() or ".." in path.parts:
                raise ArchiveError(f"the archive {name} is not safe to unpack ({member.filename} lies outside).")
            if member.flag_bits & 1:
                raise ArchiveError(f"the archive {name} is encrypted: upload it without a password.")
            file.extract(member, folder)
