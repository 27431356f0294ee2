"""The Open Inference Protocol: what is read, what is answered, what is refused."""

import base64
import json
import time
from typing import Any

import pytest

from serving import v2
from serving.answers import RequestError
from serving.v2 import MOST_PICTURES, OUTPUTS
from tests.serving.pictures import verdict

PICTURE = b"\x89PNG, or so"


def tensor(name: str, data: list[Any], **changed: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": data} | changed


def encoded(*pictures: bytes) -> list[str]:
    return [base64.b64encode(picture).decode() for picture in pictures]


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def test_pictures_in_json_are_base64_and_share_what_is_asked() -> None:
    request = body(
        tensor("image", encoded(PICTURE, b"other")),
        tensor("category", ["nut"]),
        id="7",
        outputs=[{"name": "score"}],
        parameters={"part": "A 1", "line": "press-2", "category": "bolt"},
    )
    read = v2.read(request, None)
    assert (read.id, read.pictures, read.outputs) == ("7", (PICTURE, b"other"), ("score",))
    assert [(one.category, one.part, one.line) for one in read.asked] == [("nut", "A 1", "press-2")] * 2


def test_each_picture_may_have_a_category_or_none_has_one() -> None:
    pictures = tensor("image", [[one] for one in encoded(PICTURE, b"other")], shape=[2, 1])
    each = v2.read(body(pictures, tensor("category", ["nut", "bolt"])), None)
    assert [one.category for one in each.asked] == ["nut", "bolt"]
    none = v2.read(body(pictures), None)
    assert ([one.category for one in none.asked], none.outputs) == ([None, None], tuple(OUTPUTS))
    of_all = v2.read(body(pictures, parameters={"category": "pin"}), None)
    assert [one.category for one in of_all.asked] == ["pin", "pin"]


def binary(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def in_binary(name: str, *elements: bytes, **changed: Any) -> dict[str, Any]:
    size = len(binary(*elements))
    made = {"name": name, "datatype": "BYTES", "shape": [len(elements)], "parameters": {"binary_data_size": size}}
    return made | changed


def test_tensors_behind_the_json_are_taken_in_their_order() -> None:
    head = body(in_binary("category", b"nut"), in_binary("image", PICTURE, b""))
    read = v2.read(head + binary(b"nut") + binary(PICTURE, b""), str(len(head)))
    assert (read.pictures, [one.category for one in read.asked]) == ((PICTURE, b""), ["nut", "nut"])


HEAD = body(in_binary("image", PICTURE))
WRONG: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "no json": (b"\xff{", None),
    "a list": (b"[]", None),
    "nested": (b"[" * 100_000, None),
    "no inputs": (b"{}", None),
    "inputs no list": (b'{"inputs": {}}', None),
    "input no object": (b'{"inputs": ["image"]}', None),
    "no picture": (body(tensor("category", ["nut"])), None),
    "no pictures": (body(tensor("image", [])), None),
    "too many": (body(tensor("image", encoded(PICTURE) * (MOST_PICTURES + 1))), None),
    "other input": (body(tensor("image", encoded(PICTURE)), tensor("mask", encoded(PICTURE))), None),
    "other datatype": (body(tensor("image", encoded(PICTURE), datatype="UINT8")), None),
    "no base64": (body(tensor("image", ["§"])), None),
    "numbers": (body(tensor("image", [1])), None),
    "other shape": (body(tensor("image", encoded(PICTURE), shape=[2])), None),
    "shape no list": (body(tensor("image", encoded(PICTURE), shape=1)), None),
    "categories": (body(tensor("image", encoded(b"1", b"2", b"3")), tensor("category", ["a", "b"])), None),
    "output": (body(tensor("image", encoded(PICTURE)), outputs=[{"name": "map"}]), None),
    "parameters": (body(tensor("image", encoded(PICTURE)), parameters=[1]), None),
    "part": (body(tensor("image", encoded(PICTURE)), parameters={"part": "x" * 201}), None),
    "line": (body(tensor("image", encoded(PICTURE)), parameters={"line": "a b"}), None),
    "half a character in the part": (body(tensor("image", encoded(PICTURE)), parameters={"part": "\ud800"}), None),
    "half a character in the id": (body(tensor("image", encoded(PICTURE)), id="\ud800"), None),
    "half a character in a size": (body(in_binary("image", parameters={"binary_data_size": "\ud800"})), None),
    "length no number": (HEAD, "x"),
    "length too large": (HEAD, str(len(HEAD) + 1)),
    "length below 0": (HEAD, "-1"),
    "nothing behind": (HEAD, str(len(HEAD))),
    "more behind": (HEAD + binary(PICTURE) + b"x", str(len(HEAD))),
    "element too long": (HEAD + b"\xff" * len(binary(PICTURE)), str(len(HEAD))),
    "millions of nothing": (
        body(in_binary("image", parameters={"binary_data_size": 2**22})) + bytes(2**22),
        str(len(body(in_binary("image", parameters={"binary_data_size": 2**22})))),
    ),
    "a shape that multiplies": (body(tensor("image", encoded(PICTURE), shape=[10**300] * 10_000)), None),
    "one input twice": (body(tensor("image", encoded(PICTURE)), tensor("image", encoded(PICTURE))), None),
    "more inputs": (body(*[tensor("image", encoded(PICTURE))] * 3), None),
    "outputs by the thousand": (body(tensor("image", encoded(PICTURE)), outputs=[{"name": "score"}] * 1000), None),
    "size below 0": (body(in_binary("image", PICTURE, parameters={"binary_data_size": -1})), None),
    "size no number": (body(in_binary("image", PICTURE, parameters={"binary_data_size": "1"})), None),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_such_request_is_a_400(case: str) -> None:
    content, length = WRONG[case]
    began = time.process_time()
    with pytest.raises(RequestError) as refused:
        v2.read(content, length)
    assert time.process_time() - began < 1  # it is the ingress that reads, and everybody waits for that
    assert refused.value.status == 400
    assert len(refused.value.reason.encode()) < 400


def test_the_answer_has_an_element_a_picture() -> None:
    verdicts = [verdict(score=0.5), verdict(score=1.5, decision="FAIL")]
    pictures = tensor("image", encoded(PICTURE, PICTURE))
    made = v2.answer(v2.read(body(pictures, outputs=[{"name": "decision"}, {"name": "score"}]), None), verdicts)
    assert made == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "decision", "datatype": "BYTES", "shape": [2], "data": ["PASS", "FAIL"]},
            {"name": "score", "datatype": "FP32", "shape": [2], "data": [0.5, 1.5]},
        ],
    }
