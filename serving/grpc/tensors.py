"""An inference from gRPC's form to that of HTTP, and its answer back."""

import json
import struct
from collections.abc import Iterable, Sized
from typing import Any, TypeVar

from serving.answers import RequestError
from serving.grpc.messages import message
from serving.v2 import CATEGORY, IMAGE, MOST_PICTURES, OUTPUTS

Some = TypeVar("Some", bound=Sized)
MOST_PARAMETERS = 32


def to_http(request: Any) -> tuple[bytes, list[bytes]]:
    """The JSON of a ModelInferRequest, and the tensors that stand behind it (binary tensor data).

    Raises RequestError (400) where there is more of something than the service takes: a message has room for millions.
    """
    tensors = _tensors(request)
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(_few("dimensions of an input", tensor.shape, 2)),
            "parameters": {"binary_data_size": len(content)},
        }
        for tensor, content in zip(request.inputs, tensors, strict=True)
    ]
    outputs = [{"name": output.name} for output in _few("outputs", request.outputs, len(OUTPUTS))]
    asked = {"inputs": inputs, "outputs": outputs, "parameters": _parameters(request.parameters)}
    named = {"id": request.id} if request.id else {}
    return json.dumps(asked | named).encode(), tensors


def to_grpc(answer: dict[str, Any], raw: bool) -> Any:
    """The ModelInferResponse of the service's answer: its tensors as bytes, `raw`, or element by element."""
    response = message("ModelInferResponse")(
        model_name=answer["model_name"], model_version=answer["model_version"], id=answer.get("id", "")
    )
    for output in answer["outputs"]:
        tensor = response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        if output["datatype"] == "BYTES":
            texts = [each.encode() for each in output["data"]]
            _put(response, tensor.contents.bytes_contents, texts, _framed(texts) if raw else None)
        else:
            numbers = output["data"]
            packed = struct.pack(f"<{len(numbers)}f", *numbers) if raw else None
            _put(response, tensor.contents.fp32_contents, numbers, packed)
    return response


def _put(response: Any, contents: Any, elements: list[Any], packed: bytes | None) -> None:
    if packed is None:
        contents.extend(elements)
    else:
        response.raw_output_contents.append(packed)


def _tensors(request: Any) -> list[bytes]:
    """Of each input the bytes, an element of BYTES preceded by its length, as the binary data extension has it too."""
    inputs = _few("inputs", request.inputs, len((IMAGE, CATEGORY)))
    if not request.raw_input_contents:
        return [_framed(_few("elements", each.contents.bytes_contents, MOST_PICTURES)) for each in inputs]
    if len(request.raw_input_contents) != len(inputs):
        reason = f"raw_input_contents has {len(request.raw_input_contents)} tensors for {len(inputs)} inputs"
        raise RequestError(400, f"{reason}: give one each, or none and all in contents.")
    return list(request.raw_input_contents)


def _framed(elements: Iterable[bytes]) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def _parameters(given: Any) -> dict[str, Any]:
    """Each as the one value that it has, or None."""
    found = {}
    for name, parameter in _few("parameters", given, MOST_PARAMETERS).items():
        kind = parameter.WhichOneof("parameter_choice")
        found[name] = kind and getattr(parameter, kind)
    return found


def _few(what: str, values: Some, most: int) -> Some:
    if len(values) > most:
        raise RequestError(400, f"the request has {len(values)} {what}, and {most} are taken at most.")
    return values
