"""A feature store's files in S3, with what was read kept on the local disk."""

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from inpformer.features.objects import Folder, Objects, Range
from pipelines.platform import s3
from pipelines.platform.disk_cache import DiskCache

GIGABYTE = 10**9
_NOT_THERE = {"NoSuchKey", "404", "InvalidRange", "416"}


def open_objects(address: str, cache_gigabytes: float) -> Objects:
    """The store at `address`, a folder or s3://bucket/prefix; of a bucket's, so much is kept on the local disk.

    Raises UserError for an address of another kind, and if S3 is not configured.
    """
    if "://" not in address:
        return Folder(Path(address).expanduser().resolve())
    return Bucket(s3.parse(address), DiskCache(cache_folder("features"), int(cache_gigabytes * GIGABYTE)))


def cache_folder(kind: str) -> Path:
    """Where this machine keeps what it read of one kind: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "inpformer" / kind


class Bucket:
    """`Objects` under a prefix of a bucket. It waits a minute and more for a server that is away."""

    def __init__(self, root: s3.Location, cache: DiskCache) -> None:
        self.root = s3.Location(root.bucket, root.key.strip("/"))
        self.cache = cache
        self.address = str(self.root)

    @cached_property
    def _client(self) -> Any:
        return s3.connect(patient=True)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(s3.CONNECTIONS)

    def _location(self, name: str) -> s3.Location:
        return s3.Location(self.root.bucket, f"{self.root.key}/{name}" if self.root.key else name)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Objects`."""
        location = self._location(prefix)
        with s3.explained(self._client, location):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=location.bucket, Prefix=location.key, Delimiter="/"
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield prefix + entry["Key"].removeprefix(location.key), entry["Size"]

    def read(self, name: str) -> bytes | None:
        """See `Objects`."""
        return self._get(name, None)

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """See `Objects`. Side by side, and from the local disk where they lie there."""
        return list(self._pool.map(self._read_range, ranges))

    def _read_range(self, wanted: Range) -> bytes:
        label = f"{self.address}/{wanted.name} {wanted.start} {wanted.length}"
        content = self.cache.get(label)
        if content is None:
            last = wanted.start + wanted.length - 1
            content = self._get(wanted.name, f"bytes={wanted.start}-{last}") or b""
            if wanted.holds(content):  # what is wrong must not stay
                self.cache.put(label, content)
        return content

    def _get(self, name: str, part: str | None, more_tries: int = 2) -> bytes | None:
        location = self._location(name)
        extra = {"Range": part} if part else {}
        with s3.explained(self._client, location):
            try:
                answer = self._client.get_object(Bucket=location.bucket, Key=location.key, **extra)
            except ClientError as error:
                if error.response["Error"].get("Code") in _NOT_THERE:
                    return None
                raise
            try:
                content: bytes = answer["Body"].read()
            except s3.BROKEN_STREAM:  # boto3 itself asks again for an answer, but not for the rest of one
                if not more_tries:
                    raise
                return self._get(name, part, more_tries - 1)
        return content

    def write(self, name: str, content: bytes) -> None:
        """See `Objects`. The server checks what it got against its sha256."""
        location = self._location(name)
        checksum = b64encode(sha256(content).digest()).decode()
        with s3.explained(self._client, location):
            self._client.put_object(Bucket=location.bucket, Key=location.key, Body=content, ChecksumSHA256=checksum)

    def remove(self, name: str) -> None:
        """See `Objects`."""
        location = self._location(name)
        with s3.explained(self._client, location):
            self._client.delete_object(Bucket=location.bucket, Key=location.key)

    def has_digest(self, name: str, sha256: str) -> bool:
        """See `Objects`. The server checked it when it was written: reading it all again would cost more than it
        finds, and each row is checked when it is read.
        """
        return True
