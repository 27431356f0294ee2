"""The cases, and the clock."""

import io
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.calibration.measure import model
from inpformer.backends.graphs import ENCODER_GRAPH
from inpformer.backends.names import ONNXRUNTIME, OPENVINO, TORCH
from inpformer.backends.quantised import quantise
from inpformer.encoders.encoder import load_encoder
from inpformer.encoders.settings import EncoderSettings
from inpformer.images.opening import open_image
from inpformer.judging.calibration import calibrate
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.judging.plausibility import look
from inpformer.judging.settings import CalibrationSettings
from inpformer.methods import METHODS

SIZE, SIDE, WARM_UP = 320, 512, 3
SHARED = {"grid": 16, "channels": 128}
CATEGORY = "part"
EIGHT_BIT = ("avx512_vnni", "avx_vnni", "amx_int8")
PARTS = ("decode", "resize", "encoder", "trained part", "score, regions")


@dataclass
class Case:
    """What is timed: `batch` pictures are given to the detector at once."""

    method: str
    backend: str
    bits: int
    threads: int
    batch: int
    detector: Detector
    seconds: list[float] = field(default_factory=list)
    parts: list[list[float]] = field(default_factory=list)

    def row(self, base: float) -> str:
        """Of the table: milliseconds a picture."""
        p50, p95, p99 = 1000 * np.quantile(self.seconds, [0.5, 0.95, 0.99])
        parts = " | ".join(f"{part:.1f}" for part in 1000 * np.median(self.parts, axis=0)) if self.parts else "| " * 4
        named = f"| {self.method} | {self.backend} | {self.bits} | {self.threads} | {self.batch} "
        return f"{named}| {p50:.1f} | {p95:.1f} | {p99:.1f} | {p50 / (1000 * base):.2f} | {parts} |"


def run(methods: Sequence[str], threads: Sequence[int], batches: Sequence[int], images: int) -> None:
    """Prints the table."""
    rng = np.random.default_rng(0)
    contents = [png(rng) for _ in range(max(batches))]
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            case for method in methods for case in _cases(method, threads, batches, Path(folder) / method, contents)
        ]
        for number in tqdm(range(WARM_UP + images), desc="timing", unit="round"):
            for case in cases:
                _time(case, contents, counts=number >= WARM_UP)
    print(f"{_machine()}; {images} rounds; {SIDE}×{SIDE} PNG, bundled encoder at {SIZE} px. ms a picture.\n")
    print(f"| method | backend | bits | threads | batch | p50 | p95 | p99 | of torch's | {' | '.join(PARTS)} |")
    print("|---" * (9 + len(PARTS)) + "|")
    for case in cases:
        base = next(one for one in cases if one.method == case.method and one.backend == TORCH)
        print(case.row(float(np.median(base.seconds))))


def png(rng: np.random.Generator) -> bytes:
    """A smooth picture: noise would be all that is decoded."""
    small = Image.fromarray(rng.integers(0, 256, (SIDE // 16, SIDE // 16, 3), np.uint8))
    file = io.BytesIO()
    small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def untrained(method: str, contents: Sequence[bytes], seed: int = 0, size: int = SIZE) -> Detector:
    """A detector of one category, at the demo's size unless told, with the weights that it begins with; a fifth of the
    pictures are above its threshold.
    """
    found = METHODS[method]
    known = {one.name for one in fields(found.settings)}
    own = found.settings(**{key: value for key, value in SHARED.items() if key in known})
    encoder = load_encoder(EncoderSettings(resize=size, crop=size, levels=(8, 16)))
    models = {ALL: model(found, own, encoder, seed)}
    made = Detector(encoder, found, own, models, LearntFrom("multi-class", "0" * 64, (CATEGORY,)), {})
    images = [open_image(content, "a picture") for content in contents]
    scores = made.predict(images, [CATEGORY] * len(images)).scores.tolist()
    made.thresholds = calibrate({CATEGORY: scores}, CalibrationSettings(0.2))
    return made


def _cases(
    method: str, threads: Sequence[int], batches: Sequence[int], folder: Path, contents: Sequence[bytes]
) -> Iterator[Case]:
    made = untrained(method, contents)
    whole, small = folder / "32", folder / "8"
    exported = () if made.method.torch_only else ((ONNXRUNTIME, 32), (OPENVINO, 32), (ONNXRUNTIME, 8), (OPENVINO, 8))
    if exported:
        images = [open_image(content, "a picture") for content in contents]
        whole.mkdir(parents=True)
        made.write_graphs(whole)
        shutil.copytree(whole, small)
        quantise(small / ENCODER_GRAPH, (made.encoder.transform.picture(image) for image in images))
    for backend, bits in ((TORCH, 32), *exported):
        for count in threads:
            detector = copy(made)
            detector.run_in(backend, whole if bits == 32 else small, count, bits)
            for batch in batches:
                yield Case(method, backend, bits, count, batch, detector)
    if torch.cuda.is_available():
        on_gpu = load_encoder(made.encoder.settings).to("cuda")
        models = {ALL: model(made.method, made.settings, on_gpu, 0)}
        fast = Detector(on_gpu, made.method, made.settings, models, made.learnt_from, made.thresholds)
        for batch in batches:
            yield Case(method, torch.cuda.get_device_name(), 32, 1, batch, fast)


def _time(case: Case, contents: Sequence[bytes], counts: bool) -> None:
    """One batch, from bytes to decisions."""
    torch.set_num_threads(case.threads)
    batch, names = contents[: case.batch], [CATEGORY] * case.batch
    begun = perf_counter()
    images = [open_image(content, "a picture") for content in batch]
    found = case.detector.predict(images, names)
    for score, map_, look_, image in zip(found.scores.tolist(), found.maps, found.looks, images, strict=True):
        case.detector.decide(score, map_, look_, image.size, CATEGORY)
    taken = (perf_counter() - begun) / case.batch
    if counts:
        case.seconds.append(taken)
        if case.batch == 1:
            case.parts.append(_parts(case.detector, batch[0]))


def _parts(detector: Detector, content: bytes) -> list[float]:
    """The same picture once more, a part of the way at a time; in the order of PARTS."""
    clock = [perf_counter()]
    image = open_image(content, "a picture")
    clock.append(perf_counter())
    pictures = torch.from_numpy(detector.encoder.transform.picture(image).copy())[None]
    clock.append(perf_counter())
    groups = detector.backend.groups(pictures)
    if detector.encoder.device.type == "cuda":
        torch.cuda.synchronize()
    clock.append(perf_counter())
    (map_,) = detector.backend.maps(detector.models[ALL], groups)
    clock.append(perf_counter())
    score = float(detector.models[ALL].scores(map_[None]))
    detector.decide(score, map_.numpy(), look(groups)[0].cpu().numpy(), image.size, CATEGORY)
    clock.append(perf_counter())
    return np.diff(clock).tolist()


def _machine() -> str:
    """The processor's name, and what it has for products of 8 bit."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    fast = [flag for flag in EIGHT_BIT if flag in named.get("flags", "").split()]
    name = named.get("model name", platform.processor())
    return f"{name} ({', '.join(fast) or 'no VNNI, no AMX'}), {torch.get_num_threads()} threads at most"
