"""What a PLC is told of a part, made of what the service answered."""

import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from serving.asking import MAY_COME_TO_BE

LARGEST = 0xFFFF  # of an unsigned register


class Decision(StrEnum):
    """Exactly one of them is shown with a result."""

    OK = "OK"
    NG = "NG"
    REVIEW = "REVIEW"
    ERROR = "ERROR"


class ErrorCode(IntEnum):
    """Why there is no verdict."""

    NONE = 0
    UNKNOWN_PRODUCT = 1
    NO_PICTURE = 2
    NO_ANSWER = 3
    NOT_JUDGED = 4
    SECOND_TRIGGER = 5


DECISIONS = {"PASS": Decision.OK, "FAIL": Decision.NG, "REVIEW": Decision.REVIEW}


@dataclass(frozen=True)
class Result:
    """`score` is in thousandths of the threshold."""

    decision: Decision
    score: int = 0
    code: ErrorCode = ErrorCode.NONE


def failure(code: ErrorCode) -> Result:
    """No verdict."""
    return Result(Decision.ERROR, code=code)


def result_of(answer: dict[str, Any]) -> Result:
    """Of what `serving.asking.ask` brought. What is no whole verdict is an Error, whatever its decision; a FAIL alone
    needs no number, as the service says it of a model that gives none.
    """
    decision = DECISIONS.get(str(answer.get("decision")))
    score = _thousandths(answer.get("score"), answer.get("threshold"))
    if decision is Decision.NG:
        return Result(decision, LARGEST if score is None else score)
    if decision is not None and score is not None:
        return Result(decision, score)
    if "error" not in answer:
        return failure(ErrorCode.NOT_JUDGED)
    status = answer.get("status")
    if status is None or status in MAY_COME_TO_BE:
        return failure(ErrorCode.NO_ANSWER)
    return failure(ErrorCode.UNKNOWN_PRODUCT if status == 422 else ErrorCode.NOT_JUDGED)


def _thousandths(score: Any, threshold: Any) -> int | None:
    """Above 1000 where the score is above the threshold, and only there; None without two numbers."""
    if not all(type(number) in (int, float) and math.isfinite(number) for number in (score, threshold)):
        return None
    if threshold <= 0:
        return LARGEST if score > threshold else 0
    ratio: float = score / threshold
    return math.ceil(min(LARGEST, max(0, 1000 * ratio)))
