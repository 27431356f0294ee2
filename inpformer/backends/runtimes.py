"""Runtimes for ONNX files: ONNX Runtime on a CPU or through TensorRT, and OpenVINO."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpformer.backends.graphs import ENCODER_GRAPH, PIXELS, model_graph
from inpformer.backends.names import ONNXRUNTIME, OPENVINO, TENSORRT
from inpformer.errors import UserError
from inpformer.methods.base import Groups, Model

Run = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
TENSORRT_PROVIDER = "TensorrtExecutionProvider"


class InRuntime:
    """Computes with the files of a folder (see `write_graphs`), whose models are numbered in the order of `models`."""

    at_a_time = 1

    def __init__(self, name: str, folder: Path, models: Sequence[Model], threads: int = 1, precision: int = 32) -> None:
        """`precision` is that of the files. Raises UserError if the runtime is not installed, or a file is missing or
        none of its.
        """
        self.name, self.precision = name, precision
        self._encoder = open_graph(name, folder / ENCODER_GRAPH, threads)
        self._models = {
            model: open_graph(name, folder / model_graph(number), threads) for number, model in enumerate(models)
        }

    def groups(self, pictures: Tensor) -> Groups:
        """See `Backend`."""
        return [torch.from_numpy(group) for group in self._encoder({PIXELS: pictures.numpy()})]

    def maps(self, model: Model, groups: Groups) -> Tensor:
        """See `Backend`."""
        named = {f"group_{number}": group.numpy() for number, group in enumerate(groups)}
        return torch.from_numpy(self._models[model](named)[0])


def open_graph(backend: str, file: Path, threads: int = 1) -> Run:
    """A function from a graph's inputs by name to its outputs in order, as arrays that the caller may keep.

    Raises what `InRuntime` raises.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing: export the version again.")
    check_runtime(backend)
    return {ONNXRUNTIME: _onnxruntime, OPENVINO: _openvino, TENSORRT: _tensorrt}[backend](file, threads)


def check_runtime(backend: str) -> None:
    """Raises UserError for a runtime that is not installed."""
    try:
        if backend == OPENVINO:
            import openvino  # noqa: F401

            return
        import onnxruntime
    except ImportError as error:
        raise UserError(f"the backend {backend} needs the package {error.name}: install it with pip.") from None
    if backend == TENSORRT and TENSORRT_PROVIDER not in onnxruntime.get_available_providers():
        raise UserError("this ONNX Runtime has no TensorRT: install onnxruntime-gpu and TensorRT, or use onnxruntime.")


def _onnxruntime(file: Path, threads: int) -> Run:
    return _session(file, threads, ["CPUExecutionProvider"])


def _tensorrt(file: Path, threads: int) -> Run:
    return _session(file, threads, [TENSORRT_PROVIDER, "CUDAExecutionProvider"])


def _session(file: Path, threads: int, providers: list[str]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A thread that spins keeps a core from whoever has work: on busy cores that made a picture 30 times slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # ten kinds without a base of their own
        raise _unreadable(file, error) from None
    return lambda inputs: list(session.run(None, dict(inputs)))


def _openvino(file: Path, threads: int) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    try:
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    except RuntimeError as error:
        raise _unreadable(file, error) from None
    outputs = compiled.outputs

    def run(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found = compiled(dict(inputs))
        return [np.array(found[output]) for output in outputs]

    return run


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{file} cannot be read ({reason}): export the version again.")
