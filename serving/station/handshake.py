"""The handshake of a PLC with the station: what each may say when. No input or output: who reads and writes the wires
calls `write`, `begin` and `finish`, follows the events that they return, and shows `outputs`.

    idle      Ready. A rising Trigger begins an inspection, with the product number that stands there then.
    starting  Neither Ready nor Busy: the source of pictures is being asked what it has already.
    busy      Busy: from now on the next picture is the part's.
    shown     Result valid, and one of OK, NG, Review and Error, until a rising Acknowledge, or the next Trigger: what
              was not acknowledged by then is undelivered.

Only edges count: an Acknowledge that was there before the result is none, and a Trigger that is held is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from serving.station.results import LARGEST, Decision, ErrorCode, Result, failure


@dataclass(frozen=True)
class Inputs:
    """What a PLC has written."""

    trigger: bool = False
    acknowledge: bool = False
    product: int = 0


@dataclass(frozen=True)
class Outputs:
    """What a PLC can read. Of OK, NG, Review and Error one is true while `result_valid` is, and none else."""

    ready: bool = False
    busy: bool = False
    result_valid: bool = False
    ok: bool = False
    ng: bool = False
    review: bool = False
    error: bool = False
    error_code: int = 0
    score: int = 0
    sequence: int = 0
    product: int = 0
    undelivered: int = 0


@dataclass(frozen=True)
class Started:
    """The station has to find a picture, and a result for it."""

    sequence: int
    product: int
    category: str


@dataclass(frozen=True)
class Ended:
    """A result was acknowledged, or nobody can do so any more."""

    sequence: int
    result: Result
    delivered: bool


Event = Started | Ended


class _State(Enum):
    IDLE = auto()
    STARTING = auto()
    BUSY = auto()
    SHOWN = auto()


class Handshake:
    """One for all PLCs and all protocols, which it knows by names. `products` are categories by their number."""

    def __init__(self, products: Mapping[int, str]) -> None:
        self._products = products
        self._state = _State.IDLE
        self._written: dict[str, Inputs] = {}
        self._result = failure(ErrorCode.NONE)
        self._again = False  # whether there was a second Trigger
        self._sequence = self._product = self._undelivered = 0

    @property
    def undelivered(self) -> int:
        """How many results and verdicts nobody acknowledged."""
        return self._undelivered

    def outputs(self, name: str) -> Outputs:
        """For one PLC: Ready waits for its own Trigger and Acknowledge to fall, not for another's that may be dead."""
        written = self._written.get(name, Inputs())
        shown = self._result if self._state is _State.SHOWN else None
        return Outputs(
            ready=self._state is _State.IDLE and not written.trigger and not written.acknowledge,
            busy=self._state is _State.BUSY,
            result_valid=shown is not None,
            ok=shown is not None and shown.decision is Decision.OK,
            ng=shown is not None and shown.decision is Decision.NG,
            review=shown is not None and shown.decision is Decision.REVIEW,
            error=shown is not None and shown.decision is Decision.ERROR,
            error_code=shown.code if shown else 0,
            score=shown.score if shown else 0,
            sequence=self._sequence,
            product=self._product,
            undelivered=min(LARGEST, self._undelivered),
        )

    def write(self, name: str, inputs: Inputs) -> list[Event]:
        """A PLC wrote its inputs, all at a time."""
        before = self._written.get(name, Inputs())
        self._written[name] = inputs
        events: list[Event] = []
        if inputs.acknowledge and not before.acknowledge:
            events += self._end(delivered=True)
        if inputs.trigger and not before.trigger:
            events += self._trigger(inputs.product)
        return events

    def begin(self) -> None:
        """The source is ready: what it brings from now on is the part's picture."""
        self._state = _State.BUSY

    def finish(self, result: Result) -> Result:
        """The inspection that was started has a result; what the PLC is shown of it. Where there was a second Trigger
        that is an Error, as nobody knows which of two parts it is of.
        """
        self._result = failure(ErrorCode.SECOND_TRIGGER) if self._again else result
        self._state = _State.SHOWN
        return self._result

    def miss(self) -> None:
        """There is a verdict that no PLC waits for."""
        self._undelivered += 1

    def stop(self) -> list[Event]:
        """Nobody can acknowledge any more."""
        return self._end(delivered=False)

    def _end(self, delivered: bool) -> list[Event]:
        if self._state is not _State.SHOWN:
            return []
        self._state = _State.IDLE
        self._undelivered += not delivered
        return [Ended(self._sequence, self._result, delivered)]

    def _trigger(self, product: int) -> list[Event]:
        if self._state in (_State.STARTING, _State.BUSY):
            self._again = True
            return []
        events = self._end(delivered=False)
        self._sequence = self._sequence % LARGEST + 1  # 0 says that there was none yet
        self._product, self._again = product, False
        if product in self._products:
            self._state = _State.STARTING
            return [*events, Started(self._sequence, product, self._products[product])]
        self.finish(failure(ErrorCode.UNKNOWN_PRODUCT))
        return events
