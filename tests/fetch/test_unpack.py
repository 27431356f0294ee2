"""Archives become folders whole, and reach nothing outside."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from inpformer.errors import UserError
from pipelines.fetch.unpack import stem, unpack
from tests.archives import tar_of, zip_of

FILES = {"split_csv/1cls.csv": b"object,split\n", "candle/Data/Images/Normal/0000.JPG": b"\xff\xd8" * 999, "empty": b""}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(tmp_path: Path, name: str, archive: bytes) -> str:
    """What is said of an archive that is refused; nothing of it stays, inside or outside."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/archive").write_bytes(archive)
    with pytest.raises(UserError) as error:
        unpack(tmp_path / "in/archive", name, tmp_path / "in/out")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["in", "in/archive"]
    return str(error.value)


@pytest.mark.parametrize("outer", ["", "mine/"])
@pytest.mark.parametrize("name", ["mine.tar", "mine.tar.gz", "mine.TGZ", "deep/mine.zip"])
def test_an_archive_becomes_its_folder_without_an_outer_one(tmp_path: Path, name: str, outer: str) -> None:
    make = zip_of if name.endswith(".zip") else tar_of
    (tmp_path / "archive").write_bytes(make({outer + path: data for path, data in FILES.items()}, name))
    unpack(tmp_path / "archive", name, tmp_path / "out")
    assert content(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]


def test_an_only_category_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of({"bolt/train/good/1.png": b"1"}, "mine.tar"))
    unpack(tmp_path / "archive", "mine.tar", tmp_path / "out")
    assert content(tmp_path / "out") == {"bolt/train/good/1.png": b"1"}


def test_a_macs_notes_are_left_out(tmp_path: Path) -> None:
    notes = {f"__MACOSX/mine/._{n}": b"note" for n in range(2)}
    (tmp_path / "archive").write_bytes(zip_of({"mine/a.png": b"1", **notes}))
    unpack(tmp_path / "archive", "mine.zip", tmp_path / "out")
    assert content(tmp_path / "out") == {"a.png": b"1"}


def test_a_packing_that_python_does_not_know_is_one_sentence(tmp_path: Path) -> None:
    archive = bytearray(zip_of({"a.png": b"1" * 100}))
    for header, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        archive[archive.index(header) + place] = 9  # Deflate64
    assert "mine.zip is packed in a way that cannot be read" in refusal(tmp_path, "mine.zip", bytes(archive))


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize("path", ["../evil", "a/../../../evil"])
def test_no_member_lies_outside(tmp_path: Path, make: object, path: str) -> None:
    name = "x.tar" if make is tar_of else "x.zip"
    archive = (tar_of if make is tar_of else zip_of)({"good": b"1", path: b"2"}, name)
    said = refusal(tmp_path, name, archive)
    assert said.startswith(f"the archive {name} is not safe to unpack")
    assert "evil" in said


def test_no_link_leads_outside(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    assert "is not safe to unpack" in refusal(tmp_path, "x.tar", stream.getvalue())


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_a_broken_archive_is_said_to_be_one(tmp_path: Path, name: str, keep: float) -> None:
    whole = (zip_of if name == "x.zip" else tar_of)({"a": bytes(range(256)) * 400}, name)
    half = whole[: int(len(whole) * keep)] or b"no archive"
    assert refusal(tmp_path, name, half).startswith(f"{name} is no archive that can be read")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a": b"1"}, "x.zip"))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    assert zipfile.ZipFile(io.BytesIO(content)).infolist()[0].flag_bits & 1
    assert refusal(tmp_path, "x.zip", bytes(content)) == (
        "the archive x.zip is encrypted: upload it without a password."
    )


def test_what_is_an_archive_by_its_name() -> None:
    assert [stem(name) for name in ("a/b.tar", "b.c.tar.gz", "b.TGZ", "b.zip")] == ["b", "b.c", "b", "b"]
    assert [stem(name) for name in ("a.tar/b", "b.png", "b", "")] == [None] * 4
