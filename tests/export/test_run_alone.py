"""run.py in an exported folder, with numpy and a runtime alone: what it decides is what Detector decides."""

import importlib.metadata
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import venv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from packaging.requirements import Requirement
from PIL import Image

from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.images.deep import WHITE
from inpformer.images.opening import MAX_PIXELS, open_image
from inpformer.judging.calibration import calibrate_across
from inpformer.judging.detector import Detector
from inpformer.judging.exported import read_export, write_config
from inpformer.judging.learnt import ALL
from inpformer.judging.plausibility import Plausibility
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods.base import Model
from tests.conftest import INP_FORMER, MULTI, OWN, limits, untrained
from tests.images.deep_files import png as deep_png
from tests.images.deep_files import pnm, rule, values

SOURCE = Path(__file__).resolve().parents[2] / "pipelines" / "export" / "alone"
COPIED = "run.py", "picture.py", "runtime.py", "deciding.py"
BACKENDS = "onnxruntime", "openvino"
FOLDS = 2


def _picture_module() -> ModuleType:
    spec = spec_from_file_location("picture", SOURCE / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


picture = _picture_module()


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_run_has_the_length_that_was_promised() -> None:
    lines = (SOURCE / "run.py").read_text().splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 120


# Resizing.


@pytest.mark.parametrize("seed", range(8))
def test_resizing_gives_the_bytes_that_pillow_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        height, width, size = (int(side) for side in np.exp(rng.uniform(0, [6, 6, 5.5])))
        pixels = noise(height, width, seed)
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(picture.resize(pixels, size), expected, f"{width}×{height} to {size}")


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (64, 64, 64),  # as it is
        (64, 200, 64),
        (200, 64, 64),
        (65, 300, 64),
        (104, 84, 64),  # height shrinks twice as much as width: rows first
        (105, 84, 64),  # and a pixel more: columns first
        (500, 5, 64),
        (5, 500, 64),
        (1, 1, 64),
        (200, 300, 1),
    ],
)
def test_resizing_takes_the_axes_in_pillows_order(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(picture.resize(pixels, size), expected)


def test_pixels_of_another_kind_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), noise(0, 4)):
        with pytest.raises(ValueError, match=r"give uint8 or uint16 \[H, W, 3\]"):
            picture.resize(wrong, 8)


# Reading files.


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: tuple[int, ...], rows: bytes, extra: bytes = b"") -> bytes:
    """`header` is width, height, depth, colour type and, if any, interlacing; `extra` chunks come before the pixels."""
    width, height, depth, colour, *interlaced = header
    packed = zlib.compress(rows)
    middle = len(packed) // 2  # in two chunks, as larger pictures are
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, *(interlaced or [0]))
    parts = chunk(b"IHDR", body) + extra + chunk(b"IDAT", packed[:middle]) + chunk(b"IDAT", packed[middle:])
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


PALETTE = chunk(b"PLTE", bytes(range(256)) * 3)
COLOURS = {"grey": (0, 1), "rgb": (2, 3), "palette": (3, 1), "grey and alpha": (4, 2), "rgba": (6, 4)}


def filtered_png(colour: str, kinds: Sequence[int], width: int, seed: int = 0) -> bytes:
    """Of random bytes, a row for each of `kinds`: whatever they are, they are some picture."""
    number, channels = COLOURS[colour]
    rows = np.random.default_rng(seed).integers(0, 256, (len(kinds), width * channels + 1), np.uint8)
    rows[:, 0] = kinds
    return png((width, len(kinds), 8, number), rows.tobytes(), PALETTE if colour == "palette" else b"")


def same_as_pillow(content: bytes, file: Path) -> None:
    """As the pipeline opens it, in the colours that its transform begins with."""
    file.write_bytes(content)
    expected = np.asarray(open_image(content, "it").convert("RGB"))
    found = picture.read_picture(file)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("colour", COLOURS)
def test_every_filter_of_png_is_undone(colour: str, kind: int, tmp_path: Path) -> None:
    for height, width in ((20, 33), (33, 20), (1, 9), (9, 1), (1, 1)):
        same_as_pillow(filtered_png(colour, [kind] * height, width), tmp_path / "a.png")


@pytest.mark.parametrize("colour", COLOURS)
def test_rows_of_different_filters_are_undone(colour: str, tmp_path: Path) -> None:
    for seed in range(4):
        kinds = np.random.default_rng(seed).integers(0, 5, 40).tolist()
        same_as_pillow(filtered_png(colour, kinds, 30 + seed, seed), tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(("colour", "clear"), [("grey", b"\0\7"), ("rgb", b"\0\7" * 3), ("palette", b"\0\x80")])
def test_a_transparent_colour_changes_nothing(colour: str, clear: bytes, tmp_path: Path) -> None:
    content = filtered_png(colour, [0, 4], 50)
    place = content.index(b"IDAT") - 4
    same_as_pillow(content[:place] + chunk(b"tRNS", clear) + content[place:], tmp_path / "a.png")


SAVED = [("L", "png"), ("LA", "png"), ("RGB", "png"), ("RGBA", "png"), ("RGB", "bmp"), ("L", "bmp"), ("P", "bmp")]


@pytest.mark.parametrize(("mode", "suffix"), [*SAVED, ("RGB", "ppm"), ("L", "pgm")])
def test_what_pillow_saves_is_read(mode: str, suffix: str, tmp_path: Path) -> None:
    smooth = np.cumsum(noise(45, 37), axis=1, dtype=np.uint32).astype(np.uint8)
    for width in (37, 36, 35, 34):  # a BMP's rows are filled up to four bytes
        Image.fromarray(smooth[:, :width]).convert(mode).save(tmp_path / f"a.{suffix}")
        same_as_pillow((tmp_path / f"a.{suffix}").read_bytes(), tmp_path / f"b.{suffix}")


def bmp(height: int, bits: int = 24, packing: int = 0) -> bytes:
    """6 pixels wide, of random bytes for five rows."""
    rows = np.random.default_rng(0).integers(0, 256, (5, (6 * bits // 8 + 3) // 4 * 4), np.uint8).tobytes()
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 6, height, 1, bits, packing, 0, 0, 0, 0, 0) + rows


def test_a_bmp_may_lie_from_top_to_bottom(tmp_path: Path) -> None:
    same_as_pillow(bmp(-5), tmp_path / "a.bmp")
    same_as_pillow(bmp(5), tmp_path / "a.bmp")


def test_a_ppm_may_have_a_comment(tmp_path: Path) -> None:
    same_as_pillow(b"P6\n# of a camera\n4 3\n255\n" + noise(3, 4).tobytes(), tmp_path / "a.ppm")


def test_an_array_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = noise(7, 5)
    for array, expected in ((pixels, pixels), (pixels[..., 0], pixels[..., :1].repeat(3, axis=2))):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(picture.read_picture(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [WHITE, 4095, 255])
def test_sixteen_bits_are_read_and_become_eight_as_in_the_pipeline(channels: int, white: int, tmp_path: Path) -> None:
    deep = values(20, 33, channels, most=5000)
    files = {
        "a.png": deep_png(deep),
        "b.png": deep_png(deep, filters=(0, 1)),
        "a.ppm": pnm(deep),
        "b.ppm": pnm(deep, 4095),
        "a.npy": array_file(deep),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found = picture.eight_bits(picture.read_picture(tmp_path / name), white)
        assert found.dtype == np.uint8
        expected = rule(deep, white)
        np.testing.assert_array_equal(found, expected if channels == 3 else np.stack([expected] * 3, axis=2))
        if not name.endswith("npy"):
            image = open_image(content, name, white)
            np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    pixels = noise(3, 4)
    assert picture.eight_bits(pixels, white) is pixels


@pytest.mark.parametrize("kind", range(5))
def test_the_filters_of_sixteen_bits_are_undone(kind: int, tmp_path: Path) -> None:
    rows = np.random.default_rng(kind).integers(0, 256, (9, 1 + 6 * 7), np.uint8)
    rows[:, 0] = kind
    content = png((7, 9, 16, 2), rows.tobytes())
    (tmp_path / "a.png").write_bytes(content)
    found = picture.eight_bits(picture.read_picture(tmp_path / "a.png"), 4095)
    np.testing.assert_array_equal(found, np.asarray(open_image(content, "a.png", 4095)))


def array_file(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """The head of a .npy of that shape, and nothing else."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def saved(format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(stream, format)
    return stream.getvalue()


GOOD = filtered_png("rgb", [4] * 20, 30)
REFUSED = {
    "empty": (b"", "no PNG, BMP, PPM, PGM or .npy"),
    "text": (b"not a picture", "no PNG, BMP, PPM, PGM or .npy"),
    "jpeg": (saved("JPEG"), "no PNG, BMP, PPM, PGM or .npy"),
    "png: 16 bits with alpha": (png((4, 1, 16, 6), bytes(33)), "neither 8 bits a channel nor 16 of grey or RGB"),
    "png: 16 bits of a palette": (png((4, 1, 16, 3), bytes(9)), "neither 8 bits a channel nor 16 of grey or RGB"),
    "png: 16 bits truncated": (png((4, 1, 16, 2), bytes(24)), ""),
    "png: 1 bit": (png((8, 1, 1, 0), bytes(2)), "neither 8 bits a channel nor 16"),
    "png: interlaced": (png((4, 1, 8, 2, 1), bytes(13)), "interlaced"),
    "png: unknown colours": (png((4, 1, 8, 5), bytes(13)), ""),
    "png: unknown filter": (filtered_png("rgb", [5], 4), ""),
    "png: outside its palette": (png((4, 1, 8, 3), b"\0\0\1\2\3", chunk(b"PLTE", bytes(6))), "out of bounds"),
    "png: no palette": (png((4, 1, 8, 3), bytes(5)), "PLTE"),
    "png: truncated": (GOOD[: len(GOOD) // 2], ""),
    "png: no end": (GOOD[:-12], ""),
    "png: no header": (GOOD[:8] + GOOD[33:], "IHDR"),
    "png: head alone": (GOOD[:8], ""),
    "png: wrong checksum": (GOOD[:50] + bytes([GOOD[50] ^ 1]) + GOOD[51:], "a checksum is wrong"),
    "png: too few rows": (png((30, 21, 8, 2), bytes(20 * 91)), ""),
    "png: too many rows": (png((30, 20, 8, 2), bytes(21 * 91)), ""),
    "png: no pixels": (png((0, 0, 8, 2), b""), "0×0 pixels"),
    "png: too large": (png((8001, 8000, 8, 2), b""), "8001×8000 pixels"),
    "png: monstrous": (png((2**31 - 1, 2**31 - 1, 8, 6), b""), "2147483647×2147483647 pixels"),
    "png: too long": (png((101, 1, 8, 2), bytes(304)), "101×1 pixels"),
    "png: bomb": (png((10, 10, 8, 2), bytes(2**28)), ""),
    "png: chunk of 4 GB": (GOOD[:8] + b"\xff\xff\xff\xffIHDR" + GOOD[16:], ""),
    "bmp: truncated": (bmp(5)[:-20], ""),
    "bmp: head alone": (bmp(5)[:40], ""),
    "bmp: 32 bits": (bmp(5, bits=32), "neither 24 nor 8 bits"),
    "bmp: compressed": (bmp(5, bits=8, packing=1), "compressed"),
    "bmp: monstrous": (bmp(-(2**31)), "6×2147483648 pixels"),
    "ppm: truncated": (b"P6 4 3 255\n" + bytes(30), ""),
    "ppm: 16 bits truncated": (b"P6 2 2 65535\n" + bytes(23), ""),
    "ppm: 7 bits": (b"P6 2 2 127\n" + bytes(12), "no binary PPM or PGM"),
    "ppm: 17 bits": (b"P6 2 2 65536\n" + bytes(24), "no binary PPM or PGM"),
    "ppm: text": (b"P3 1 1 255\n7 7 7", "no binary PPM or PGM"),
    "ppm: monstrous": (b"P5 999999999 999999999 255\n", "999999999×999999999 pixels"),
    "npy: floats": (array_file(np.zeros((4, 4, 3))), r"float64 \(4, 4, 3\)"),
    "npy: four channels": (array_file(np.zeros((4, 4, 4), np.uint8)), r"uint8 \(4, 4, 4\)"),
    "npy: a row": (array_file(np.zeros(4, np.uint8)), r"uint8 \(4,\)"),
    "npy: nothing": (array_file(np.zeros((0, 4, 3), np.uint8)), ""),
    "npy: objects": (array_file(np.array([[None]])), ""),
    "npy: monstrous": (claiming((10**6, 10**6, 3)), ""),
    "npy: truncated": (array_file(noise(9, 9))[:-1], ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_for_its_reason(name: str, tmp_path: Path) -> None:
    content, reason = REFUSED[name]
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'a'} cannot be read \(.*{reason}.*\): convert it to a PNG"):
        picture.read_picture(tmp_path / "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_the_limits_are_the_pipelines() -> None:
    picture.check_size(8000, 8000)
    picture.check_size(1, 100)
    assert picture.MAX_PIXELS == MAX_PIXELS


# In a folder of its own.


@dataclass(frozen=True)
class Exported:
    """The models, of which a detector takes some, and `folder` with all as .onnx."""

    encoder: Encoder
    models: list[Model]
    folder: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """What detectors of one and of two models are made of."""
    # Resized to what leaves half a pixel on each side.
    encoder = load_encoder(EncoderSettings(resize=69, crop=64, levels=(4, 8, 16, 32)))
    models = [untrained(encoder, seed).eval() for seed in range(FOLDS)]
    folder = tmp_path_factory.mktemp("onnx")
    Detector(encoder, INP_FORMER, OWN, {}, MULTI, {}, folds={ALL: models}).write_graphs(folder)
    return Exported(encoder, models, folder)


def write_folder(exported: Exported, detector: Detector, backend: str, folder: Path) -> Path:
    """The folder of a detector whose models are the first of `exported`'s."""
    folder.mkdir()
    names = ["encoder.onnx", *(f"model_{number}.onnx" for number in range(len(detector.in_order)))]
    for file in (*(SOURCE / name for name in COPIED), *(exported.folder / name for name in names)):
        shutil.copy(file, folder)
    files = {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}
    write_config(detector, folder, backend, 32, None, detector.thresholds, detector.plausibility, files)
    return folder


def needed(package: str) -> set[str]:
    """A package and all that it needs, by name."""
    found, open_ends = set(), {package}
    while open_ends:
        found.add(name := open_ends.pop())
        wanted = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        open_ends |= {w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})} - found
    return found


def bare(folder: Path, *packages: str) -> Path:
    """The Python of a virtual environment with these packages, and what they need, alone: links to the ones here."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in set().union(*map(needed, packages)):
        files = importlib.metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(files[0].locate())).parents[len(files[0].parts) - 1] / top)
    return folder / "bin" / "python"


def outcome(python: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What comes of Python run in a place and an environment that know nothing of this project."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, cwd="/", env=clean, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with numpy and one runtime."""
    return bare(tmp_path_factory.mktemp("venv") / backend, "numpy", backend)


@pytest.fixture(scope="module")
def without_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare(tmp_path_factory.mktemp("venv") / "numpy", "numpy")


@pytest.fixture
def pictures(tmp_path: Path) -> dict[Path, Image.Image]:
    """Of several sizes and formats, by file; their scores lie apart."""
    flat = Image.new("RGB", (90, 130), (120, 60, 30))
    slope = Image.fromarray(np.tile(np.linspace(0, 255, 200, dtype=np.uint8), (64, 1))).convert("LA")
    found = {"noise.png": Image.fromarray(noise(160, 110)), "flat.bmp": flat, "slope.png": slope}
    for name, image in found.items():
        image.save(tmp_path / name)
    return {tmp_path / name: image for name, image in found.items()}


def between(scores: Sequence[float]) -> tuple[float, float]:
    """Limits that make a FAIL of the highest of three, and a PASS of the lowest."""
    low, middle, high = sorted(scores)
    assert min(high - middle, middle - low) > 1e-3
    return (middle + high) / 2, (low + middle) / 2


def multi_class(exported: Exported, images: Sequence[Image.Image]) -> Detector:
    detector = Detector(exported.encoder, INP_FORMER, OWN, {ALL: exported.models[0]}, MULTI, {})
    scores = detector.predict(images, ["nut"] * len(images)).scores
    detector.thresholds = {"nut": limits(*between(scores.tolist())), "bolt": limits(9.0)}
    return detector


def single_class(exported: Exported, images: Sequence[Image.Image]) -> Detector:
    models = dict(zip(("bolt", "nut"), exported.models[:2], strict=True))
    detector = Detector(exported.encoder, INP_FORMER, OWN, models, MULTI, {})
    for category in models:
        scores = detector.predict(images, [category] * len(images)).scores
        detector.thresholds[category] = limits(*between(scores.tolist()))
    return detector


def with_folds(exported: Exported, images: Sequence[Image.Image]) -> Detector:
    """bolt's threshold is of the folds, nut's is not."""
    alone = Detector(exported.encoder, INP_FORMER, OWN, {ALL: exported.models[0]}, MULTI, {})
    low, middle, high = sorted(alone.predict(images, ["nut"] * len(images)).scores.tolist())
    held_out = np.linspace(low, (middle + high) / 2, 30).tolist()
    folds = [n % FOLDS for n in range(30)]
    across = calibrate_across("bolt", held_out, folds, CalibrationSettings(0.6, review_rate=0.3))
    assert across.review_threshold < across.threshold
    thresholds = {"bolt": across, "nut": limits((middle + high) / 2, (low + middle) / 2)}
    detector = Detector(exported.encoder, INP_FORMER, OWN, {}, MULTI, thresholds, folds={ALL: exported.models})
    rng = np.random.default_rng(3)
    good = {
        "nut": [Image.fromarray(rng.integers(0, 256, (90, 90, 3), np.uint8)) for _ in range(10)],
        "bolt": [Image.new("RGB", (60, 60), tuple(rng.integers(0, 256, 3).tolist())) for _ in range(10)],
    }
    looks = {name: detector.predict(own, [name] * len(own)).looks for name, own in good.items()}
    detector.plausibility = Plausibility.of(looks)
    return detector


def expected(detector: Detector, image: Image.Image, category: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    prediction = detector.predict([image], [category])
    score = float(prediction.scores[0])
    decided = detector.decide(score, prediction.maps[0], prediction.looks[0], image.size, category)
    known = {"category": category, "decision": decided.decision, "score": pytest.approx(score, abs=1e-5), "doubt": None}
    if (doubt := decided.doubt) is not None:
        known["doubt"] = {"times": pytest.approx(doubt.times, rel=1e-3), "likelier": doubt.likelier}
    threshold = decided.threshold
    return known | {"threshold": threshold.threshold, "review_threshold": threshold.review_threshold}, prediction.maps[
        0
    ]


def test_sixteen_bits_are_judged_by_the_white_that_the_export_carries(
    exported: Exported, python: Path, backend: str, tmp_path: Path
) -> None:
    encoder = exported.encoder
    settings, transform = replace(encoder.settings, white=4095), replace(encoder.transform, white=4095)
    seeing = Exported(Encoder(settings, encoder.network, transform), exported.models, exported.folder)
    deep = values(80, 70, 3, most=4095)
    images = [Image.fromarray(noise(90, 70, seed)) for seed in range(2)] + [Image.fromarray(rule(deep, 4095))]
    detector = multi_class(seeing, images)
    folder = write_folder(seeing, detector, backend, tmp_path / "exported")
    wanted, _ = expected(detector, images[-1], "nut")
    files = {"a.png": deep_png(deep), "a.ppm": pnm(deep, 4095), "a.npy": array_file(deep)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found = outcome(python, folder / "run.py", tmp_path / name, "--category", "nut")
        assert json.loads(found.stdout) == wanted, found.stderr
    old = json.loads((folder / "export.json").read_text())
    assert old.pop("white") == 4095
    (folder / "export.json").write_text(json.dumps(old))
    assert read_export(folder).white == WHITE  # an export of before


def test_only_numpy_and_the_runtime_are_there(python: Path, backend: str) -> None:
    (other,) = set(BACKENDS) - {backend}
    for module in ("torch", "PIL", "scipy", "inpformer", "pipelines", other):
        assert f"No module named '{module}'" in outcome(python, "-c", f"import {module}").stderr
    assert outcome(python, "-c", f"import numpy, {backend}").returncode == 0


def test_the_command_prints_what_the_detector_decides(
    exported: Exported, python: Path, backend: str, pictures: dict[Path, Image.Image], tmp_path: Path
) -> None:
    detector = multi_class(exported, list(pictures.values()))
    folder = write_folder(exported, detector, backend, tmp_path / "exported")
    decisions = set()
    for file, image in pictures.items():
        result = outcome(python, folder / "run.py", file, "--category", "nut")
        assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", 1)
        assert json.loads(result.stdout) == expected(detector, image, "nut")[0]
        decisions.add(json.loads(result.stdout)["decision"])
    assert decisions == {"PASS", "REVIEW", "FAIL"}


# Judges each file by each category, and prints the decisions; the maps go into a file.
JUDGE = """
import json, sys
from pathlib import Path
import numpy as np
folder, out, *files = sys.argv[1:]
sys.path.insert(0, folder)
from run import Inspector
from picture import read_picture
inspector = Inspector(folder)
found = [inspector.judge(read_picture(Path(f)), c) for f in files for c in ("bolt", "nut")]
np.save(out, [one.pop("map") for one in found])
print(json.dumps(found))
"""


@pytest.mark.parametrize("make", [single_class, with_folds])
def test_an_inspector_gives_decisions_and_maps_as_the_detector(
    exported: Exported,
    python: Path,
    backend: str,
    pictures: dict[Path, Image.Image],
    make: Callable[[Exported, Sequence[Image.Image]], Detector],
    tmp_path: Path,
) -> None:
    detector = make(exported, list(pictures.values()))
    folder = write_folder(exported, detector, backend, tmp_path / "exported")
    result = outcome(python, "-c", JUDGE, folder, tmp_path / "maps.npy", *pictures)
    assert result.stderr == ""
    wanted = [expected(detector, image, category) for image in pictures.values() for category in ("bolt", "nut")]
    assert json.loads(result.stdout) == [decision for decision, _ in wanted]
    np.testing.assert_allclose(np.load(tmp_path / "maps.npy"), [map_ for _, map_ in wanted], atol=1e-5)
    for category in ("bolt", "nut"):
        assert len({one["decision"] for one, _ in wanted if one["category"] == category}) > 1
    doubts = {one["doubt"]["likelier"] if one["doubt"] else "" for one, _ in wanted}
    assert doubts == ({"", "bolt", "nut", None} if make is with_folds else {""})


@pytest.mark.parametrize("shift", [-1e-3, 0.0, 1e-9, 1e-3])
def test_folds_decide_as_the_detector_on_either_side_of_a_threshold(shift: float) -> None:
    """Of made-up scores, as no picture can be had that lies so near."""
    held_out, folds = [0.125, 0.25, 0.375, 0.5], [0, 1, 0, 1]
    threshold = calibrate_across("nut", held_out, folds, CalibrationSettings(0.1))
    assert threshold.cross is not None
    own = {0: 0.5, 1: 0.5 + shift}
    wanted = threshold.cross.score(own, threshold.scores, threshold.threshold)
    sys.path.insert(0, str(SOURCE))
    try:
        from run import cross_score  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SOURCE))
        for name in ("run", "picture", "runtime", "deciding"):
            sys.modules.pop(name, None)
    assert cross_score(asdict(threshold), own) == wanted
    assert (wanted > threshold.threshold) == (shift > 0)


def refused(result: "subprocess.CompletedProcess[str]", words: str) -> None:
    """One sentence on stderr, and exit 1."""
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert result.stderr.startswith("error: ")
    assert words in result.stderr


@pytest.fixture
def folder(exported: Exported, pictures: dict[Path, Image.Image], backend: str, tmp_path: Path) -> Path:
    return write_folder(exported, multi_class(exported, list(pictures.values())), backend, tmp_path / "exported")


def test_a_wrong_request_is_one_sentence(
    folder: Path, python: Path, pictures: dict[Path, Image.Image], tmp_path: Path
) -> None:
    file = next(iter(pictures))
    refused(outcome(python, folder / "run.py", file, "--category", "gear"), "gear is not one of bolt, nut")
    refused(outcome(python, folder / "run.py", file), "is not one of bolt, nut")
    refused(outcome(python, folder / "run.py", tmp_path / "gone.png", "--category", "nut"), "gone.png")
    refused(outcome(python, folder / "run.py", tmp_path, "--category", "nut"), "give a picture's file")
    (tmp_path / "cut.png").write_bytes(saved("PNG")[:-20])
    refused(outcome(python, folder / "run.py", tmp_path / "cut.png", "--category", "nut"), "it ends too early")
    (tmp_path / "a.jpg").write_bytes(saved("JPEG"))
    refused(outcome(python, folder / "run.py", tmp_path / "a.jpg", "--category", "nut"), "Inspector.judge")
    (tmp_path / "bomb.png").write_bytes(REFUSED["png: bomb"][0])
    refused(outcome(python, folder / "run.py", tmp_path / "bomb.png", "--category", "nut"), "bomb.png cannot be read")


def test_the_only_category_need_not_be_named(exported: Exported, python: Path, backend: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise(40, 40))
    image.save(tmp_path / "a.png")
    models = {ALL: exported.models[0]}
    detector = Detector(exported.encoder, INP_FORMER, OWN, models, MULTI, {"nut": limits(0.0)})
    folder = write_folder(exported, detector, backend, tmp_path / "exported")
    assert (
        json.loads(outcome(python, folder / "run.py", tmp_path / "a.png").stdout) == expected(detector, image, "nut")[0]
    )


def edited(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(config | changed))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda folder: flip(folder / "model_0.onnx"), "model_0.onnx is not the file that was exported"),
    "a missing model": (lambda folder: (folder / "encoder.onnx").unlink(), "encoder.onnx"),
    "no export.json": (lambda folder: (folder / "export.json").unlink(), "export.json"),
    "half of it": (lambda folder: (folder / "export.json").write_text('{"format'), "export.json is damaged"),
    "a list": (lambda folder: (folder / "export.json").write_text("[]"), "export.json is damaged"),
    "nothing in it": (lambda folder: (folder / "export.json").write_text("{}"), "export.json is damaged"),
    "another format": (lambda folder: edited(folder, format_version=2), "format 1"),
    "another runtime": (lambda folder: edited(folder, backend="tensorrt"), "does not know tensorrt"),
    "tiles": (lambda folder: edited(folder, tiling={"tile": 512, "overlap": 0.25}), "judge tiles by the service"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_folder_is_one_sentence(
    folder: Path, python: Path, pictures: dict[Path, Image.Image], damage: str
) -> None:
    spoil, words = DAMAGED[damage]
    spoil(folder)
    refused(outcome(python, folder / "run.py", next(iter(pictures)), "--category", "nut"), words)


def test_a_model_that_gives_no_finite_score_is_one_sentence_and_no_verdict(
    folder: Path, python: Path, pictures: dict[Path, Image.Image]
) -> None:
    model = onnx.load(folder / "model_0.onnx")
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) > 1:
            broken = np.full(tuple(weights.dims), np.nan, np.float32)
            weights.CopyFrom(onnx.numpy_helper.from_array(broken, weights.name))
    onnx.save(model, folder / "model_0.onnx")
    edited(folder, files={"model_0.onnx": sha256((folder / "model_0.onnx").read_bytes()).hexdigest()})
    result = outcome(python, folder / "run.py", next(iter(pictures)), "--category", "nut")
    refused(result, "[nan] are not all finite numbers")


def test_a_model_that_the_runtime_cannot_read_is_one_sentence(
    folder: Path, python: Path, backend: str, pictures: dict[Path, Image.Image]
) -> None:
    model = onnx.load(folder / "model_0.onnx")
    model.graph.node[0].op_type = "OfTheFuture"
    onnx.save(model, folder / "model_0.onnx")
    edited(folder, files={})
    result = outcome(python, folder / "run.py", next(iter(pictures)), "--category", "nut")
    refused(result, f"{backend} cannot read model_0.onnx")


def test_a_missing_runtime_is_one_sentence_that_says_what_to_install(
    folder: Path, without_runtime: Path, backend: str, pictures: dict[Path, Image.Image]
) -> None:
    result = outcome(without_runtime, folder / "run.py", next(iter(pictures)), "--category", "nut")
    refused(result, f"pip install {backend}")
