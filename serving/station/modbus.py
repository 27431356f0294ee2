"""Modbus/TCP: the handshake as registers, which are bits too. The map is in docs/line.md.

It asks nobody for a name, as Modbus has none.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from inpformer.errors import UserError
from serving.station.handshake import Inputs, Outputs
from serving.station.settings import Address

if TYPE_CHECKING:
    from pymodbus.constants import ExcCodes

CONTROL, PRODUCT, STATUS = 0, 1, 2
WRITABLE, REGISTERS = 2, 8
TRIGGER, ACKNOWLEDGE = 1, 2  # bits of the first register
WRITES_BITS = (5, 15)  # function codes


class Modbus:
    """A server, which calls `written` when a PLC has written."""

    name = "modbus"

    def __init__(self, address: Address, written: Callable[[str, Inputs], None]) -> None:
        self._address, self._written = address, written
        self._words = [0] * (REGISTERS - WRITABLE)

    async def start(self) -> None:
        """Listens. Raises UserError where it cannot."""
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        device = SimDevice(
            0,  # whatever unit a PLC names
            [
                SimData(CONTROL, count=WRITABLE, datatype=DataType.REGISTERS),
                SimData(STATUS, count=REGISTERS - WRITABLE, datatype=DataType.REGISTERS, readonly=True),
            ],
            use_bit_addressing=True,
            action=self._accessed,
        )
        self._server = ModbusTcpServer(device, address=(self._address.host, self._address.port))
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError:
            raise UserError(f"--modbus cannot listen on {self._address.host}:{self._address.port}.") from None

    async def serve(self) -> None:
        """Until it is stopped."""
        await self._server.serving

    async def stop(self) -> None:
        """Closes all connections."""
        await self._server.shutdown()

    def show(self, outputs: Outputs) -> None:
        """What is read from now on."""
        self._words = words(outputs)

    async def _accessed(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> "ExcCodes | None":
        """Before pymodbus reads, or writes `values`: bits, or registers."""
        if values is None:
            registers[STATUS:REGISTERS] = self._words
            return None
        after = registers[:WRITABLE]
        for place, value in enumerate(values, address):
            if function in WRITES_BITS:
                register, bit = divmod(place, 16)
                after[register] = after[register] & ~(1 << bit) | bool(value) << bit
            else:
                after[place] = value
        control = after[CONTROL]
        self._written(self.name, Inputs(bool(control & TRIGGER), bool(control & ACKNOWLEDGE), after[PRODUCT]))
        return None


def words(outputs: Outputs) -> list[int]:
    """The registers from the third on."""
    flags = (
        outputs.ready,
        outputs.busy,
        outputs.result_valid,
        outputs.ok,
        outputs.ng,
        outputs.review,
        outputs.error,
    )
    status = sum(flag << bit for bit, flag in enumerate(flags))
    return [
        status,
        outputs.error_code,
        outputs.score,
        outputs.sequence,
        outputs.product,
        outputs.undelivered,
    ]
