"""The encoder's graph in 8 bit: weights and what passes between layers, by ONNX Runtime's static quantiser."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpformer.backends.graphs import PIXELS

# What computes, and the activations that a runtime fuses with it; sums, norms and softmax stay in 32 bit.
QUANTISED = ("Conv", "MatMul", "Gemm", "Clip", "Relu")
# Says to the quantiser that shapes are known: it would otherwise ask for a step that these graphs do not need.
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def quantise(file: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
    """Replaces an encoder's graph, as `write_graphs` wrote it in 32 bit, by one in 8 bit. The range of each value is
    what it takes over the `pictures`, each [S, S, 3].
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            """One more picture, None after the last."""
            picture = next(self._left, None)
            return None if picture is None else {PIXELS: picture[None]}

    graph = onnx.load(file)
    note = graph.metadata_props.add()
    note.key, note.value = PREPARED
    quantize_static(
        graph,
        file,
        Reader(),
        quant_format=QuantFormat.QDQ,  # the one that OpenVINO reads too
        op_types_to_quantize=list(QUANTISED),
        per_channel=True,
        # Weights of 7 bit: sums of two products then fit into 16, as processors without VNNI take them. With 8 these
        # would cut them off, and decide otherwise than the others.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # A product of two activations, as in attention, stays in 32 bit.
        extra_options={"MatMulConstBOnly": True},
    )
