"""The backends by name."""

from inpformer.config import require

TORCH, ONNXRUNTIME, OPENVINO, TENSORRT = "torch", "onnxruntime", "openvino", "tensorrt"
# Those that are given files.
RUNTIMES = (ONNXRUNTIME, OPENVINO, TENSORRT)
BACKENDS = (TORCH, *RUNTIMES)


def check_backend(name: str) -> str:
    """The name. Raises UserError for one that is none."""
    require(name in BACKENDS, "backend", name, f"one of {', '.join(BACKENDS)}")
    return name
