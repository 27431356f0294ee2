"""The station's command, and PLCs that drive it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.sync import Client as OpcUaClient
from pymodbus.client import ModbusTcpClient

from serving.station.handshake import Inputs
from serving.station.opcua import INPUTS, OUTPUTS
from tests.serving.model_store import DEADLINE, eventually, free_port
from tests.serving.pictures import as_file, picture

ROOT = Path(__file__).resolve().parents[2]
GOOD = as_file(picture())
NUT, BOLT, PIN, UNKNOWN = 1, 2, 3, 9
PRODUCTS = ("--product", "1=nut", "--product", "2=bolt", "--product", "3=pin")
STATUS = ("ready", "busy", "result_valid", "ok", "ng", "review", "error")
NUMBERS = ("error_code", "score", "sequence", "product", "undelivered")
NOWHERE = "http://127.0.0.1:1"


class Station:
    """The command, with what it says."""

    def __init__(self, folder: Path, service: str, *options: str) -> None:
        self.folder = folder / "in"
        self.folder.mkdir(exist_ok=True)
        self._command = [sys.executable, "-m", "serving.station", "--folder", str(self.folder), "--service", service]
        self._command += options
        self._said = folder / "said"

    def __enter__(self) -> "Station":
        return self.start()

    def __exit__(self, *reason: object) -> None:
        self.kill()

    def start(self) -> "Station":
        with self._said.open("w") as out:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=out, stderr=out)
        eventually(lambda: "is ready" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    @property
    def said(self) -> str:
        return self._said.read_text()

    def drop(self, name: str = "part.png", content: bytes = GOOD) -> None:
        """As a careful camera does."""
        unfinished = self.folder / f"{name}.part"
        unfinished.write_bytes(content)
        unfinished.rename(self.folder / name)

    def done(self) -> list[dict[str, Any]]:
        """The verdicts that are kept, the first first; each has its picture beside it."""
        files = sorted((self.folder / "done").glob("*.json"))
        return [json.loads(file.read_text()) for file in files if file.with_suffix("").exists()]

    def verdict(self, name: str = "part.png") -> dict[str, Any]:
        found: dict[str, Any] = eventually(lambda: [one for one in self.done() if one["file"] == name])[0]
        return found


class ModbusPlc:
    """A PLC's end over Modbus/TCP: words."""

    option = "--modbus"

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> "ModbusPlc":
        self.connect()
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def connect(self) -> None:
        self.client = ModbusTcpClient("127.0.0.1", port=self.port)
        assert self.client.connect()

    def close(self) -> None:
        self.client.close()

    def write(self, inputs: Inputs) -> None:
        control = inputs.trigger | inputs.acknowledge << 1
        assert not self.client.write_registers(0, [control, inputs.product]).isError()

    def read(self) -> dict[str, Any]:
        status, *numbers = self.client.read_holding_registers(2, count=6).registers
        return {name: bool(status >> bit & 1) for bit, name in enumerate(STATUS)} | dict(
            zip(NUMBERS, numbers, strict=True)
        )


class OpcUaPlc:
    """A PLC's end over OPC-UA."""

    option = "--opcua"

    def __init__(self) -> None:
        self.address = f"opc.tcp://127.0.0.1:{free_port()}"

    def __enter__(self) -> "OpcUaPlc":
        self.connect()
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def connect(self) -> None:
        self.client = OpcUaClient(self.address)
        self.client.connect()
        self.namespace = self.client.get_namespace_index("urn:inpformer:station")

    def close(self) -> None:
        self.client.disconnect()

    def node(self, name: str) -> Any:
        return self.client.get_node(f"ns={self.namespace};s=Station.{name}")

    def write(self, inputs: Inputs) -> None:
        product = ua.Variant(inputs.product, ua.VariantType.UInt16)
        self.client.write_values([self.node(name) for name in INPUTS], [inputs.trigger, inputs.acknowledge, product])

    def read(self) -> dict[str, Any]:
        values = self.client.read_values([self.node(name) for name in OUTPUTS])
        return dict(zip(OUTPUTS.values(), values, strict=True))


PlcEnd = ModbusPlc | OpcUaPlc


def sees(plc: PlcEnd, **wanted: Any) -> dict[str, Any]:
    """What the PLC reads once that is so."""

    def look() -> dict[str, Any] | None:
        found = plc.read()
        return found if found | wanted == found else None

    read: dict[str, Any] = eventually(look)
    return read


def acknowledge(plc: PlcEnd) -> None:
    plc.write(Inputs(acknowledge=True))
    sees(plc, result_valid=False, ok=False, ng=False, review=False, error=False, error_code=0, score=0)
    plc.write(Inputs())
    sees(plc, ready=True)


def assert_refused(named: str, *options: str) -> None:
    command = [sys.executable, "-m", "serving.station", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n"), named in ended.stderr) == (1, 1, True), ended.stderr
