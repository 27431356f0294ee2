"""Whether a file is the object that S3 holds: which checksum S3 keeps of it, and what the file says to that."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from awscrt import checksums

from pipelines.platform import s3

BLOCK = 4 << 20  # bytes read at a time


class Digest(Protocol):
    """What hashlib's objects and `Crc` have in common."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc:
    """A cyclic redundancy check in the manner of hashlib, of `size` bytes, the high one first, as S3 keeps it."""

    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function, self._size, self._value = function, size, 0

    def update(self, data: bytes, /) -> None:
        """Adds `data`."""
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        """The check of all that was added."""
        return self._value.to_bytes(self._size, "big")


# The strongest first.
ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "SHA256": hashlib.sha256,
    "SHA1": partial(hashlib.sha1, usedforsecurity=False),
    "MD5": partial(hashlib.md5, usedforsecurity=False),
    "CRC64NVME": partial(Crc, checksums.crc64nvme, 8),
    "CRC32C": partial(Crc, checksums.crc32c, 4),
    "CRC32": partial(Crc, checksums.crc32, 4),
}


@dataclass(frozen=True)
class Check:
    """The digest that a file must have. With `part_size` (bytes) it is the digest of the digests of its parts."""

    algorithm: str
    expected: bytes
    part_size: int | None = None

    def __str__(self) -> str:
        return self.algorithm + (" of its parts" if self.part_size else "")

    def passes(self, file: Path) -> bool:
        """Reads the whole of `file`."""
        new = ALGORITHMS[self.algorithm]
        total = new()
        with file.open("rb") as stream:
            if self.part_size is None:
                _feed(total, stream, file.stat().st_size)
            else:
                for start in range(0, file.stat().st_size, self.part_size):
                    part = new()
                    _feed(part, stream, min(self.part_size, file.stat().st_size - start))
                    total.update(part.digest())
        return total.digest() == self.expected


def kept_by_s3(client: Any, location: s3.Location, head: Mapping[str, Any]) -> Check | None:
    """The strongest check that S3 offers of an object; None if it has none that can be computed.

    `head` is the answer of `s3.head`. An ETag is an MD5 unless the object is encrypted with a key of the user's.
    The checksum of an object that was uploaded in parts may be one of the parts' checksums: then S3 is asked for
    their size. Raises ClientError or BotoCoreError.
    """
    for algorithm, text in _offered(head):
        digest, _, parts = text.partition("-")
        expected = bytes.fromhex(digest) if algorithm == "MD5" else base64.b64decode(digest)
        if not parts:
            return Check(algorithm, expected)
        if part_size := _part_size(client, location, head, int(parts)):
            return Check(algorithm, expected, part_size)
    return None


def _offered(head: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    own_key = "SSECustomerAlgorithm" in head or head.get("ServerSideEncryption", "").startswith("aws:kms")
    for algorithm in ALGORITHMS:
        if algorithm != "MD5" and f"Checksum{algorithm}" in head:
            yield algorithm, head[f"Checksum{algorithm}"]
        elif algorithm == "MD5" and not own_key and re.fullmatch(r"[0-9a-f]{32}(-\d+)?", head["ETag"].strip('"')):
            yield algorithm, head["ETag"].strip('"')


def _part_size(client: Any, location: s3.Location, head: Mapping[str, Any], parts: int) -> int | None:
    """The size in bytes of all parts but the last, or None if S3 does not say or they differ."""
    sizes = []
    for number in (1, parts):
        part = client.head_object(Bucket=location.bucket, Key=location.key, IfMatch=head["ETag"], PartNumber=number)
        sizes.append(int(part["ContentLength"]))
    first, last = sizes
    return first if first * (parts - 1) + last == head["ContentLength"] else None


def _feed(digest: Digest, stream: BinaryIO, count: int) -> None:
    """The next `count` bytes of the stream."""
    while count > 0 and (block := stream.read(min(BLOCK, count))):
        digest.update(block)
        count -= len(block)
