"""The backends by name, and where a version keeps its exports for them: for whoever must not wait for torch."""

import re

from inpformer.config import require

TORCH, ONNXRUNTIME, OPENVINO, TENSORRT = "torch", "onnxruntime", "openvino", "tensorrt"
# Those that are given files.
RUNTIMES = (ONNXRUNTIME, OPENVINO, TENSORRT)
BACKENDS = (TORCH, *RUNTIMES)
# Bits of the weights of an export. What is computed is in 32, with 8 the encoder in 8.
PRECISIONS = (32, 16, 8)
# Exports lie there in a version, each under the digest of its folder, which the version's tag of its name holds.
EXPORTS_FOLDER, EXPORT_TAG = "exports", "export."
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_backend(name: str) -> str:
    """The name. Raises UserError for one that is none."""
    require(name in BACKENDS, "backend", name, f"one of {', '.join(BACKENDS)}")
    return name


def export_name(backend: str, precision: int) -> str:
    """Of a version's exports."""
    return f"{backend}-{precision}"


def is_digest(text: str) -> bool:
    """Whether it is a sha256 (hex): tags and entries can be changed to anything, and a digest becomes an address."""
    return _SHA256.fullmatch(text) is not None
