"""OPC-UA: the handshake as nodes. Their names and types are in docs/line.md.

Anonymous clients write the three inputs and nothing else; there are no other clients.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from inpformer.errors import UserError
from serving.station.handshake import Inputs, Outputs
from serving.station.settings import Address

NAMESPACE = "urn:inpformer:station"
INPUTS = {"Trigger": False, "Acknowledge": False, "Product": 0}
# In the order in which they are written where a result comes; where it goes, ResultValid is the first.
OUTPUTS = {
    "OK": "ok",
    "NG": "ng",
    "Review": "review",
    "Error": "error",
    "ErrorCode": "error_code",
    "Score": "score",
    "Sequence": "sequence",
    "ProductEcho": "product",
    "Undelivered": "undelivered",
    "ResultValid": "result_valid",
    "Busy": "busy",
    "Ready": "ready",
}
LARGEST_MESSAGE = 2**20


class OpcUa:
    """A server, which calls `written` when a PLC has written."""

    name = "opcua"

    def __init__(self, address: Address, written: Callable[[str, Inputs], None]) -> None:
        self._address, self._written = address, written
        self._to_show: asyncio.Queue[Outputs] = asyncio.Queue()
        self._nodes: dict[str, Any] = {}

    async def start(self) -> None:
        """Listens. Raises UserError where it cannot."""
        from asyncua import ua
        from asyncua.common.callback import CallbackType
        from asyncua.server.server import Server

        server = self._server = Server()
        await server.init()
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        server.set_endpoint(f"opc.tcp://{host}:{self._address.port}")
        server.set_server_name("INP-Former station")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        server.allow_remote_admin(False)
        server.limits.max_message_size = LARGEST_MESSAGE
        await self._add_nodes(await server.register_namespace(NAMESPACE))
        # After all values of a request, so that a product and a trigger may come together.
        server.subscribe_server_callback(CallbackType.PostWrite, self._was_written)
        try:
            await server.start()
        except OSError as error:
            where = f"{self._address.host}:{self._address.port}"
            raise UserError(f"--opcua cannot listen on {where} ({error.strerror}).") from None

    async def serve(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._write_all(await self._to_show.get())
            self._to_show.task_done()

    async def stop(self) -> None:
        """Closes all connections."""
        await self._server.stop()

    def show(self, outputs: Outputs) -> None:
        """What is read from now on."""
        self._to_show.put_nowait(outputs)

    async def _add_nodes(self, namespace: int) -> None:
        from asyncua import ua

        station = await self._server.nodes.objects.add_object(f"ns={namespace};s=Station", f"{namespace}:Station")
        for name, value in (INPUTS | {name: getattr(Outputs(), field) for name, field in OUTPUTS.items()}).items():
            kind = ua.VariantType.Boolean if isinstance(value, bool) else ua.VariantType.UInt16
            self._nodes[name] = await station.add_variable(
                f"ns={namespace};s=Station.{name}", f"{namespace}:{name}", value, kind
            )
            if name in INPUTS:
                await self._nodes[name].set_writable()

    async def _was_written(self, event: Any, service: object) -> None:
        if event.is_external:
            trigger, acknowledge, product = [await self._input(name) for name in INPUTS]
            number = product if isinstance(product, int) else 0
            self._written(self.name, Inputs(trigger is True, acknowledge is True, number))
            await self._to_show.join()  # who has written reads what followed

    async def _input(self, name: str) -> object:
        """What a client wrote, which may also be an array, or nothing."""
        found = (await self._nodes[name].read_data_value(raise_on_bad_status=False)).Value
        return None if found is None else found.Value

    async def _write_all(self, outputs: Outputs) -> None:
        names = list(OUTPUTS)
        if not outputs.result_valid:
            names.insert(0, names.pop(names.index("ResultValid")))
        for name in names:
            await self._write(name, getattr(outputs, OUTPUTS[name]))

    async def _write(self, name: str, value: bool | int) -> None:
        node = self._nodes[name]
        if await node.read_value() != value:
            kind = await node.read_data_type_as_variant_type()
            await node.write_value(value, kind)
