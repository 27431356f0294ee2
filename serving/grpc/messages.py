"""The messages of `inference.GRPCInferenceService`, as classes: `message("ModelInferRequest")`.

Source: the protocol's text in kserve/open-inference-protocol (open_inference_grpc.proto), of which the names, numbers
and types are repeated here; tests compare them with those of `tritonclient`. They lie in a pool of their own, as a
process may have only one of each name in the common one.
"""

from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_F = FieldDescriptorProto
BOOL, STRING, BYTES, FLOAT, DOUBLE = _F.TYPE_BOOL, _F.TYPE_STRING, _F.TYPE_BYTES, _F.TYPE_FLOAT, _F.TYPE_DOUBLE
INT32, INT64, UINT32, UINT64 = _F.TYPE_INT32, _F.TYPE_INT64, _F.TYPE_UINT32, _F.TYPE_UINT64


class _Field(NamedTuple):
    number: int
    kind: int | str  # of protobuf, or the name of a message
    repeated: bool = False


def _many(number: int, kind: int | str) -> _Field:
    return _Field(number, kind, repeated=True)


_PARAMETERS = "map<string, InferParameter>"
_NAMED = {"name": _Field(1, STRING), "version": _Field(2, STRING)}
_TENSOR = {"name": _Field(1, STRING), "datatype": _Field(2, STRING), "shape": _many(3, INT64)}
_CONTENT = {"parameters": _Field(4, _PARAMETERS), "contents": _Field(5, "InferTensorContents")}
_MESSAGES: dict[str, dict[str, _Field]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": _Field(1, BOOL)},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": _Field(1, BOOL)},
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": {"ready": _Field(1, BOOL)},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**_NAMED, "extensions": _many(3, STRING)},
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": {
        "name": _Field(1, STRING),
        "versions": _many(2, STRING),
        "platform": _Field(3, STRING),
        "inputs": _many(4, "ModelMetadataResponse.TensorMetadata"),
        "outputs": _many(5, "ModelMetadataResponse.TensorMetadata"),
    },
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelInferRequest": {
        "model_name": _Field(1, STRING),
        "model_version": _Field(2, STRING),
        "id": _Field(3, STRING),
        "parameters": _Field(4, _PARAMETERS),
        "inputs": _many(5, "ModelInferRequest.InferInputTensor"),
        "outputs": _many(6, "ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": _many(7, BYTES),
    },
    "ModelInferRequest.InferInputTensor": {**_TENSOR, **_CONTENT},
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": _Field(1, STRING),
        "parameters": _Field(2, _PARAMETERS),
    },
    "ModelInferResponse": {
        "model_name": _Field(1, STRING),
        "model_version": _Field(2, STRING),
        "id": _Field(3, STRING),
        "parameters": _Field(4, _PARAMETERS),
        "outputs": _many(5, "ModelInferResponse.InferOutputTensor"),
        "raw_output_contents": _many(6, BYTES),
    },
    "ModelInferResponse.InferOutputTensor": {**_TENSOR, **_CONTENT},
    "InferParameter": {
        "bool_param": _Field(1, BOOL),
        "int64_param": _Field(2, INT64),
        "string_param": _Field(3, STRING),
        "double_param": _Field(4, DOUBLE),
        "uint64_param": _Field(5, UINT64),
    },
    "InferTensorContents": {
        "bool_contents": _many(1, BOOL),
        "int_contents": _many(2, INT32),
        "int64_contents": _many(3, INT64),
        "uint_contents": _many(4, UINT32),
        "uint64_contents": _many(5, UINT64),
        "fp32_contents": _many(6, FLOAT),
        "fp64_contents": _many(7, DOUBLE),
        "bytes_contents": _many(8, BYTES),
    },
}
# Of these one at most is set.
_ONE_OF = {"InferParameter": "parameter_choice"}


@cache
def message(name: str) -> Any:
    """The class of a message, `name` without the package."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, DescriptorProto] = {}
    for name, fields in _MESSAGES.items():
        outer, _, own = name.rpartition(".")
        made[name] = made[outer].nested_type.add() if outer else file.message_type.add()
        made[name].name = own
        if name in _ONE_OF:
            made[name].oneof_decl.add(name=_ONE_OF[name])
        for field_name, field in fields.items():
            _add(made[name], name, field_name, field)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def _add(to: DescriptorProto, message_name: str, name: str, field: _Field) -> None:
    added = to.field.add(name=name, number=field.number, label=_F.LABEL_REPEATED if field.repeated else 1)
    if field.kind == _PARAMETERS:  # on the wire a map is a list of its entries
        entry = to.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add(entry, "", "key", _Field(1, STRING))
        _add(entry, "", "value", _Field(2, "InferParameter"))
        added.label, added.type = _F.LABEL_REPEATED, _F.TYPE_MESSAGE
        added.type_name = f".{PACKAGE}.{message_name}.{entry.name}"
    elif isinstance(field.kind, str):
        added.type, added.type_name = _F.TYPE_MESSAGE, f".{PACKAGE}.{field.kind}"
    else:
        added.type = field.kind
    if message_name in _ONE_OF:
        added.oneof_index = 0
