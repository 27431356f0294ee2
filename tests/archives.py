"""Archives made in memory, safe or not."""

import io
import tarfile
import zipfile
from collections.abc import Mapping


def tar_of(files: Mapping[str, bytes], name: str = ".tar") -> bytes:
    """A tar with these members, compressed if `name` says so."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz" if name.lower().endswith("gz") else "w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def zip_of(files: Mapping[str, bytes], name: str = ".zip") -> bytes:
    """A zip with these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return stream.getvalue()
