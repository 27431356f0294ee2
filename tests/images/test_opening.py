"""Files from outside on their way to a decoder: what is opened, and what is refused before it costs anything."""

import ast
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from inpformer.errors import UserError
from inpformer.images.opening import (
    FORMATS,
    MAX_ASPECT,
    MAX_PIXELS,
    MAX_SCANS,
    START_OF_SCAN,
    TooLargeError,
    open_image,
)
from inpformer.images.transform import read_image
from tests.images.test_transform import noise

ROOT = Path(__file__).resolve().parents[2]


def test_a_picture_is_read_whole(tmp_path: Path) -> None:
    noise(20, 10).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(np.asarray(image), np.asarray(noise(20, 10)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_truncated_picture_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{path} is a damaged or truncated image"):
        read_image(path)


def test_a_header_that_claims_a_monstrous_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    noise(8, 8).save(path)
    raw = bytearray(path.read_bytes())
    raw[18:26] = (2**20).to_bytes(4, "little") * 2  # width and height
    path.write_bytes(raw)
    with pytest.raises(UserError, match=rf"{path} has .* pixels"):
        read_image(path)


def test_a_text_file_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"notes\.png is not an image in one of the formats"):
        read_image(tmp_path / "notes.png")
    with pytest.raises(UserError, match=r"gone\.png is missing: put it back"):
        read_image(tmp_path / "gone.png")


def png(header: bytes, rows: bytes) -> bytes:
    chunks = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def deep_png(colour: int, channels: int) -> bytes:
    """A grey 2×2 picture of 16 bits a channel, which Pillow cannot write; `colour` is PNG's colour type."""
    rows = zlib.compress((b"\0" + b"\x0f\xff" * channels * 2) * 2)
    return png(struct.pack(">IIBBBBB", 2, 2, 16, colour, 0, 0, 0), rows)


def deep_tiff(order: str, planes: int = 1) -> bytes:
    """A grey 2×2 RGB picture of 16 bits a channel; `order` is struct's, `planes` 2 for a plane a colour."""
    # Width, height, bits (at byte 8), compression, RGB, strip (at byte 14), channels, rows and bytes in it, planes.
    tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 2, 273: 14, 277: 3, 278: 2, 279: 24, 284: planes}
    entries = [
        struct.pack(f"{order}HHII", tag, 3, 3, value)
        if tag == 258
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags.items()
    ]
    body = struct.pack(f"{order}3H", 16, 16, 16) + struct.pack(f"{order}12H", *[4095] * 12)
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4)
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body)) + body + directory


DEEP = {
    "rgb.png": deep_png(2, 3),
    "rgba.png": deep_png(6, 4),
    "la.png": deep_png(4, 2),
    "little.tif": deep_tiff("<"),
    "big.tif": deep_tiff(">"),
    "binary.ppm": b"P6 2 2 65535\n" + b"\x0f\xff" * 12,
    "plain.ppm": b"P3 2 2 65535\n" + b"4095 " * 12,
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bit_colours_are_refused_not_darkened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    with Image.open(tmp_path / name) as image:
        assert image.convert("RGB").getpixel((0, 0)) in ((15, 15, 15), (16, 16, 16))  # Pillow reads it, nearly black
    with pytest.raises(UserError, match=rf"{name} has more than 8 bits a channel \(mode RGBA?\)"):
        read_image(tmp_path / name)


def test_sixteen_bit_planes_are_refused() -> None:
    with pytest.raises(UserError, match=r"^it has more than 8 bits a channel"):
        open_image(deep_tiff("<", planes=2), "it")


@pytest.mark.parametrize(
    "content", [b"P6 2 2 255\n" + b"\7" * 12, b"P3 2 2 255\n" + b"7 " * 12, b"P4 8 1\n\0", b"P1 8 1\n" + b"0 " * 8]
)
def test_eight_bits_of_every_kind_of_ppm_are_read(content: bytes) -> None:
    assert open_image(content, "it").getpixel((0, 0)) in ((7, 7, 7), 255)


def test_sixteen_bits_a_pixel_are_not_too_many(tmp_path: Path) -> None:
    head = struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66) + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    (tmp_path / "a.bmp").write_bytes(head + masks + b"\xff" * 8)
    assert read_image(tmp_path / "a.bmp").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png has more than 8 bits a channel \(mode I;16\): convert it to 8 bit"):
        read_image(tmp_path / "deep.png")


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = tmp_path / "called"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {called}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(content)
    for source in (content, tmp_path / "a.png"):
        with pytest.raises(UserError, match=r"a\.png is not an image in one of the formats"):
            open_image(source, "a.png")
    assert not called.exists()


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_file_and_its_content_are_the_same_picture(tmp_path: Path, format: str) -> None:
    assert format in FORMATS
    noise(20, 10).save(tmp_path / "a", format)
    image = open_image(tmp_path / "a", "a")
    assert (image.size, image.info) == ((20, 10), open_image((tmp_path / "a").read_bytes(), "a").info)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(open_image((tmp_path / "a").read_bytes(), "a")))


@pytest.mark.parametrize("format", ["TGA", "ICO", "PCX", "JPEG2000"])
def test_other_formats_are_refused(format: str) -> None:
    file = io.BytesIO()
    noise(20, 10).save(file, format)
    with pytest.raises(UserError, match=r"^it is not an image in one of the formats BMP, .*WEBP"):
        open_image(file.getvalue(), "it")


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_seen(format: str) -> None:
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    assert open_image(file.getvalue(), "it").convert("L").getextrema() == (0, 0)


def flat(size: tuple[int, int]) -> bytes:
    """A black PNG of one bit a pixel, made row by row: a few kilobytes, whatever its size."""
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + (size[0] + 7) // 8)) for _ in range(size[1])) + packer.flush()
    return png(struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0), rows)


def tiled_tiff(tile: int) -> bytes:
    """A grey 2×2 picture in one tile of `tile`×`tile` zeros."""
    packer = zlib.compressobj()
    data = b"".join(packer.compress(bytes(tile)) for _ in range(tile)) + packer.flush()
    tags = {256: 2, 257: 2, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4) + data


TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "more than the limit": lambda: flat((MAX_PIXELS // 8000 + 1, 8000)),
    "more than Pillow warns of": lambda: flat((10_000, 10_000)),
    "more than Pillow opens": lambda: flat((20_000, 20_000)),
    "tiles larger than the picture": lambda: tiled_tiff(8192),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_too_many_pixels_are_refused_before_they_are_decoded(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[ImageFile.ImageFile] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with pytest.raises(TooLargeError, match=rf"^it has .* pixels: at most {MAX_PIXELS:,} are accepted"):
        open_image(TOO_LARGE[case](), "it")
    assert decoded == []


def test_tiles_within_the_limit_are_read() -> None:
    assert open_image(tiled_tiff(256), "it").size == (2, 2)


@pytest.mark.parametrize(
    ("size", "opened"), [((MAX_ASPECT, 1), True), ((MAX_ASPECT + 1, 1), False), ((100_000, 1), False)]
)
def test_a_picture_much_longer_than_wide_is_refused(size: tuple[int, int], opened: bool) -> None:
    for turned in (size, size[::-1]):
        if opened:
            assert open_image(flat(turned), "it").size == turned
        else:
            with pytest.raises(UserError, match=rf"^it has {turned[0]}×{turned[1]} pixels: one side may be 100 times"):
                open_image(flat(turned), "it")


def test_only_the_opener_opens_images() -> None:
    found = set()
    for room in ("inpformer", "pipelines", "serving", "demo", "benchmarks"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr == "open"
                    and ast.unparse(node.value).endswith("Image")
                ):
                    found.add(file.relative_to(ROOT).as_posix())
                if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                    assert "open" not in {alias.name for alias in node.names}, file
    assert found == {"inpformer/images/opening.py"}


def of_scans(count: int, image: Image.Image) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    file = io.BytesIO()
    image.save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = content[content.rindex(START_OF_SCAN) : -2]
    return content[:-2] + scan * (count - content.count(START_OF_SCAN)) + content[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert open_image(of_scans(MAX_SCANS, noise(64, 64)), "a.jpg").size == (64, 64)
    for scans, image in ((MAX_SCANS + 1, noise(64, 64)), (21, Image.new("L", (8000, 8000)))):
        with pytest.raises(TooLargeError, match=rf"^a\.jpg has {scans} scans"):
            open_image(of_scans(scans, image), "a.jpg")
