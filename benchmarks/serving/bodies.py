"""What a hostile client sends: a function a kind, deterministic by its generator of random numbers."""

import base64
import io
import json
import random
import string
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from serving.v2 import JSON_LENGTH
from serving.webhook import PATH as WEBHOOK

FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")
SIDE = 64
LARGE = 8000  # the largest square that is opened
WORDS = ("", "../../etc/passwd", "a/b", "%00", "\ud800", "ü" * 50, "x" * 5000, "'; DROP TABLE", "nan", "None", "\r\n")
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, float("nan"), "", [], {}, [[]], {"a": []}, *WORDS)


@dataclass(frozen=True)
class Target:
    """The model that is served, and a category of it."""

    model: str
    category: str

    @property
    def predict(self) -> str:
        """The path."""
        return f"/v1/predict?category={self.category}"

    @property
    def infer(self) -> str:
        """The path."""
        return f"/v2/models/{self.model}/infer"


@dataclass(frozen=True)
class Request:
    """Of HTTP/1.1; without a length among its headers it has the right one."""

    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"

    def wire(self, host: str) -> bytes:
        """As it is sent."""
        names = {name.lower() for name, _ in self.headers}
        own = [] if names & {"content-length", "transfer-encoding"} else [("Content-Length", str(len(self.body)))]
        lines = [f"{name}: {value}" for name, value in (("Host", host), ("Connection", "close"), *own, *self.headers)]
        head = "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *lines, "", ""])
        return head.encode("latin-1", "replace") + self.body


Kind = Callable[[random.Random, Target], Request]


@cache
def picture(format: str = "PNG", mode: str = "RGB") -> bytes:
    """Noise, as a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return as_file(Image.fromarray(pixels).convert(mode), format)


def as_file(image: Image.Image, format: str, **options: Any) -> bytes:
    """The content of its file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def any_picture(rng: random.Random) -> bytes:
    """In any format."""
    return picture(rng.choice(FORMATS))


def mostly(rng: random.Random, usual: Any, *others: Any) -> Any:
    """One that is right, or now and then one of the others: so that a request is wrong in one way, not in all."""
    return usual if rng.random() < 0.8 else rng.choice(others)


# /v1/predict: pictures


def good(rng: random.Random, to: Target) -> Request:
    """The one that is answered with 200, among all the others."""
    return Request(to.predict, any_picture(rng))


def nothing(rng: random.Random, to: Target) -> Request:
    return Request(to.predict)


def noise(rng: random.Random, to: Target) -> Request:
    return Request(to.predict, rng.randbytes(rng.randrange(1, 100_000)))


def truncated(rng: random.Random, to: Target) -> Request:
    whole = any_picture(rng)
    return Request(to.predict, whole[: rng.randrange(len(whole))])


def flipped(rng: random.Random, to: Target) -> Request:
    """A few wrong bytes, most of them where the picture says what it is."""
    content = bytearray(any_picture(rng))
    for _ in range(rng.randrange(1, 20)):
        content[rng.randrange(min(len(content), rng.choice((100, len(content)))))] = rng.randrange(256)
    return Request(to.predict, bytes(content))


def polyglot(rng: random.Random, to: Target) -> Request:
    """Two kinds of file in one."""
    first, second = (
        any_picture(rng),
        rng.choice((any_picture(rng), b"PK\x03\x04", b"%PDF-1.7\n", b"<script>", b"\x7fELF")),
    )
    cut = rng.choice((len(first), rng.randrange(len(first))))
    return Request(to.predict, rng.choice((first[:cut] + second + first[cut:], second + first)))


def claims(rng: random.Random, to: Target) -> Request:
    """A PNG of another size than it claims."""
    width, height = (rng.choice((0, 1, SIDE, LARGE, 2**16, 2**31 - 1, 2**32 - 1)) for _ in range(2))
    return Request(to.predict, png(width, height, rng.choice((1, 2, 8, 16, 255)), zlib.compress(bytes(1000))))


def png(width: int, height: int, bits: int, data: bytes, *more: bytes) -> bytes:
    """A grey one, whatever its data."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(rng: random.Random, to: Target) -> Request:
    """A few kilobytes that become megabytes."""
    return Request(to.predict, rng.choice(bombs()))


@cache
def bombs() -> tuple[bytes, ...]:
    """The largest picture, one larger, a text of 64 MB in a small one, a stripe, scans and frames by the hundred."""
    megabytes = zlib.compress(bytes(2**26), 9)
    scans = as_file(Image.new("L", (SIDE, SIDE)), "JPEG", progressive=True)
    last = scans[scans.rindex(b"\xff\xda") : -2]
    shades = [Image.new("L", (SIDE, SIDE), number % 256) for number in range(500)]
    text = chunk(b"zTXt", b"Comment\0\0" + megabytes)
    profile = chunk(b"iCCP", b"icc\0\0" + megabytes)
    small = zlib.compress(bytes((SIDE + 1) * SIDE))
    return (
        as_file(Image.new("L", (LARGE, LARGE)), "PNG"),
        png(LARGE + 1, LARGE, 8, megabytes),
        png(SIDE, SIDE, 8, small, text),
        png(SIDE, SIDE, 8, small, profile),
        png(SIDE, SIDE, 8, megabytes),
        as_file(Image.new("L", (60_000, 1)), "PNG"),
        scans[:-2] + last * 1000 + scans[-2:],
        as_file(shades[0], "GIF", save_all=True, append_images=shades[1:]),
    )


def frames(rng: random.Random, to: Target) -> Request:
    """Many pictures in one file."""
    first = Image.new("L", (SIDE, SIDE))
    more = [Image.new("L", (SIDE, SIDE), rng.randrange(256)) for _ in range(rng.randrange(1, 100))]
    content = as_file(first, rng.choice(("GIF", "TIFF", "WEBP", "PNG")), save_all=True, append_images=more)
    return Request(to.predict, content[: rng.choice((len(content), rng.randrange(len(content))))])


def tiff(rng: random.Random, to: Target) -> Request:
    """A directory of random entries, which may point at itself."""
    count = rng.randrange(1, 30)
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 324, 325, rng.randrange(2**16))
    entries = [
        struct.pack("<HHII", rng.choice(tags), rng.randrange(1, 14), rng.choice((1, 2, 2**31)), rng.choice((0, 8, 64)))
        for _ in range(count)
    ]
    content = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries) + struct.pack("<I", rng.choice((0, 8)))
    return Request(to.predict, content + bytes(500))


def large(rng: random.Random, to: Target) -> Request:
    """More than an upload may have, by a byte or by much."""
    return Request(rng.choice((to.predict, to.infer)), bytes(2**24 + rng.choice((0, 1, 2**20))))


# /v1/predict: forms and parameters


def form(rng: random.Random, to: Target) -> Request:
    """Whole, cut, or with wrong bytes in it."""
    fields = [_field(rng) for _ in range(mostly(rng, 1, 0, 2, 9, 100))]
    content = bytearray(b"".join(b"--b\r\n" + each for each in fields) + b"--b--\r\n")
    for _ in range(mostly(rng, 0, 1, 5)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    cut = mostly(rng, len(content), rng.randrange(len(content) + 1))
    kind = mostly(rng, "; boundary=b", "", "; boundary=", "; boundary=" + "b" * 5000, '; boundary="b', ";=;;")
    charset = mostly(rng, "", "; charset=nonsense", "; charset=utf-7", "; charset=zlib")
    return Request(to.predict, bytes(content[:cut]), (("Content-Type", f"multipart/form-data{kind}{charset}"),))


def _field(rng: random.Random) -> bytes:
    name = mostly(rng, "image", "", "other", "x" * 10_000, '"', "\0", "ü")
    long = f'; filename="{"x" * 9000}"'
    file = mostly(rng, '; filename="a.png"', "", '; filename="../../a"', "; filename*=utf-8''%ff", long)
    more = mostly(rng, "", "Content-Type: multipart/mixed; boundary=c\r\n", "X: y\r\n" * 500, "no header\r\n", ": \r\n")
    head = f'Content-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'
    return head.encode() + mostly(rng, picture(), b"", rng.randbytes(100), b"--b--") + b"\r\n"


def nested(rng: random.Random, to: Target) -> Request:
    """Forms in forms."""
    content = picture()
    for depth in range(rng.choice((2, 10, 200))):
        head = f'--b{depth}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
        kind = f"Content-Type: multipart/form-data; boundary=b{depth - 1}\r\n\r\n"
        content = (head + kind).encode() + content + f"\r\n--b{depth}--\r\n".encode()
    return Request(to.predict, content, (("Content-Type", f"multipart/form-data; boundary=b{depth}"),))


def parameter(rng: random.Random, to: Target) -> Request:
    """Of a good picture."""
    values = ("", "-1", "0", "1e99", "9" * 5000, "%ff%fe", "%00", "..%2f..", "%ED%A0%80", "x" * 5000, "true", "%0d%0a")
    names = ("category", "part", "line", "map", "deadline_ms", "other", "%00", "category[]")
    query = "&".join(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.choice((1, 2, 50))))
    return Request(f"{to.predict}&{query}", picture())


def deadline(rng: random.Random, to: Target) -> Request:
    """Sooner than anything can be judged."""
    return Request(f"{to.predict}&deadline_ms={rng.randrange(1, 5)}", any_picture(rng))


# /v2, in JSON and with tensors behind it


def inference(to: Target, count: int = 1) -> dict[str, Any]:
    """A good one."""
    data = [base64.b64encode(picture()).decode()] * count
    image = {"name": "image", "datatype": "BYTES", "shape": [count], "data": data}
    category = {"name": "category", "datatype": "BYTES", "shape": [1], "data": [to.category]}
    return {"id": "1", "inputs": [image, category], "parameters": {"part": "a", "line": "b"}, "outputs": []}


def as_json(rng: random.Random, to: Target) -> Request:
    """With some of its values replaced, or one more."""
    asked = inference(to, rng.choice((1, 1, 2)))
    for _ in range(rng.randrange(1, 4)):
        _spoil(rng, asked)
    return Request(to.infer, json.dumps(asked).encode())


def _spoil(rng: random.Random, value: Any) -> None:
    """Replaces something somewhere in it."""
    if not isinstance(value, dict | list) or not value:
        return
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if rng.random() < 0.5 and isinstance(value[key], dict | list):
        _spoil(rng, value[key])
    elif isinstance(value, dict) and rng.random() < 0.3:
        value.pop(key)
    else:
        value[key] = rng.choice(VALUES)


def broken_json(rng: random.Random, to: Target) -> Request:
    """Cut, nested, of millions, of another encoding, or none at all."""
    whole = json.dumps(inference(to)).encode()
    count = rng.choice((10, 1000, 100_000))
    bodies = (
        whole[: rng.randrange(len(whole))],
        b"[" * count,
        b'{"inputs":' * count,
        b'{"inputs":[' + b"{}," * count + b"{}]}",
        b'{"inputs":[],"id":' + b"9" * count + b"}",
        whole.decode().encode("utf-16"),
        b"\xff" + whole,
        b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[' + b"1," * count + b'1],"data":[]}]}',
        whole.replace(b'"1"', b'"\\ud800"'),
        whole.replace(b'"a"', b'"\\udfff"'),
        rng.randbytes(100),
    )
    return Request(to.infer, rng.choice(bodies))


def binary(rng: random.Random, to: Target) -> Request:
    """Tensors behind the JSON, of other sizes than it says, or of elements that are longer than they are."""
    count = mostly(rng, 1, 2, 16, 17)
    elements = [mostly(rng, picture(), b"", rng.randbytes(50)) for _ in range(count)]
    tensor = b"".join(struct.pack("<I", mostly(rng, len(each), 0, 2**32 - 1)) + each for each in elements)
    size = mostly(rng, len(tensor), 0, -1, len(tensor) + 1, 2**64, "1", None, 1.5, "\ud800")
    image = {"name": "image", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [image], "parameters": {"category": to.category}}).encode()
    length = mostly(rng, str(len(head)), str(len(head) - 1), "-1", "", "x", "9" * 5000, "0")
    return Request(to.infer, head + mostly(rng, tensor, bytes(2**20), b""), ((JSON_LENGTH, length),))


# the webhook, routes and HTTP itself


def webhook(rng: random.Random, to: Target) -> Request:
    """With a signature that is none."""
    values = ("", "v1,", "v1,====", "v1," + base64.b64encode(bytes(32)).decode(), "v2,x", "x" * 4000, "ü")
    times = ("", "0", "-1", "9" * 400, "9" * 5000, "nan", "1e9", "1700000000")
    headers = (
        ("X-MLflow-Signature", rng.choice(values)),
        ("X-MLflow-Timestamp", rng.choice(times)),
        ("X-MLflow-Delivery-Id", rng.choice(("", "1", "x" * 4000, "ü"))),
    )
    return Request(WEBHOOK, rng.randbytes(rng.choice((0, 10, 2**16, 2**16 + 1))), headers[: rng.randrange(4)])


def route(rng: random.Random, to: Target) -> Request:
    """What is not there, or not by that method."""
    paths = (
        "/",
        "//",
        "/v1/predict/",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e",
        "/v2/models/%ff/infer",
        f"/v2/models/{to.model}/versions/1/infer",
        "/v2/models/" + "x" * 5000,
        "/%00",
        "*",
        "http://other/v1/predict",
        "/" + "".join(rng.choices(string.printable[:94], k=20)).replace(" ", ""),
    )
    return Request(rng.choice(paths), b"", (), rng.choice(("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")))


def headers(rng: random.Random, to: Target) -> Request:
    """Giant, many, or of bytes that no header has."""
    made = rng.choice(
        (
            (("X", "y" * rng.choice((1000, 10_000, 2**16, 2**20))),),
            (("X", "y"),) * rng.choice((10, 1000, 20_000)),
            (("Content-Type", rng.choice(("image/*", "\xff\xfe", "x" * 4000, ";", "application/json"))),),
            (("X y", "z"),),
            (("X", "\0\x01\x7f"),),
            (("Content-Encoding", "gzip"),),
            (("Expect", "100-continue"),),
            (("Upgrade", "websocket"),),
            (("Host", "other"),),
        )
    )
    return Request(to.predict, picture(), made)


def framing(rng: random.Random, to: Target) -> Request:
    """A length or chunks that are not those of the body."""
    chunked = ("Transfer-Encoding", "chunked")
    size, content = str(len(picture())), picture()
    whole = f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n"
    made: tuple[tuple[bytes, tuple[tuple[str, str], ...]], ...] = (
        (whole, (chunked,)),
        (b"zz\r\n" + content, (chunked,)),
        (b"-5\r\nhello\r\n0\r\n\r\n", (chunked,)),
        (b"f" * 1000 + b"\r\n", (chunked,)),
        (b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", (chunked,)),
        (whole, (chunked, ("Content-Length", size))),
        (content, (("Content-Length", "-1"),)),
        (content, (("Content-Length", "x"),)),
        (content, (("Content-Length", "9" * 30),)),
        (content, (("Content-Length", size), ("Content-Length", "1"))),
        (content, (("Content-Length", str(len(content) - 10)),)),
        (content, (("Transfer-Encoding", "gzip"),)),
        (content, (("Transfer-Encoding", "chunked, chunked"),)),
    )
    body, named = rng.choice(made)
    return Request(to.predict, body, named)


KINDS: tuple[Kind, ...] = (
    *(good, nothing, noise, truncated, flipped, polyglot, claims, bomb, frames, tiff, large),
    *(form, nested, parameter, deadline, as_json, broken_json, binary, webhook, route, headers, framing),
)


def request(seed: int, number: int, to: Target) -> tuple[str, Request]:
    """The `number`-th: its kind and what is sent."""
    kind = KINDS[number % len(KINDS)]
    return kind.__name__, kind(random.Random(f"{seed} {number}"), to)
