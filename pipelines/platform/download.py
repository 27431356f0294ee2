"""One object of S3 made into a file: begun once, gone on with after any interruption, checked at the end."""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from inpformer.errors import UserError
from pipelines.platform import s3
from pipelines.platform.checksum import Check, kept_by_s3

CHUNK = 1 << 18  # bytes between two calls of `advance`


def part_file(target: Path, head: Mapping[str, Any]) -> Path:
    """Where the bytes of one version of an object lie until they are whole: beside `target`, named by the ETag."""
    version = re.sub(r"[^0-9A-Za-z-]", "", head["ETag"])
    return target.with_name(f"{target.name}.{version}.part")


def download(
    client: Any,
    location: s3.Location,
    head: Mapping[str, Any],
    part: Path,
    sha256: str | None,
    advance: Callable[[int], object],
) -> str:
    """Brings the object that `head` describes into its `part_file`; returns the check that it passed.

    What an earlier call left is gone on with. `advance` is told the number of bytes that are there, and then each
    number that is added. `sha256` (hex) is the user's own; without it the check is S3's.

    Raises UserError if the file is not the object, and then removes it; ClientError, BotoCoreError and OSError.
    """
    with part.open("ab") as file:
        advance(file.tell())
        while (start := file.tell()) < head["ContentLength"]:
            try:
                _append(client, location, head["ETag"], file, advance)
            except s3.BROKEN_STREAM:
                if file.tell() == start:  # else the connection broke on the way: go on with another
                    raise
    check = Check("SHA256", bytes.fromhex(sha256)) if sha256 else kept_by_s3(client, location, head)
    if part.stat().st_size != head["ContentLength"] or (check and not check.passes(part)):
        part.unlink()
        wanted = f"of the SHA256 {sha256} that was asked for" if sha256 else f"what S3 says of it ({_said(check)})"
        raise UserError(
            f"what arrived of {location} from {s3.endpoint(client)} is not {wanted} and was removed: "
            f"run the same command to fetch it anew{', or correct the digest' if sha256 else ''}."
        )
    return "size and pinned SHA256" if sha256 else _said(check)


def _said(check: Check | None) -> str:
    return f"size and {check}" if check else "size alone, as S3 keeps no checksum of it"


def _append(client: Any, location: s3.Location, etag: str, file: BinaryIO, advance: Callable[[int], object]) -> None:
    """Adds to `file` what it lacks of the object."""
    answer = client.get_object(Bucket=location.bucket, Key=location.key, IfMatch=etag, Range=f"bytes={file.tell()}-")
    with closing(answer["Body"]) as body:
        for chunk in body.iter_chunks(CHUNK):
            file.write(chunk)
            advance(len(chunk))
