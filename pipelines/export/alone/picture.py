"""Reads pictures and resizes them, byte for byte as Pillow 13 does, with numpy and the standard library alone."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np

MAX_PIXELS = 64_000_000
MAX_ASPECT = 100
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types: grey, RGB, palette, grey and alpha, RGBA
DEEP = 0, 2  # those that may have 16 bits a channel
PPM = re.compile(rb"P([56])(?:\s+|#.*\n)+(\d{1,9})\s+(\d{1,9})\s+(\d{3,5})\s")


def read_picture(file: Path) -> np.ndarray:
    """The colours [H, W, 3] of a PNG, BMP, PPM or PGM, or of an array in a .npy: uint8, or uint16 as they lie in a file
    of 16 bits a channel.

    Raises ValueError for whatever else, before anything as large as a picture's claimed size is allocated.
    """
    try:
        if file.stat().st_size > 7 * MAX_PIXELS:
            raise ValueError("it is larger than the largest picture")
        content = file.read_bytes()
        if content.startswith(b"\x93NUMPY"):
            return read_array(file)
        for start, read in ((b"\x89PNG\r\n\x1a\n", read_png), (b"BM", read_bmp), (b"P", read_ppm)):
            if content.startswith(start):
                return read(content)
        raise ValueError("it is no PNG, BMP, PPM, PGM or .npy")
    except (ValueError, TypeError, LookupError, struct.error, zlib.error) as error:
        reason = "it ends too early" if isinstance(error, struct.error) else error
        hint = "convert it to a PNG of 8 or 16 bits a channel, or give its pixels to Inspector.judge"
        raise ValueError(f"{file} cannot be read ({reason}): {hint}") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}): give a picture's file") from None


def check_size(height: int, width: int) -> None:
    """Refuses what the pipeline refuses."""
    if not 0 < height * width <= MAX_PIXELS or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"{width}×{height} pixels are none, more than {MAX_PIXELS:,} or longer than {MAX_ASPECT}:1")


def read_array(file: Path) -> np.ndarray:
    """A .npy of uint8 or uint16 [H, W, 3] or [H, W]; it is mapped, so a claim that the file does not hold costs
    nothing.
    """
    pixels = np.load(file, mmap_mode="r", allow_pickle=False)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"it holds {pixels.dtype} {pixels.shape}, not uint8 or uint16 [H, W, 3] or [H, W]")
    check_size(*pixels.shape[:2])
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)


def read_ppm(content: bytes) -> np.ndarray:
    """A binary PPM or PGM; its values are as they lie in it, whatever maximum it states above 255."""
    if (found := PPM.match(content)) is None or not 255 <= int(found[4]) <= 65535:
        raise ValueError("it is no binary PPM or PGM of 8 or 16 bits a channel")
    kind, width, height, largest = (int(number) for number in found.groups())
    check_size(height, width)
    channels = {5: 1, 6: 3}[kind]
    pixels = np.frombuffer(content, np.uint8 if largest == 255 else ">u2", height * width * channels, found.end())
    return np.broadcast_to(pixels.reshape(height, width, channels), (height, width, 3))


def read_bmp(content: bytes) -> np.ndarray:
    """A BMP of 24 bits a pixel, or of 8 with a palette, not compressed."""
    start, header, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", content, 10)
    if header < 40 or bits not in (8, 24) or packing:
        raise ValueError("it is compressed, or has neither 24 nor 8 bits a pixel")
    check_size(abs(height), width)
    used = width * bits // 8
    stride = (used + 3) // 4 * 4
    rows = np.frombuffer(content, np.uint8, abs(height) * stride, start).reshape(-1, stride)[:, :used]
    rows = rows[::-1] if height > 0 else rows  # upside down, unless its height is negative
    if bits == 24:
        return rows.reshape(-1, width, 3)[..., ::-1]
    (colours,) = struct.unpack_from("<I", content, 46)
    palette = np.frombuffer(content, np.uint8, 4 * (colours or 256), 14 + header).reshape(-1, 4)
    return palette[:, 2::-1][rows]


def read_png(content: bytes) -> np.ndarray:
    """A PNG of 8 or 16 bits a channel that is not interlaced. The alpha of 8 bits is dropped."""
    chunks: dict[bytes, bytearray] = {}
    start = 8
    while b"IEND" not in chunks:
        length, kind = struct.unpack_from(">I4s", content, start)
        body, checksum = struct.unpack_from(f">{length}sI", content, start + 8)
        if checksum != zlib.crc32(kind + body):
            raise ValueError("a checksum is wrong")
        chunks.setdefault(kind, bytearray()).extend(body)
        start += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if interlaced or not (depth == 8 or (depth == 16 and colour in DEEP)):
        raise ValueError("it is interlaced, or has neither 8 bits a channel nor 16 of grey or RGB")
    check_size(height, width)
    channels = CHANNELS[colour] * depth // 8  # of bytes: filters know no others
    size = height * (1 + width * channels)
    rows = np.frombuffer(zlib.decompressobj().decompress(chunks[b"IDAT"], size + 1), np.uint8).reshape(height, -1)
    image = unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, channels))
    if depth == 16:
        image = image[..., ::2].astype(np.uint16) << 8 | image[..., 1::2]
    if colour == 3:
        image = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[image[..., 0]]
    return image[..., :3] if image.shape[2] > 2 else np.broadcast_to(image[..., :1], (height, width, 3))


def unfilter(kinds: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Undoes PNG's filters, whose kinds are a row's, a diagonal at a time: a pixel needs those left and above."""
    height, width, channels = filtered.shape
    image = np.pad(filtered, ((1, 0), (1, 0), (0, 0)))
    flat = image.reshape(-1, channels)
    for diagonal in range(2, height + width + 1):
        top, bottom = max(1, diagonal - width), min(height, diagonal - 1)
        first, last = diagonal + top * width, diagonal + bottom * width  # a row down and a pixel back is `width` on
        here, left, up, corner = (flat[first - n : last - n + 1 : width] for n in (0, 1, width + 1, width + 2))
        left, up, corner = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
        from_left, from_up, from_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        paeth = np.where(from_up <= from_corner, up, corner)
        paeth = np.where((from_left <= from_up) & (from_left <= from_corner), left, paeth)
        predicted = np.choose(kinds[top - 1 : bottom, None], [np.zeros_like(left), left, up, (left + up) // 2, paeth])
        here += predicted.astype(np.uint8)
    return image[1:, 1:]


def eight_bits(pixels: np.ndarray, white: int) -> np.ndarray:
    """Pixels of 8 bits as they are, of 16 each value v as round(255·min(v, white)/white), halves up."""
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize != 2:
        return pixels
    levels = (510 * np.minimum(np.arange(65536), white) + white) // (2 * white)
    return np.asarray(levels.astype(np.uint8)[pixels])


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """[H, W, 3] to [size, size, 3], bilinear and antialiased: an axis at a time, in fixed-point numbers of 22 bits."""
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"the pixels are {pixels.dtype} {pixels.shape}: give uint8 or uint16 [H, W, 3]")
    height, width, _ = pixels.shape
    # Pillow's order, which decides how the bytes are rounded: rows first, but columns where these shrink much more.
    for axis in (0, 1) if height - size > max(0, 2 * (width - size)) else (1, 0):
        lines = np.moveaxis(pixels, axis, 0)
        scale = len(lines) / size
        support = max(scale, 1.0)
        centres = (np.arange(size)[:, None] + 0.5) * scale
        places = np.maximum(centres - support + 0.5, 0).astype(int) + np.arange(2 * int(np.ceil(support)) + 1)
        weights = np.maximum(1 - abs(places - centres + 0.5) * (1 / support), 0) * (places < len(lines))
        weights = (weights / weights.cumsum(axis=1)[:, -1:] * 2**22 + 0.5).astype(np.int32)
        total = np.full((size, *lines.shape[1:]), 2**21, np.int32)
        for tap in range(places.shape[1]):
            total += lines[places[:, tap].clip(max=len(lines) - 1)] * weights[:, tap, None, None]
        pixels = np.moveaxis((total >> 22).astype(np.uint8), 0, axis)
    return pixels
