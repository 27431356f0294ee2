"""Files of 16 bits a channel as cameras save them, byte for byte, as Pillow writes few of them."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint16]
NONE, LZW, DEFLATE = 1, 5, 8  # TIFF's compressions
# Of each pass of Adam7: the first row and column, and the steps to the next.
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def values(height: int = 37, width: int = 41, channels: int = 1, most: int = 65535, seed: int = 0) -> Values:
    """Noise [H, W] or [H, W, C] that holds 0 and `most`."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    found = np.random.default_rng(seed).integers(0, most + 1, shape, np.uint16)
    found.flat[0], found.flat[-1] = 0, most
    return found


def rule(found: Values, white: int) -> NDArray[np.uint8]:
    """What `docs/data.md` says, in exact numbers: round(255·min(v, white)/white)."""
    return np.floor(255 * np.minimum(found, white).astype(np.float64) / white + 0.5).astype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    found: Values,
    interlaced: bool = False,
    filters: Sequence[int] = (0,),
    extra: bytes = b"",
    claimed: tuple[int, int] | None = None,
) -> bytes:
    """Grey [H, W], grey with alpha, RGB or RGBA; its rows have the `filters` in turns, 0 (none) or 1 (left). `claimed`
    is a width and height that it has not.
    """
    width, height = claimed or found.shape[1::-1]
    channels = 1 if found.ndim == 2 else found.shape[2]
    passes = [found[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [found]
    rows = b""
    for part in passes:
        for number, row in enumerate(part if part.size else ()):
            kind = filters[number % len(filters)]
            raw = np.frombuffer(row.astype(">u2").tobytes(), np.uint8)
            shifted = np.concatenate([np.zeros(2 * channels, np.uint8), raw])[: len(raw)]
            rows += bytes([kind]) + (raw - shifted if kind else raw).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, int(interlaced))
    packed = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + packed + chunk(b"IEND", b"")


def tiff(
    found: Values, order: str = "<", compression: int = NONE, strips: int = 1, tags: Mapping[int, int] | None = None
) -> bytes:
    """Grey or RGB in so many strips; `order` is struct's, `tags` are others, or other values."""
    height, width = found.shape[:2]
    channels = 1 if found.ndim == 2 else found.shape[2]
    rows = -(-height // strips)
    parts = [found[top : top + rows].astype(f"{order}u2").tobytes() for top in range(0, height, rows)]
    packed = [{NONE: bytes, LZW: lzw, DEFLATE: zlib.compress}[compression](part) for part in parts]
    long, short = 4, 3
    entries = {256: (long, [width]), 257: (long, [height]), 258: (short, [16] * channels)}
    entries |= {259: (short, [compression]), 262: (short, [1 if channels == 1 else 2]), 277: (short, [channels])}
    entries |= {278: (long, [rows]), 279: (long, [len(part) for part in packed])}
    starts = np.cumsum([8, *(len(part) for part in packed)]).tolist()
    entries |= {273: (long, starts[:-1])} | {tag: (short, [value]) for tag, value in (tags or {}).items()}
    extra, place, directory = b"", starts[-1] + starts[-1] % 2, b""
    for tag, (kind, numbers) in sorted(entries.items()):
        content = struct.pack(f"{order}{len(numbers)}{'I' if kind == long else 'H'}", *numbers)
        if len(content) > 4:
            content, extra = struct.pack(f"{order}I", place + len(extra)), extra + content + bytes(len(content) % 4)
        directory += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + content.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place + len(extra))
    body = b"".join(packed) + bytes(starts[-1] % 2)
    return head + body + extra + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


def lzw(content: bytes) -> bytes:
    """TIFF's LZW, without a repetition found: every byte by its own code of nine bits, the table cleared in time."""
    codes = []
    for start in range(0, len(content), 200):
        codes += [256, *content[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def pnm(found: Values, most: int = 65535) -> bytes:
    """A binary PGM or PPM that states the maximum `most`."""
    kind = "P5" if found.ndim == 2 else "P6"
    return (
        f"{kind}\n# of a camera\n{found.shape[1]} {found.shape[0]}\n{most}\n".encode() + found.astype(">u2").tobytes()
    )
