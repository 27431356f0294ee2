"""The station between a folder, the real service, and real Modbus and OPC-UA clients; and what it does without them."""

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from asyncua import ua
from asyncua.sync import Client as OpcUaClient

from serving.station.handshake import Inputs
from serving.station.opcua import OUTPUTS
from tests.relay import Relay
from tests.serving.model_store import eventually, free_port
from tests.serving.pictures import as_file, picture, verdict
from tests.serving.station import (
    BOLT,
    GOOD,
    NOWHERE,
    NUT,
    PIN,
    PRODUCTS,
    UNKNOWN,
    ModbusPlc,
    OpcUaPlc,
    PlcEnd,
    Station,
    acknowledge,
    assert_refused,
    sees,
)


@pytest.fixture(params=[ModbusPlc, OpcUaPlc])
def plc(request: pytest.FixtureRequest) -> PlcEnd:
    end: PlcEnd = request.param()
    return end


@pytest.fixture
def modbus() -> ModbusPlc:
    return ModbusPlc()


@pytest.fixture
def station(tmp_path: Path, service: httpx.Client, plc: PlcEnd) -> Iterator[Station]:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, plc.option, plc.address) as station, plc:
        yield station


@pytest.fixture
def by_modbus(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> Iterator[Station]:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address) as station, modbus:
        yield station


def inspect(
    plc: PlcEnd, station: Station, product: int, name: str = "part.png", content: bytes = GOOD
) -> dict[str, Any]:
    """From the trigger to the result, which is not acknowledged."""
    plc.write(Inputs(trigger=True, product=product))
    sees(plc, busy=True, ready=False)
    station.drop(name, content)
    return sees(plc, result_valid=True, busy=False)


def test_a_plc_triggers_reads_and_acknowledges(station: Station, plc: PlcEnd) -> None:
    sees(plc, ready=True, sequence=0)
    for sequence, (product, flag, decision) in enumerate(
        [(NUT, "ng", "FAIL"), (BOLT, "ok", "PASS"), (PIN, "review", "REVIEW")], 1
    ):
        read = inspect(plc, station, product, f"{sequence}.png")
        assert [name for name in ("ok", "ng", "review", "error") if read[name]] == [flag]
        assert (read["sequence"], read["product"], read["error_code"]) == (sequence, product, 0)
        verdict = station.verdict(f"{sequence}.png")
        assert verdict["decision"] == decision
        assert verdict["part"] == f"{sequence}.png"
        if decision != "FAIL":  # whose threshold is 0
            assert read["score"] - 1 < 1000 * verdict["score"] / verdict["threshold"] <= read["score"]
        told = {"sequence": sequence, "product": product, "told": flag.upper(), "error_code": 0}
        assert verdict["plc"] == told | {"delivered": False}
        acknowledge(plc)
        eventually(lambda name=f"{sequence}.png": station.verdict(name)["plc"]["delivered"])
    assert plc.read()["undelivered"] == 0
    assert station.stop() == 0
    assert "3 pictures judged, 0 undelivered" in station.said


def test_what_cannot_be_judged_is_an_error_and_the_next_is_judged(by_modbus: Station, modbus: ModbusPlc) -> None:
    modbus.write(Inputs(trigger=True, product=UNKNOWN))
    sees(modbus, error=True, error_code=1, product=UNKNOWN)
    acknowledge(modbus)
    assert inspect(modbus, by_modbus, BOLT, "broken.png", b"no picture")["error_code"] == 4
    assert by_modbus.verdict("broken.png")["decision"] == "ERROR"
    acknowledge(modbus)
    assert inspect(modbus, by_modbus, BOLT)["ok"]


def test_who_comes_back_finds_the_result_and_goes_on(station: Station, plc: PlcEnd) -> None:
    inspect(plc, station, BOLT, "first.png")
    plc.close()
    plc.connect()
    sees(plc, result_valid=True, ok=True, sequence=1)
    plc.write(Inputs())
    assert inspect(plc, station, NUT, "second.png")["sequence"] == 2
    assert plc.read()["undelivered"] == 1
    assert station.verdict("first.png")["plc"]["delivered"] is False
    assert re.search("undelivered, 1 so far: result 1, OK, 'first.png'", station.said)
    acknowledge(plc)


def test_a_picture_belongs_to_a_trigger_before_it_alone(by_modbus: Station, modbus: ModbusPlc) -> None:
    by_modbus.drop("early.png")  # of the category that the service cannot know
    early = by_modbus.verdict("early.png")
    assert (early["decision"], early["status"]) == ("ERROR", 422)
    assert early["plc"] == {"sequence": None, "delivered": False}
    sees(modbus, undelivered=1, ready=True, sequence=0)
    assert inspect(modbus, by_modbus, BOLT, "own.png")["ok"]
    assert by_modbus.verdict("own.png")["plc"]["sequence"] == 1


def test_two_triggers_for_one_picture_are_an_error(by_modbus: Station, modbus: ModbusPlc) -> None:
    for trigger in (True, False, True):
        modbus.write(Inputs(trigger=trigger, product=BOLT))
    sees(modbus, busy=True)
    by_modbus.drop()
    sees(modbus, result_valid=True, error=True, error_code=5, ok=False, sequence=1)
    acknowledge(modbus)
    verdict = eventually(lambda: [one for one in by_modbus.done() if one["plc"]["delivered"]])[0]
    assert (verdict["decision"], verdict["plc"]["told"], verdict["plc"]["error_code"]) == ("PASS", "ERROR", 5)


def test_a_trigger_without_a_picture_is_an_error(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> None:
    options = (*PRODUCTS, "--modbus", modbus.address, "--patience", "0.5")
    with Station(tmp_path, str(service.base_url), *options), modbus:
        modbus.write(Inputs(trigger=True, product=BOLT))
        sees(modbus, error=True, error_code=2)
        acknowledge(modbus)


def test_a_service_that_is_away_is_an_error_and_what_nobody_triggered_waits_for_it(
    tmp_path: Path, service: httpx.Client, modbus: ModbusPlc
) -> None:
    relay = Relay(str(service.base_url), 0)  # it answers nobody
    options = (*PRODUCTS, "--category", "bolt", "--modbus", modbus.address, "--patience", "3")
    with Station(tmp_path, relay.endpoint, *options) as station, modbus:
        station.drop("early.png")
        eventually(lambda: "the service cannot be used" in station.said)
        assert inspect(modbus, station, BOLT)["error_code"] == 3
        assert station.verdict()["plc"]["told"] == "ERROR"
        acknowledge(modbus)
        assert [one["file"] for one in station.done()] == ["part.png"]
        relay.break_connections()  # it answers
        assert station.verdict("early.png")["decision"] == "PASS"
        assert inspect(modbus, station, BOLT, "next.png")["ok"]
        assert station.said.count("cannot be used") == 1
    relay.close()


class NotThatOne(BaseHTTPRequestHandler):
    """A service that is ready and has no answer for stuck.png."""

    def do_GET(self) -> None:
        self._say({"categories": ["bolt"]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if "stuck.png" not in self.path:
            self._say(verdict().model_dump())
        else:
            self.connection.recv(1)  # until the station gives up

    def _say(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_a_picture_that_a_ready_service_does_not_answer_stops_no_other(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotThatOne) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with Station(tmp_path, address, "--patience", "0.5") as station:
            station.drop("stuck.png")
            stuck = station.verdict("stuck.png")
            assert (stuck["decision"], stuck["status"]) == ("ERROR", None)
            station.drop("next.png")
            assert station.verdict("next.png")["decision"] == "PASS"
        server.shutdown()


def test_both_protocols_show_one_handshake(tmp_path: Path, service: httpx.Client) -> None:
    first, second = ModbusPlc(), OpcUaPlc()
    options = (*PRODUCTS, first.option, first.address, second.option, second.address)
    with Station(tmp_path, str(service.base_url), *options) as station, first:
        with second:
            read = inspect(first, station, BOLT)
            assert read == sees(second, result_valid=True)
            second.write(Inputs(trigger=True, product=BOLT))
            sees(first, sequence=2, undelivered=1, busy=True)
        station.drop()
        sees(first, result_valid=True, ok=True, sequence=2)
        acknowledge(first)  # though the other's Trigger stays


def test_pictures_are_judged_without_a_plc(tmp_path: Path, service: httpx.Client) -> None:
    with Station(tmp_path, str(service.base_url), "--category", "bolt") as station:
        for name in ("a.png", "b.JPG"):
            station.drop(name)
        (station.folder / "notes.txt").write_text("no picture")
        (station.folder / ".hidden.png").write_bytes(GOOD)
        (station.folder / "link.png").symlink_to("/etc/hostname")
        wanted = service.post("/v1/predict?category=bolt&part=a.png", content=GOOD).json()
        verdict = station.verdict("a.png")
        assert {**wanted, "timings_ms": None} == {name: verdict[name] for name in wanted} | {"timings_ms": None}
        assert "plc" not in verdict
        assert station.verdict("b.JPG")["decision"] == "PASS"
        station.drop("a.png", as_file(picture(1)))  # the same name again
        eventually(lambda: len(station.done()) == 3)
        assert len({one["score"] for one in station.done() if one["file"] == "a.png"}) == 2
        assert station.stop() == 0
    left = {path.name for path in station.folder.iterdir()}
    assert left == {"notes.txt", ".hidden.png", "link.png", "done", "taken"}
    assert [path.name for path in (station.folder / "taken").iterdir()] == [".lock"]


def test_a_picture_is_judged_when_it_is_whole(tmp_path: Path, service: httpx.Client) -> None:
    with Station(tmp_path, str(service.base_url), "--category", "bolt") as station:
        with (station.folder / "slow.png").open("wb") as file:
            file.write(GOOD[:1000])
            file.flush()
            # Taken, and found to be no picture yet.
            eventually(lambda: [*(station.folder / "taken").glob("*.png")])
            file.write(GOOD[1000:])
        assert station.verdict("slow.png")["decision"] == "PASS"
        assert len(station.done()) == 1


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("empty.png", b"", 400),
        ("large.png", bytes(2**20 + 1), 413),
        (os.fsdecode(b"\xff\xfe.png"), GOOD, None),
        ("x" * 251 + ".png", GOOD, None),
        ("&category=nut.png", GOOD, None),
    ],
)
def test_hostile_files_and_names(
    tmp_path: Path, service: httpx.Client, name: str, content: bytes, status: int | None
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with Station(tmp_path, str(service.base_url), "--category", "bolt") as station:
        verdict = station.verdict(name)
        assert (verdict["decision"], verdict.get("status")) == ("ERROR" if status else "PASS", status)


def test_a_file_that_is_too_large_for_memory_is_not_read(tmp_path: Path, service: httpx.Client) -> None:
    with Station(tmp_path, str(service.base_url), "--category", "bolt") as station:
        with (station.folder / "part.png").open("wb") as file:
            file.truncate(2**40)
        assert station.verdict()["status"] == 413


def test_a_station_that_is_killed_judges_again_and_reports_nothing(
    tmp_path: Path, service: httpx.Client, modbus: ModbusPlc
) -> None:
    relay = Relay(str(service.base_url), 0)
    options = (*PRODUCTS, "--modbus", modbus.address)
    station = Station(tmp_path, relay.endpoint, *options).start()
    with modbus:
        modbus.write(Inputs(trigger=True, product=BOLT))
        sees(modbus, busy=True)
        station.drop("under-way.png")
        eventually(lambda: [*(station.folder / "taken").glob("*.png")])
        station.kill()
    relay.close()
    station.drop("while-away.png")
    with Station(tmp_path, str(service.base_url), *options) as station, modbus:
        assert station.verdict("under-way.png")["decision"] == "PASS"  # as the product of its trigger
        assert station.verdict("while-away.png")["status"] == 422  # nobody said what it is
        read = sees(modbus, undelivered=2)
        assert (read["result_valid"], read["ok"], read["ready"], read["sequence"]) == (False, False, True, 0)
        assert not [one for one in station.done() if one["plc"]["delivered"]]
        # A PLC that still holds its Trigger has a new inspection.
        modbus.write(Inputs(trigger=True, product=BOLT))
        sees(modbus, busy=True, sequence=1)


def test_stopped_with_a_result_that_nobody_acknowledged(
    tmp_path: Path, service: httpx.Client, modbus: ModbusPlc
) -> None:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address) as station, modbus:
        assert inspect(modbus, station, BOLT)["ok"]
        assert station.stop() == 0
        assert "1 pictures judged, 1 undelivered" in station.said
        assert station.verdict()["plc"]["delivered"] is False


def test_stopped_while_a_trigger_waits(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> None:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address) as station, modbus:
        modbus.write(Inputs(trigger=True, product=BOLT))
        sees(modbus, busy=True)
        assert station.stop() == 0
        assert "Traceback" not in station.said


def test_a_disk_that_is_full_stops_no_plc(
    small_disk: Path, tmp_path: Path, service: httpx.Client, modbus: ModbusPlc
) -> None:
    with Station(small_disk, str(service.base_url), *PRODUCTS, "--modbus", modbus.address) as station, modbus:
        modbus.write(Inputs(trigger=True, product=BOLT))
        sees(modbus, busy=True)
        station.drop()
        with pytest.raises(OSError, match="space"):
            (small_disk / "fill").write_bytes(bytes(2**21))
        sees(modbus, result_valid=True, ok=True)
        eventually(lambda: "cannot be used" in station.said)
        (small_disk / "fill").unlink()
        assert station.verdict()["decision"] == "PASS"


def test_modbus_words_and_bits_are_the_same(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> None:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address), modbus:
        client = modbus.client
        client.write_register(1, UNKNOWN)
        client.write_coil(0, True)
        assert client.read_discrete_inputs(32, count=7).bits[:7] == [False, False, True, False, False, False, True]
        assert client.read_input_registers(0, count=8).registers == [1, UNKNOWN, 0b1000100, 1, 0, 1, UNKNOWN, 0]
        client.write_coils(0, [False, True])
        assert client.read_holding_registers(0, count=3).registers == [2, UNKNOWN, 0]
        client.mask_write_register(address=0, and_mask=0, or_mask=0)
        assert client.read_discrete_inputs(32, count=1).bits[0]
        read = client.readwrite_registers(read_address=2, read_count=2, write_address=0, values=[1, UNKNOWN])
        assert read.registers == [0b1000100, 1]


def test_modbus_clients_write_the_inputs_alone(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> None:
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address), modbus:
        assert modbus.client.write_register(2, 0b1100).isError()
        assert modbus.client.write_registers(1, [1, 0b1100]).isError()
        assert modbus.client.write_coil(32 + 3, True).isError()
        assert modbus.client.write_register(8, 1).isError()
        assert modbus.client.read_holding_registers(0, count=9).isError()
        assert modbus.client.read_holding_registers(0, count=8).registers == [0, 0, 1, 0, 0, 0, 0, 0]


def test_opcua_clients_write_the_inputs_alone(tmp_path: Path, service: httpx.Client) -> None:
    plc = OpcUaPlc()
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--opcua", plc.address), plc:
        for name in OUTPUTS:
            node = plc.node(name)
            with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                node.write_value(node.read_data_value().Value)
        with pytest.raises(ua.UaStatusCodeError):
            plc.client.nodes.objects.add_object(plc.namespace, "mine")
        with pytest.raises(ua.UaStatusCodeError):
            plc.client.delete_nodes([plc.node("OK")])
        with pytest.raises(ua.UaStatusCodeError):
            plc.node("Trigger").write_attribute(ua.AttributeIds.DisplayName, ua.DataValue("x"))
        # Values that are none, and then a good one.
        plc.node("Trigger").write_value(ua.Variant([True, True], ua.VariantType.Boolean))
        bad = ua.DataValue(ua.Variant(True), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure))
        plc.node("Trigger").write_value(bad)
        with pytest.raises(ua.UaStatusCodeError, match="BadTypeMismatch"):
            plc.node("Product").write_value(1, ua.VariantType.Int64)
        sees(plc, sequence=0, result_valid=False)
        plc.write(Inputs(trigger=True, product=UNKNOWN))
        sees(plc, error_code=1, sequence=1)
        for user in ("admin", "root"):
            stranger = OpcUaClient(plc.address)
            stranger.set_user(user)
            with pytest.raises(ua.UaStatusCodeError):
                stranger.connect()
            stranger.tloop.stop()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--folder", "nowhere"], "--folder"),
        (["--service", "127.0.0.1:8000"], "--service"),
        (["--patience", "0"], "--patience"),
        (["--patience", "nan"], "--patience"),
        (["--patience", "61"], "--patience"),
        (["--modbus", "127.0.0.1", *PRODUCTS], "--modbus"),
        (["--modbus", "127.0.0.1:99999", *PRODUCTS], "--modbus"),
        (["--modbus", "127.0.0.1:0", *PRODUCTS], "--modbus"),
        (["--opcua", "127.0.0.1:4840", *PRODUCTS], "--opcua"),
        (["--opcua", "opc.tcp://127.0.0.1:4840/path", *PRODUCTS], "--opcua"),
        (["--opcua"], "--product"),
        ([*PRODUCTS], "--product"),
        (["--modbus", "--product", "0=nut"], "--product"),
        (["--modbus", "--product", "65536=nut"], "--product"),
        (["--modbus", "--product", "nut"], "--product"),
        (["--modbus", "--product", "1="], "--product"),
        (["--modbus", "--product", "1=nut", "--product", "01=bolt"], "--product"),
        (["--camera", ""], "--camera"),
        (["--camera", "videotestsrc 'a"], "--camera"),
        (["--camera", "videotestsrc", "--fired"], "--fired"),
        (["--camera", "videotestsrc", "--interval", "0"], "--interval"),
        (["--interval", "1"], "--interval"),
    ],
)
def test_impossible_options_are_one_sentence(tmp_path: Path, options: list[str], named: str) -> None:
    assert_refused(named, "--folder", str(tmp_path), "--service", NOWHERE, *options)
    assert [*tmp_path.iterdir()] == []


def test_what_is_taken_or_unknown_is_one_sentence(tmp_path: Path, service: httpx.Client, modbus: ModbusPlc) -> None:
    given = ("--folder", str(tmp_path / "in"), "--service", str(service.base_url))
    with Station(tmp_path, str(service.base_url), *PRODUCTS, "--modbus", modbus.address):
        assert_refused("another station", *given, "--category", "bolt")
        assert_refused("--modbus", *given, *PRODUCTS, "--modbus", modbus.address)
        assert_refused("--opcua", *given, *PRODUCTS, "--opcua", f"opc.tcp://{modbus.address}")
    assert_refused("screw", *given, "--modbus", f"127.0.0.1:{free_port()}", "--product", "1=screw")
    assert_refused("--category", *given)
    assert_refused("--category", *given, "--category", "screw")
