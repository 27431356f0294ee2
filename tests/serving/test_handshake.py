"""The handshake with a PLC, without any input or output."""

import random

import pytest

from serving.station.handshake import Ended, Event, Handshake, Inputs, Outputs, Started
from serving.station.results import LARGEST, Decision, ErrorCode, Result, failure, result_of

OK = Result(Decision.OK, 500)
PRODUCTS = {1: "nut", 7: "bolt"}


class Plc:
    """One PLC's end: it writes one input at a time."""

    def __init__(self, handshake: Handshake, name: str = "plc") -> None:
        self.handshake, self.name, self.inputs = handshake, name, Inputs()

    def write(self, **changed: bool | int) -> list[Event]:
        self.inputs = Inputs(**(vars(self.inputs) | changed))
        return self.handshake.write(self.name, self.inputs)

    @property
    def sees(self) -> Outputs:
        return self.handshake.outputs(self.name)

    def flags(self) -> set[str]:
        return {name for name, value in vars(self.sees).items() if value is True}


@pytest.fixture
def plc() -> Plc:
    return Plc(Handshake(PRODUCTS))


def shown(plc: Plc, result: Result = OK) -> Plc:
    """With a result for product 7."""
    plc.write(trigger=True, product=7)
    plc.handshake.begin()
    plc.handshake.finish(result)
    return plc


def test_a_handshake_from_ready_to_ready(plc: Plc) -> None:
    assert plc.sees == Outputs(ready=True)
    plc.write(product=7)
    assert plc.write(trigger=True) == [Started(1, 7, "bolt")]
    assert plc.sees == Outputs(sequence=1, product=7)
    plc.handshake.begin()
    assert plc.sees == Outputs(busy=True, sequence=1, product=7)
    assert plc.handshake.finish(OK) == OK
    assert plc.sees == Outputs(result_valid=True, ok=True, score=500, sequence=1, product=7)
    plc.write(trigger=False)
    assert plc.flags() == {"result_valid", "ok"}
    assert plc.write(acknowledge=True) == [Ended(1, OK, delivered=True)]
    assert plc.sees == Outputs(sequence=1, product=7)
    plc.write(acknowledge=False)
    assert plc.sees == Outputs(ready=True, sequence=1, product=7)


@pytest.mark.parametrize(
    ("result", "flag"),
    [
        (OK, "ok"),
        (Result(Decision.NG, 1001), "ng"),
        (Result(Decision.REVIEW, 900), "review"),
        (failure(ErrorCode.NO_ANSWER), "error"),
    ],
)
def test_a_result_is_one_of_four(plc: Plc, result: Result, flag: str) -> None:
    assert shown(plc, result).flags() == {"result_valid", flag}
    assert (plc.sees.score, plc.sees.error_code) == (result.score, result.code)


def test_a_trigger_that_is_held_is_one(plc: Plc) -> None:
    shown(plc).write(acknowledge=True)
    assert plc.write(acknowledge=False) == []
    assert plc.write(product=1) == []
    assert plc.flags() == set()  # not ready before the Trigger falls
    assert plc.write(trigger=False) == []
    assert plc.flags() == {"ready"}
    assert plc.write(trigger=True) == [Started(2, 1, "nut")]


def test_a_trigger_may_be_a_pulse(plc: Plc) -> None:
    assert plc.write(trigger=True, product=1) == [Started(1, 1, "nut")]
    assert plc.write(trigger=False) == []
    plc.handshake.begin()
    plc.handshake.finish(OK)
    assert plc.flags() == {"result_valid", "ok"}


def test_an_acknowledge_before_the_result_is_none(plc: Plc) -> None:
    plc.write(trigger=True, product=1)
    assert plc.write(acknowledge=True) == []
    plc.handshake.begin()
    plc.handshake.finish(OK)
    assert plc.write(trigger=False) == []
    assert plc.write(acknowledge=False) == []
    assert plc.flags() == {"result_valid", "ok"}
    assert plc.write(acknowledge=True) == [Ended(1, OK, delivered=True)]


def test_a_plc_that_went_before_its_acknowledge_can_trigger_again(plc: Plc) -> None:
    shown(plc)
    back = Plc(plc.handshake)
    assert back.write() == []  # its inputs are low again
    assert back.flags() == {"result_valid", "ok"}
    assert back.write(trigger=True, product=1) == [Ended(1, OK, delivered=False), Started(2, 1, "nut")]
    assert back.sees == Outputs(sequence=2, product=1, undelivered=1)


@pytest.mark.parametrize("begun", [False, True])
def test_two_triggers_for_one_picture_are_an_error(plc: Plc, begun: bool) -> None:
    plc.write(trigger=True, product=1)
    if begun:
        plc.handshake.begin()
    plc.write(trigger=False)
    assert plc.write(trigger=True) == []
    plc.handshake.begin()
    assert plc.handshake.finish(OK) == failure(ErrorCode.SECOND_TRIGGER)
    assert plc.flags() == {"result_valid", "error"}
    plc.write(acknowledge=True, trigger=False)
    assert shown(plc).flags() == {"result_valid", "ok"}  # the next one is its own


def test_an_unknown_product_is_an_error_at_once(plc: Plc) -> None:
    for product in (0, 2, LARGEST):
        assert not [e for e in plc.write(trigger=True, product=product) if isinstance(e, Started)]
        assert plc.flags() == {"result_valid", "error"}
        assert (plc.sees.error_code, plc.sees.product) == (1, product)
        plc.write(trigger=False)


def test_an_acknowledge_and_the_next_trigger_may_come_together(plc: Plc) -> None:
    shown(plc).write(trigger=False)
    assert plc.write(acknowledge=True, trigger=True) == [Ended(1, OK, delivered=True), Started(2, 7, "bolt")]


def test_the_product_is_the_one_at_the_trigger(plc: Plc) -> None:
    plc.write(trigger=True, product=1)
    plc.write(product=7)
    assert plc.sees.product == 1


def test_a_dead_client_does_not_keep_another_from_ready(plc: Plc) -> None:
    other = Plc(plc.handshake, "other")
    other.write(trigger=True, product=1)
    plc.handshake.begin()
    plc.handshake.finish(OK)
    assert plc.write(acknowledge=True) == [Ended(1, OK, delivered=True)]
    plc.write(acknowledge=False)
    assert (plc.flags(), other.flags()) == ({"ready"}, set())
    assert plc.write(trigger=True, product=1) == [Started(2, 1, "nut")]


def test_what_nobody_can_acknowledge_is_counted(plc: Plc) -> None:
    plc.handshake.miss()
    shown(plc)
    assert plc.handshake.stop() == [Ended(1, OK, delivered=False)]
    assert plc.handshake.stop() == []
    assert plc.sees.undelivered == plc.handshake.undelivered == 2


def test_numbers_stay_in_a_register(plc: Plc) -> None:
    for _ in range(LARGEST + 1):
        plc.write(trigger=True, product=0)
        plc.write(trigger=False)
    assert (plc.sees.sequence, plc.sees.undelivered) == (1, LARGEST)
    plc.handshake.miss()
    assert plc.sees.undelivered == LARGEST


def test_whatever_is_written_there_is_one_result_of_what_was_judged() -> None:
    chance = random.Random(0)
    plc = Plc(Handshake(PRODUCTS))
    delivered = started = 0
    under_way = False
    for _ in range(20_000):
        if under_way and chance.random() < 0.3:
            plc.handshake.begin()
            plc.handshake.finish(chance.choice([OK, failure(ErrorCode.NO_PICTURE)]))
            under_way = False
        values = {"trigger": chance.random() < 0.5, "acknowledge": chance.random() < 0.5}
        for event in plc.write(**values, product=chance.choice([0, 1, 7])):
            assert not under_way
            if isinstance(event, Started):
                under_way, started = True, started + 1
            else:
                delivered += event.delivered
        flags = plc.flags()
        assert len(flags & {"ok", "ng", "review", "error"}) == ("result_valid" in flags)
        assert len(flags & {"ready", "busy", "result_valid"}) <= 1
        assert not under_way or "ok" not in flags
    assert started > 1000
    assert delivered > 1000
    # However it stands, it goes on.
    if under_way:
        plc.handshake.begin()
        plc.handshake.finish(OK)
    plc.write(trigger=False, acknowledge=False)
    plc.write(acknowledge=True)
    plc.write(acknowledge=False)
    assert plc.flags() == {"ready"}


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"decision": "PASS", "score": 0.5, "threshold": 2.0}, Result(Decision.OK, 250)),
        ({"decision": "PASS", "score": 2.0, "threshold": 2.0}, Result(Decision.OK, 1000)),
        ({"decision": "REVIEW", "score": 1.9999, "threshold": 2.0}, Result(Decision.REVIEW, 1000)),
        ({"decision": "FAIL", "score": 2.0001, "threshold": 2.0}, Result(Decision.NG, 1001)),
        ({"decision": "FAIL", "score": 1e9, "threshold": 1.0}, Result(Decision.NG, 65535)),
        ({"decision": "FAIL", "score": 0.5, "threshold": 0.0}, Result(Decision.NG, 65535)),
        ({"decision": "PASS", "score": -1.0, "threshold": 0.0}, Result(Decision.OK, 0)),
        ({"decision": "FAIL", "error": "no number", "status": 500}, Result(Decision.NG, 65535)),
        ({"decision": "ERROR", "error": "no service", "status": None}, failure(ErrorCode.NO_ANSWER)),
        ({"decision": "ERROR", "error": "full", "status": 503}, failure(ErrorCode.NO_ANSWER)),
        ({"decision": "ERROR", "error": "no such category", "status": 422}, failure(ErrorCode.UNKNOWN_PRODUCT)),
        ({"decision": "ERROR", "error": "no picture", "status": 400}, failure(ErrorCode.NOT_JUDGED)),
        ({"decision": "PASS"}, failure(ErrorCode.NOT_JUDGED)),
        ({"decision": "PASS", "score": float("nan"), "threshold": 1.0}, failure(ErrorCode.NOT_JUDGED)),
        ({"decision": "PASS", "score": True, "threshold": 1.0}, failure(ErrorCode.NOT_JUDGED)),
        ({"decision": "ok", "score": 0.5, "threshold": 1.0}, failure(ErrorCode.NOT_JUDGED)),
        ({}, failure(ErrorCode.NOT_JUDGED)),
    ],
)
def test_only_a_whole_pass_is_ok(answer: dict[str, object], result: Result) -> None:
    assert result_of(answer) == result
