"""The Open Inference Protocol, version 2, over HTTP: what clients of KServe, Triton and OpenVINO Model Server speak.

An encoded picture is an element of the input "image", of datatype BYTES: in JSON as base64, or with the binary data
extension as it is. Source: the protocol's text in kserve/open-inference-protocol, Triton's text on binary_tensor_data.
"""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serving.answers import LINE, PART_LENGTH, Asked, Health, RequestError, Verdict

JSON_LENGTH = "inference-header-content-length"
MOST_PICTURES, ID_LENGTH = 16, 200
IMAGE, CATEGORY = "image", "category"
# Each with its datatype, and how it is taken from a verdict.
OUTPUTS: dict[str, tuple[str, Callable[[Verdict], str | float]]] = {
    "decision": ("BYTES", lambda verdict: verdict.decision),
    "score": ("FP32", lambda verdict: verdict.score),
    "threshold": ("FP32", lambda verdict: verdict.threshold),
    "p_value": ("FP32", lambda verdict: verdict.p_value),
    "verdict": ("BYTES", lambda verdict: verdict.model_dump_json(exclude_none=True)),
}


@dataclass(frozen=True)
class Inference:
    """One request: pictures, what is asked of each, and which outputs are wanted."""

    id: str | None
    pictures: tuple[bytes, ...]
    asked: tuple[Asked, ...]
    outputs: tuple[str, ...]


def server() -> dict[str, Any]:
    """Of the server."""
    return {"name": "inpformer", "version": "1", "extensions": ["binary_tensor_data"]}


def model(health: Health) -> dict[str, Any]:
    """Of the model that is served."""
    return {
        "name": health.model_name,
        "versions": [str(health.model_version)],
        "platform": f"inpformer_{health.backend}",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in (IMAGE, CATEGORY)],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, (kind, _) in OUTPUTS.items()],
    }


def read(body: bytes, json_length: str | None) -> Inference:
    """A request. `json_length` is the header JSON_LENGTH, where what follows the JSON is the tensors' bytes.

    Raises RequestError (400) for whatever is no such request.
    """
    try:
        return _read(body, json_length)
    except KeyError as error:
        raise RequestError(400, f"the request is none of the Open Inference Protocol: it has no {error}.") from None
    except (AttributeError, IndexError, TypeError, ValueError, RecursionError) as error:
        said = str(error)
        raise RequestError(400, f"the request is none of the Open Inference Protocol ({said[:200]}).") from None


def answer(inference: Inference, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The verdicts, in the order of the pictures."""
    first = verdicts[0]
    outputs = []
    for name in inference.outputs:
        kind, value = OUTPUTS[name]
        outputs.append(
            {"name": name, "datatype": kind, "shape": [len(verdicts)], "data": [value(each) for each in verdicts]}
        )
    named = {} if inference.id is None else {"id": inference.id}
    return {"model_name": first.model_name, "model_version": str(first.model_version), **named, "outputs": outputs}


def _read(body: bytes, json_length: str | None) -> Inference:
    length = len(body) if json_length is None else int(json_length)
    if not 0 <= length <= len(body):
        raise ValueError(f"{JSON_LENGTH} is {length}, the body has {len(body)} bytes")
    request, rest = json.loads(body[:length]), body[length:]
    if not isinstance(request, dict):
        raise ValueError("the body is no JSON object")
    tensors: dict[str, list[bytes]] = {}
    for tensor in _list(request["inputs"], 2):
        if (name := tensor["name"]) not in (IMAGE, CATEGORY) or name in tensors or tensor["datatype"] != "BYTES":
            raise ValueError(f"its inputs are {IMAGE} and {CATEGORY}, each once, of datatype BYTES")
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            tensors[name] = [_element(name, each) for each in _flat(tensor["data"])]
        else:
            if not isinstance(size, int) or not 0 <= size <= len(rest):
                raise ValueError(f"binary_data_size is {str(size)[:50]!r}, and {len(rest)} bytes are left")
            tensors[name], rest = _elements(rest[:size]), rest[size:]
        if _list(tensor["shape"], 2) not in ([len(tensors[name])], [len(tensors[name]), 1]):
            raise ValueError(f"{name} has {len(tensors[name])} elements, which is not its shape")
    if rest:
        raise ValueError(f"{len(rest)} bytes belong to no input")
    pictures = tuple(tensors[IMAGE])
    if not pictures:
        raise ValueError("it has no picture")
    categories = [category.decode() for category in tensors.get(CATEGORY, [])]
    if len(categories) not in (0, 1, len(pictures)):
        raise ValueError(f"it has {len(pictures)} pictures and {len(categories)} categories: give one, or one each")
    each = categories * len(pictures) if len(categories) == 1 else categories
    default = _asked(request.get("parameters") or {})
    asked = tuple(replace(default, category=category) for category in each) or (default,) * len(pictures)
    wanted = _list(request.get("outputs") or [], len(OUTPUTS))
    outputs = tuple(dict.fromkeys(output["name"] for output in wanted)) or tuple(OUTPUTS)
    if unknown := [name for name in outputs if name not in OUTPUTS]:
        raise ValueError(f"{str(unknown[0])[:50]!r} is no output: there are {', '.join(OUTPUTS)}")
    named = request.get("id")
    return Inference(None if named is None else _whole(str(named)[:ID_LENGTH]), pictures, asked, outputs)


def _asked(parameters: dict[str, Any]) -> Asked:
    """What the request says of all its pictures."""
    given = {name: parameters[name] for name in ("category", "part", "line") if parameters.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"the parameter {name} is no string")
        _whole(value)
    if len(given.get("part", "")) > PART_LENGTH:
        raise ValueError(f"the parameter part is longer than {PART_LENGTH}")
    if "line" in given and not re.fullmatch(LINE, given["line"]):
        raise ValueError(f"the parameter line does not match {LINE}")
    return Asked(**given)


def _whole(text: str) -> str:
    """JSON can name half a character, "\\ud800", which no answer can hold."""
    text.encode()
    return text


def _list(value: Any, most: int) -> list[Any]:
    """Checked before anything is done with its elements: a body has room for millions."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a {type(value).__name__} stands for a list of up to {most}")
    return value


def _flat(data: Any) -> list[str]:
    """The strings of a list of them, or of lists with one each."""
    return [each[0] if isinstance(each, list) and len(each) == 1 else each for each in _list(data, MOST_PICTURES)]


def _element(name: str, text: str) -> bytes:
    return base64.b64decode(text, validate=True) if name == IMAGE else text.encode()


def _elements(content: bytes) -> list[bytes]:
    """Each is preceded by its length, 4 bytes, the lowest first."""
    found: list[bytes] = []
    at = 0
    while at < len(content):
        if len(found) == MOST_PICTURES:
            raise ValueError(f"a tensor has more than {MOST_PICTURES} elements")
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        if at + 4 > len(content) or end > len(content):
            raise ValueError("an element is longer than its tensor")
        found.append(content[at + 4 : end])
        at = end
    return found
