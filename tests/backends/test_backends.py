"""That every backend gives what PyTorch gives, for every method, and says in a sentence what keeps it from that."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpformer.backends.graphs import ENCODER_GRAPH, model_graph
from inpformer.backends.names import ONNXRUNTIME, OPENVINO, TENSORRT
from inpformer.encoders.encoder import Encoder, load_encoder
from inpformer.errors import UserError
from inpformer.images.tiling import Tiling
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL, LearntFrom
from inpformer.methods import METHODS
from inpformer.methods.inp_former.settings import MemorySettings
from inpformer.methods.modes import ZERO_SHOT
from pipelines.evaluate.settings import EvaluateSettings
from tests.conftest import INP_FORMER, MULTI, OWN, untrained

GLCF = METHODS["glcf"].settings(width=16, depth=1, heads=2, decoder_heads=4)
NEAREST = {"grid": 4, "channels": 32}
SCL_VI = METHODS["scl_vi"].settings(width=24, dimension=8, strides=(64, 32), bank=50)
PLUS = METHODS["inp_former_pp"]
CASES: dict[str, tuple[str, Any]] = {
    "inp_former": ("inp_former", OWN),
    "memory": ("inp_former", replace(OWN, memory=MemorySettings(grid=8, tokens=64))),
    "inp_former_pp": ("inp_former_pp", PLUS.settings(num_prototypes=4, grid=4, channels=32)),
    "glcf": ("glcf", GLCF),
    "nearest": ("nearest", METHODS["nearest"].settings(**NEAREST, neighbours=3)),
    "scl_vi": ("scl_vi", SCL_VI),
    "pnpt": ("pnpt", METHODS["pnpt"].settings(width=8, depth=1, decoder_depth=1, heads=2)),
    "rb_ae": ("rb_ae", METHODS["rb_ae"].settings(width=8, references=2)),
}
# What makes the encoder of a case another one: of each level that is rebuilt three decoders are written, one is enough.
ENCODERS: dict[str, dict[str, Any]] = {
    "glcf": {"levels": (16, 32)},
    "scl_vi": {"levels": (1,), "resize": 192, "crop": 192},
}


def pictures(count: int, side: int = 90) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (side, side + n, 3), np.uint8)) for n in range(count)]


def compared(detector: Detector, backend: str, graphs: Path, images: list[Image.Image]) -> tuple[float, float]:
    """The largest differences of scores and maps from PyTorch's, relative to the largest value of the maps."""
    names = ["nut"] * len(images)
    expected = detector.predict(images, names)
    detector.run_in(backend, graphs)
    found = detector.predict(images, names)
    size = max(float(one.max()) for one in expected.maps)
    maps = max(float(np.abs(a - b).max()) for a, b in zip(found.maps, expected.maps, strict=True))
    assert maps > 0  # somebody else computed
    return float(np.abs(found.scores - expected.scores).max()) / size, maps / size


@pytest.fixture(scope="module")
def graphs(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Detector, Path]]:
    """A detector of each case, and its networks' files."""
    made = {}
    for case, (method, own) in CASES.items():
        found = METHODS[method]
        folder = tmp_path_factory.mktemp(case)
        one = load_encoder(replace(encoder.settings, **ENCODERS[case])) if case in ENCODERS else encoder
        detector = Detector(one, found, own, {ALL: untrained(one, 0, found, own)}, MULTI, {})
        assert [file.name for file in detector.write_graphs(folder)] == [ENCODER_GRAPH, model_graph(0)]
        made[case] = detector, folder
    return made


@pytest.mark.parametrize("backend", [ONNXRUNTIME, OPENVINO])
@pytest.mark.parametrize("case", CASES)
def test_a_runtime_gives_what_pytorch_gives(graphs: dict[str, tuple[Detector, Path]], case: str, backend: str) -> None:
    detector, folder = graphs[case]
    detector.run_in("torch")
    scores, maps = compared(detector, backend, folder, pictures(3))
    assert scores < 1e-5
    assert maps < 1e-5


def test_tiles(graphs: dict[str, tuple[Detector, Path]], encoder: Encoder) -> None:
    made, folder = graphs["inp_former"]
    tiled = Detector(encoder, INP_FORMER, OWN, made.models, MULTI, {}, tiling=Tiling(64))
    scores, maps = compared(tiled, ONNXRUNTIME, folder, pictures(2, 100))
    assert max(scores, maps) < 1e-5


def test_models_of_categories_of_folds_and_zero_shot_have_a_graph_each(encoder: Encoder, tmp_path: Path) -> None:
    models = [untrained(encoder, seed) for seed in range(2)]
    single = replace(MULTI, setting="single-class")
    own = Detector(encoder, INP_FORMER, OWN, {"bolt": models[0], "nut": models[1]}, single, {})
    own.write_graphs(tmp_path)
    assert compared(own, ONNXRUNTIME, tmp_path, pictures(1))[1] < 1e-5
    folds = Detector(encoder, INP_FORMER, OWN, {}, MULTI, {}, folds={ALL: models})
    assert compared(folds, ONNXRUNTIME, tmp_path, pictures(1))[1] < 1e-5
    learnt = LearntFrom(ZERO_SHOT, "0" * 64, ())
    zero_shot = Detector(encoder, INP_FORMER, OWN, {ALL: models[0]}, learnt, {})
    (tmp_path / "zero").mkdir()
    zero_shot.write_graphs(tmp_path / "zero")
    assert compared(zero_shot, OPENVINO, tmp_path / "zero", pictures(1))[1] < 1e-5


def test_weights_of_16_bit_are_half_as_long_and_nearly_alike(
    graphs: dict[str, tuple[Detector, Path]], tmp_path: Path
) -> None:
    detector, folder = graphs["inp_former"]
    detector.run_in("torch")
    for file in detector.write_graphs(tmp_path, 16):
        assert b".py" not in file.read_bytes()
        assert file.stat().st_size < 0.65 * (folder / file.name).stat().st_size
    for backend in (ONNXRUNTIME, OPENVINO):
        detector.run_in("torch")
        scores, maps = compared(detector, backend, tmp_path, pictures(2))
        assert 1e-7 < maps < 0.02
        assert scores < 0.01


def test_what_keeps_a_backend_from_computing_is_a_sentence(
    graphs: dict[str, tuple[Detector, Path]], tmp_path: Path
) -> None:
    detector, folder = graphs["nearest"]
    with pytest.raises(UserError, match="onnx-runtime"):
        detector.run_in("onnx-runtime")
    with pytest.raises(UserError, match="TensorRT"):
        detector.run_in(TENSORRT, folder)
    for backend in (ONNXRUNTIME, OPENVINO):
        with pytest.raises(UserError, match=ENCODER_GRAPH):
            detector.run_in(backend, tmp_path)
    for content in (b"", b"no graph", (folder / ENCODER_GRAPH).read_bytes()[:5000]):
        (tmp_path / ENCODER_GRAPH).write_bytes(content)
        for backend in (ONNXRUNTIME, OPENVINO):
            with pytest.raises(UserError, match=ENCODER_GRAPH):
                detector.run_in(backend, tmp_path)


def test_a_method_that_only_pytorch_computes_has_no_files(encoder: Encoder, tmp_path: Path) -> None:
    method = METHODS["grnr"]
    own = method.settings(neighbours=5)
    made = Detector(encoder, method, own, {ALL: method.make(own, encoder.shape)}, MULTI, {})
    for ask in (partial(made.write_graphs, tmp_path), partial(made.run_in, ONNXRUNTIME)):
        with pytest.raises(UserError, match="grnr has no export, as it solves"):
            ask()
    assert not list(tmp_path.iterdir())


def test_a_detector_is_loaded_into_a_backend(graphs: dict[str, tuple[Detector, Path]], tmp_path: Path) -> None:
    detector, _ = graphs["nearest"]
    detector.run_in("torch")
    detector.save(tmp_path / "saved")
    loaded = Detector.load(tmp_path / "saved", backend=ONNXRUNTIME)
    assert loaded.backend.name == ONNXRUNTIME
    (image,) = pictures(1)
    assert loaded.predict([image], ["nut"]).scores == pytest.approx(detector.predict([image], ["nut"]).scores, rel=1e-5)
    with pytest.raises(UserError, match="keras"):
        Detector.load(tmp_path / "saved", backend="keras")


def test_evaluate_knows_the_backends() -> None:
    assert EvaluateSettings(backend=OPENVINO).backend == OPENVINO
    with pytest.raises(UserError, match=r"backend is 'keras'.*onnxruntime"):
        EvaluateSettings(backend="keras")
