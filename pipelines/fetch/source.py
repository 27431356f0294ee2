"""Brings images from S3: python -m pipelines.fetch visa | s3://bucket/archive.tar | s3://bucket/prefix"""

import hashlib
import json
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from inpformer.errors import UserError
from pipelines.fetch.tree import download_tree, list_tree
from pipelines.fetch.unpack import ArchiveError, stem, unpack
from pipelines.platform import files, s3
from pipelines.platform.download import download, part_file


@dataclass(frozen=True)
class Source:
    """What to fetch; `sha256` (hex) of an archive, if known; `public` data is asked for without keys."""

    location: s3.Location
    sha256: str | None = None
    public: bool = False


# The digest is the one that anomalib pins and that others report of their downloads (1 929 840 640 bytes).
# The archive has no outer folder: split_csv/ and the categories lie at its root.
VISA = Source(
    s3.Location("amazon-visual-anomaly", "VisA_20220922.tar"),
    sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    public=True,
)


def fetch(source: Source, out: Path, keep: bool = False) -> None:
    """Makes the folder `out`, and beside it a record of where it came from; `keep` leaves the archive there too.

    Does nothing if `out` is finished. Raises UserError for whatever S3, the archive or the disk does not allow.
    """
    record = out.with_name(f"{out.name}.source.json")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not record.exists() or json.loads(record.read_text())["source"] != str(source.location):
            raise UserError(f"{out} exists and is not from {source.location}: name another folder with --out.")
        print(f"{out} is finished, nothing to do: remove it to fetch {source.location} anew.")
        return
    client = s3.connect(unsigned=source.public)
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if stem(source.location.key):
            _fetch_archive(client, source, out, record, keep)
        else:
            _fetch_tree(client, source, out, record)
    print(f"next: dvc add {out}")
    print(f"      set manifest.data in params.yaml to {out}, then: dvc repro")


def _fetch_archive(client: Any, source: Source, out: Path, record: Path, keep: bool) -> None:
    location = source.location
    name = location.key.rpartition("/")[2]
    with s3.explained(client, location):
        head = s3.head(client, location)
        size, part = head["ContentLength"], part_file(out, head)
        _remove_other_versions(out, part)
        if part.exists():
            print(f"{location}: going on after {part.stat().st_size} of {size} bytes", flush=True)
        with _progress(size) as advance:
            check = download(client, location, head, part, source.sha256, advance)
    print(f"{location}: {size} bytes, checked by {check}", flush=True)
    with _recorded(record, source=str(location), bytes=size, etag=head["ETag"].strip('"'), checked_by=check):
        try:
            unpack(part, name, out)
        except ArchiveError:
            part.unlink()  # what was verified stays for another try, unless it would fail again
            raise
    if keep:
        part.rename(out.with_name(name))
    else:
        part.unlink()


def _remove_other_versions(out: Path, part: Path) -> None:
    """What interrupted calls left of objects that have changed since."""
    for path in out.parent.iterdir():
        if path != part and path.is_file() and re.fullmatch(rf"{re.escape(out.name)}\.[0-9A-Za-z-]+\.part", path.name):
            path.unlink()


def _fetch_tree(client: Any, source: Source, out: Path, record: Path) -> None:
    location = source.location
    if source.sha256:
        raise UserError(f"--sha256 is of one archive, but {location} is a prefix of many files: leave it out.")
    with s3.explained(client, location):
        items = list_tree(client, location)
    version = hashlib.sha256(str(location).encode()).hexdigest()[:8]  # never the half of another prefix
    folder = out.with_name(f"{out.name}.{version}.part")
    size = sum(item.size for item in items)
    with _progress(size) as advance:
        checks = download_tree(client, items, folder, advance)
    said = ", ".join(f"{count} by {check}" for check, count in checks.most_common())
    print(f"{location}: {len(items)} files, {size} bytes, checked: {said}")
    with _recorded(record, source=str(location), bytes=size, files=len(items), checked_by=dict(checks)):
        folder.rename(out)


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], object]]:
    with tqdm(desc="fetching", total=size, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update


@contextmanager
def _recorded(record: Path, **values: object) -> Iterator[None]:
    """Writes the record once what is inside has succeeded."""
    with files.written_whole(record) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")
        yield


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turns a full disk, a read-only folder and the like into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or out.parent} cannot be written ({error.strerror}): make room or name another folder "
            "with --out, then run the same command again."
        ) from None


def _source(name: str) -> tuple[Source, str]:
    """What the command line names, and the name of its folder in data/."""
    if name == "visa":
        return VISA, "visa"
    if not name.startswith("s3://"):
        raise UserError(f"{name} is not known: name visa or an address, s3://bucket/archive.tar or s3://bucket/prefix.")
    location = s3.parse(name)
    last = location.key.rstrip("/").rpartition("/")[2]
    return Source(location), stem(last) or last or location.bucket


def run(args: Namespace) -> None:
    """Fetches what the command line names."""
    source, name = _source(args.source)
    if args.sha256 is not None:
        source = replace(source, sha256=args.sha256.lower())
    fetch(source, args.out or Path("data") / name, args.keep)
