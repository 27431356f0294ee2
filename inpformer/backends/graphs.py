"""A detector's networks as ONNX files: the encoder from pixels on, each model from its features to map and score."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inpformer.encoders.encoder import Encoder
from inpformer.encoders.levels import Wants
from inpformer.errors import UserError
from inpformer.methods.base import Model

ENCODER_GRAPH = "encoder.onnx"
PIXELS, MAP, SCORE = "pixels", "map", "score"
OPSET = 20
# Any number of pictures: two to trace, as one could be taken for a constant.
TRACED = 2
# Shorter tensors stay in 32 bit: they are scales and shifts, and weigh nothing.
SHORTEST_IN_16_BIT = 1024


def model_graph(number: int) -> str:
    """The file of a model, by its number in the detector."""
    return f"model_{number}.onnx"


class EncoderGraph(nn.Module):
    """uint8 [B, S, S, 3] to the groups that a method wants, each [B, N, C] float32."""

    def __init__(self, encoder: Encoder, wants: Wants) -> None:
        super().__init__()
        self.network, self._transform, self._wants = encoder.network, encoder.transform, wants

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._wants.of([level.float() for level in self.network(self._transform.scaled(pixels))]))


class ModelGraph(nn.Module):
    """The groups to maps [B, 256, 256] and scores [B]."""

    def __init__(self, model: Model, image_size: int, zero_shot: bool) -> None:
        super().__init__()
        self.model, self._image_size, self._zero_shot = model, image_size, zero_shot

    def forward(self, *groups: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.model.maps(list(groups), self._image_size, self._zero_shot)
        return maps, self.model.scores(maps)


def write_graphs(
    folder: Path, encoder: Encoder, wants: Wants, models: Sequence[Model], zero_shot: bool, bits: int = 32
) -> list[Path]:
    """Writes ENCODER_GRAPH and a `model_graph` a model into `folder`; returns them. The networks must be on the CPU.
    With 16 `bits` the weights are stored so, and what is computed is not.

    Raises UserError where a network cannot be written as ONNX.
    """
    size = encoder.transform.crop
    pixels = torch.zeros(TRACED, size, size, 3, dtype=torch.uint8)
    network = EncoderGraph(encoder, wants).eval()
    with torch.inference_mode():
        groups = network(pixels)
    names = [f"group_{number}" for number in range(len(groups))]
    files = [folder / ENCODER_GRAPH]
    _write(files[0], network, (pixels,), [PIXELS], names, bits)
    for number, model in enumerate(models):
        files.append(folder / model_graph(number))
        graph = ModelGraph(model, size, zero_shot).eval()
        _write(files[-1], graph, tuple(group.clone() for group in groups), names, [MAP, SCORE], bits)
    return files


def _write(
    file: Path, network: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], bits: int
) -> None:
    import onnx

    batch = torch.export.Dim("batch", min=1)
    shapes: Any = tuple({0: batch} for _ in inputs)
    if len(inputs) > 1 or isinstance(network, ModelGraph):
        shapes = (shapes,)  # of one argument, *groups
    try:
        with warnings.catch_warnings(), _out_of_place(network):
            warnings.simplefilter("ignore")  # of the exporter's own parts
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names,
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"{file.stem} cannot be written as ONNX ({reason}): use the backend torch.") from None
    assert program is not None
    proto = program.model_proto
    _forget_source(proto)
    if bits == 16:
        _store_in_16_bit(proto)
    onnx.save(proto, file)


@contextmanager
def _out_of_place(network: nn.Module) -> Iterator[None]:
    """Has activations make new tensors: tracing those that change their input takes three times as long."""
    changed = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in changed:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


def _forget_source(proto: Any) -> None:
    """Takes out where in whose code each step was traced: it is half of a small file, and nobody's business."""
    for noted in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input):
        del noted.metadata_props[:]
        noted.doc_string = ""


def _store_in_16_bit(proto: Any) -> None:
    """Stores weights in 16 bit, each with a step that makes 32 bit of it, which runtimes do once, when they start."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for stored in proto.graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.size < SHORTEST_IN_16_BIT:
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}:16"))
        casts.append(helper.make_node("Cast", [f"{name}:16"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        proto.graph.node.insert(0, cast)
