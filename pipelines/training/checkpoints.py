"""Where a training's checkpoints lie until it is finished: in a folder that all workers see, or on S3.

A checkpoint is a folder of tensors and progress. Its progress is written last, so one that has it is whole: what a
killed process, a full disk or a lost connection left of another is never taken up, and is removed.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSelector,
    FileSystem,
    FileType,
    LocalFileSystem,
    S3FileSystem,
    copy_files,
)

from inpformer.errors import UserError, without_password
from inpformer.training.loop import CHECKPOINT_PROGRESS, CHECKPOINT_TENSORS
from pipelines.platform import files, s3

# With the pauses of the AWS SDK, which grow to 20 seconds, a server may be away for a minute.
S3_ATTEMPTS = 9
# By phases and epochs done: later ones sort last.
NAME = "checkpoint_{:02d}_{:06d}"
FINISHED = "finished"


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """pyarrow's S3, with more patience; unlike its own, which forgets it, this one's goes along to other processes.

    Keys are not part of it: each process finds its own, as boto3 does.
    """

    def __init__(self, endpoint: str | None, region: str | None) -> None:
        self.options = (endpoint, region)
        address = urlsplit(endpoint or "")
        super().__init__(
            region=region,
            scheme=address.scheme or None,
            endpoint_override=address.netloc or None,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
        )

    def __reduce__(self) -> tuple[type, tuple[str | None, str | None]]:
        return PatientS3, self.options


@dataclass(frozen=True)
class Checkpoints:
    """Those of one training: `root`/`key` on `filesystem`; `address` is what a person calls that place."""

    filesystem: FileSystem
    root: str
    key: str
    address: str

    def within(self, category: str) -> "Checkpoints":
        """Those of one category's training; its name may hold any character, so the folder's is a digest of it."""
        folder = hashlib.sha256(category.encode()).hexdigest()[:16]
        return replace(self, key=f"{self.key}/{folder}", address=f"{self.address}/{folder}")

    def path(self, name: str) -> str:
        """Where the checkpoint `name` lies on the file system."""
        return f"{self.root}/{self.key}/{name}"

    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yields a local folder for the two files of a checkpoint, which then appears as `name`, whole, or not at all.

        Raises UserError if there is no space for it or its place cannot be reached.
        """
        # One place for all attempts on a machine: what a killed one left is removed by the next.
        local = Path(tempfile.gettempdir()) / f"inpformer-{self.key.replace('/', '-')}-{name}"
        target = self.path(name)
        try:
            shutil.rmtree(local, ignore_errors=True)
            local.mkdir()
            yield local
            self._remove(name)  # of a process that died before Ray knew: half of each would look whole
            self.filesystem.create_dir(target)
            for file in (CHECKPOINT_TENSORS, CHECKPOINT_PROGRESS):
                copy_files(
                    str(local / file),
                    f"{target}/{file}",
                    source_filesystem=LocalFileSystem(),
                    destination_filesystem=self.filesystem,
                    use_threads=False,
                )
        except Exception as error:
            with suppress(OSError):
                self._remove(name)
            if files.out_of_space(error):
                raise UserError(files.no_space(f"{self.address} or {local.parent}")) from None
            with self._explained():
                raise
        finally:
            shutil.rmtree(local, ignore_errors=True)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """Yields a local copy of a checkpoint. Raises UserError if it cannot be read."""
        with tempfile.TemporaryDirectory(prefix="inpformer-") as folder:
            with self._explained():
                copy_files(self.path(name), folder, source_filesystem=self.filesystem)
            yield Path(folder)

    def whole(self, name: str) -> bool:
        """Whether there is such a checkpoint, and all of it. Raises UserError if its place cannot be reached."""
        with self._explained():
            try:
                with self.filesystem.open_input_stream(f"{self.path(name)}/{CHECKPOINT_PROGRESS}") as file:
                    json.loads(file.read())
            except (FileNotFoundError, NotADirectoryError, ValueError):
                return False
            return True

    def newest(self) -> str | None:
        """The last whole checkpoint of `NAME`s, None if there is none; all else that an earlier process left of this
        training is removed, Ray's record of it too: it may be half written, and only one version of Ray reads it.

        Raises UserError if its place cannot be reached.
        """
        with self._explained():
            found = self.filesystem.get_file_info(FileSelector(f"{self.root}/{self.key}", allow_not_found=True))
            names = sorted((info.base_name for info in found), reverse=True)
            last = next(
                (name for name in names if re.fullmatch(r"checkpoint_\d{2}_\d{6}", name) and self.whole(name)), None
            )
        self.keep_only(last)
        return last

    def keep_only(self, name: str | None) -> None:
        """Removes all but one. Raises UserError if their place cannot be reached."""
        with self._explained():
            found = self.filesystem.get_file_info(FileSelector(f"{self.root}/{self.key}", allow_not_found=True))
            for info in found:
                if info.base_name != name:
                    self._remove(info.base_name)

    def remove(self) -> None:
        """Removes all of them; what cannot be removed stays."""
        with suppress(OSError):
            self.filesystem.delete_dir(f"{self.root}/{self.key}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = " ".join(without_password(str(error)).split())[:300]
            raise UserError(
                f"{self.address} cannot be used ({reason}): mend that, then run the same command again."
            ) from None

    def _remove(self, name: str) -> None:
        kind = self.filesystem.get_file_info(self.path(name)).type
        with suppress(FileNotFoundError):  # S3 may list a folder whose objects are gone
            if kind == FileType.Directory:
                self.filesystem.delete_dir(self.path(name))
            elif kind == FileType.File:
                self.filesystem.delete_file(self.path(name))


def open_checkpoints(storage: str, key: str) -> Checkpoints:
    """The checkpoints of the training `key` under `train.storage`, a folder or s3://bucket/prefix.

    Raises UserError if S3 cannot be reached, has no such bucket or refuses the keys.
    """
    if not storage.startswith("s3://"):
        root = Path(storage).expanduser().resolve().as_posix()
        return Checkpoints(LocalFileSystem(), root, key, f"{root}/{key}")
    location = s3.parse(storage.rstrip("/"))
    client = s3.connect()
    with s3.explained(client, location):
        client.list_objects_v2(Bucket=location.bucket, Prefix=location.key, MaxKeys=1)
        region: dict[str, Any] = client.head_bucket(Bucket=location.bucket)
    filesystem = PatientS3(os.environ.get("AWS_ENDPOINT_URL"), region.get("BucketRegion"))
    return Checkpoints(filesystem, f"{location.bucket}/{location.key}".rstrip("/"), key, f"{location}/{key}")
