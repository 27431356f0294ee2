"""The two runtimes, as one: a model of an .onnx file on one thread of the CPU, which does not spin while it waits."""

from functools import cache
from pathlib import Path
from typing import Any


@cache
def load(file: Path, backend: str) -> Any:
    """A model, read once, as a function of its inputs by name that gives its outputs in their order.

    Raises RuntimeError where the runtime `backend` is not known, not installed or cannot read the file.
    """
    readers = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}
    if backend not in readers:
        raise RuntimeError(f"run.py does not know {backend}: export for {' or '.join(readers)}")
    try:
        return readers[backend](file)
    except ImportError as error:
        raise RuntimeError(f"{backend} cannot be imported ({error}): pip install {backend}") from None
    except Exception as error:  # each has its own kinds
        raise RuntimeError(f"{backend} cannot read {file.name} ({error}): install a newer {backend}") from None


def by_onnxruntime(file: Path) -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def by_openvino(file: Path) -> Any:
    from openvino import Core

    model = Core().compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: list(model(inputs).values())
