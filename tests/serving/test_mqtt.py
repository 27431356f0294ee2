"""The MQTT bridge between a real broker and the real service, and what it does while one of them is away."""

import json
import queue
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.relay import Relay
from tests.serving.model_store import DEADLINE, eventually, free_port
from tests.serving.pictures import as_file, picture

ROOT = Path(__file__).resolve().parents[2]
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto on this machine")
GOOD = as_file(picture())


class Broker:
    """Mosquitto on loopback, which keeps sessions on disk, and lets in who has a name and a password, if any is set."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence true"]
        self._config.write_text("\n".join([*lines, f"persistence_location {folder}/", "user root", ""]))

    def allow_nobody(self) -> None:
        self._config.write_text(self._config.read_text().replace("allow_anonymous true", "allow_anonymous false"))

    def start(self) -> None:
        self._process = subprocess.Popen([str(MOSQUITTO), "-c", str(self._config)], stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@dataclass
class Line:
    """A client as a line's controller is one: it sends pictures and takes verdicts."""

    client: Client
    verdicts: "queue.Queue[MQTTMessage]"

    def send(self, topic: str, content: bytes = GOOD, **properties: Any) -> None:
        given = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(given, name, value)
        self.client.publish(topic, content, 1, properties=given).wait_for_publish(DEADLINE)

    def verdict(self) -> tuple[str, dict[str, Any]]:
        message = self.verdicts.get(timeout=DEADLINE)
        return message.topic, json.loads(message.payload)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def line(broker: Broker) -> Iterator[Line]:
    client = Client(CallbackAPIVersion.VERSION2, "line", protocol=MQTTv5)
    found: queue.Queue[MQTTMessage] = queue.Queue()
    client.on_message = lambda client, data, message: found.put(message)
    client.on_connect = lambda client, *rest: client.subscribe([("plant/+/+/verdict", 1), ("answers", 1)])
    eventually(lambda: can_connect(client, broker.port))
    client.loop_start()
    yield Line(client, found)
    client.disconnect()
    client.loop_stop()


def can_connect(client: Client, port: int) -> bool:
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600  # a verdict that comes while the line is away waits for it
    try:
        client.connect("127.0.0.1", port, clean_start=False, properties=session)
    except ConnectionRefusedError:
        return False
    return True


class Bridge:
    """The command, with what it says."""

    def __init__(self, broker: Broker, service: str, folder: Path, *options: str) -> None:
        self._command = [sys.executable, "-m", "serving.mqtt", "--broker", broker.address, "--service", service]
        self._command += ["--prefix", "plant", *options]
        self._said = folder / "said"

    def __enter__(self) -> "Bridge":
        return self.start()

    def __exit__(self, *reason: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> "Bridge":
        with self._said.open("w") as out:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=out, stderr=out)
        eventually(lambda: re.search("pictures on|is away", self.said) or self.process.poll() is not None)
        return self

    @property
    def said(self) -> str:
        return self._said.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)


@pytest.fixture
def bridge(broker: Broker, line: Line, service: httpx.Client, tmp_path: Path) -> Iterator[Bridge]:
    with Bridge(broker, str(service.base_url), tmp_path) as bridge:
        yield bridge


def test_a_picture_has_the_verdict_that_http_gives(bridge: Bridge, line: Line, service: httpx.Client) -> None:
    line.send("plant/press-2/nut/picture", UserProperty=("part", "A 17"))
    topic, verdict = line.verdict()
    wanted = service.post("/v1/predict?category=nut&line=press-2&part=A 17", content=GOOD).json()
    assert topic == "plant/press-2/nut/verdict"
    assert verdict | {"timings_ms": None} == wanted | {"timings_ms": None}
    assert (verdict["decision"], verdict["part"], verdict["line"]) == ("FAIL", "A 17", "press-2")


@pytest.mark.parametrize(("response", "topic"), [("answers", "answers"), ("no/+/topic", "plant/1/bolt/verdict")])
def test_who_asks_for_the_verdict_elsewhere_has_it_there(bridge: Bridge, line: Line, response: str, topic: str) -> None:
    line.send("plant/1/bolt/picture", ResponseTopic=response, CorrelationData=b"\x00\x01")
    message = line.verdicts.get(timeout=DEADLINE)
    assert message.properties is not None
    assert (message.topic, message.properties.CorrelationData) == (topic, b"\x00\x01")


@pytest.mark.parametrize(
    ("topic", "content", "status"),
    [("1/none", GOOD, 422), ("1/nut", b"no picture", 400), ("a b/nut", GOOD, 422), ("1/nut", bytes(2**20 + 1), 413)],
)
def test_what_cannot_be_judged_is_an_error_and_the_next_is_judged(
    bridge: Bridge, line: Line, topic: str, content: bytes, status: int
) -> None:
    line.send(f"plant/{topic}/picture", content)
    where, verdict = line.verdict()
    assert (where, verdict["decision"], verdict["status"]) == (f"plant/{topic}/verdict", "ERROR", status)
    line.send("plant/1/bolt/picture")
    assert line.verdict()[1]["decision"] == "PASS"


def test_a_picture_waits_for_a_service_that_is_away(
    broker: Broker, line: Line, service: httpx.Client, tmp_path: Path
) -> None:
    relay = Relay(str(service.base_url), 0)  # it answers nobody
    bridge = Bridge(broker, relay.endpoint, tmp_path).start()
    line.send("plant/1/bolt/picture")
    assert relay.held.wait(DEADLINE)
    relay.break_connections()
    assert line.verdict()[1]["decision"] == "PASS"
    relay.close()
    assert bridge.stop() == 0


def test_a_picture_that_nobody_takes_is_an_error_in_the_end(broker: Broker, line: Line, tmp_path: Path) -> None:
    with Bridge(broker, f"http://127.0.0.1:{free_port()}", tmp_path, "--patience", "1.5") as bridge:
        line.send("plant/1/bolt/picture")
        _, verdict = line.verdict()
        assert (verdict["decision"], verdict["status"], verdict["category"]) == ("ERROR", None, "bolt")
        assert bridge.stop() == 0


def test_a_bridge_that_is_killed_loses_no_picture(
    broker: Broker, line: Line, service: httpx.Client, tmp_path: Path
) -> None:
    relay = Relay(str(service.base_url), 0)
    bridge = Bridge(broker, relay.endpoint, tmp_path).start()
    for number in range(12):  # more than the broker hands out at a time
        line.send("plant/1/bolt/picture", UserProperty=("part", str(number)))
    assert relay.held.wait(DEADLINE)
    bridge.process.kill()
    bridge.process.wait()
    relay.close()
    broker.stop()
    broker.start()
    waited_for = {str(number) for number in range(12)}
    with Bridge(broker, str(service.base_url), tmp_path) as bridge:
        while waited_for:  # some may come twice
            waited_for.discard(line.verdict()[1]["part"])
        assert bridge.stop() == 0


def test_a_broker_that_comes_back_has_its_verdicts(bridge: Bridge, broker: Broker, line: Line) -> None:
    broker.stop()
    eventually(lambda: "is away" in bridge.said)
    broker.start()
    eventually(lambda: bridge.said.count("pictures on") == 2)
    line.send("plant/1/bolt/picture")
    assert line.verdict()[1]["decision"] == "PASS"


def test_a_broker_that_is_away_at_the_start_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    broker.stop()
    with Bridge(broker, "http://127.0.0.1:1", tmp_path) as bridge:
        assert "is away" in bridge.said
        broker.start()
        eventually(lambda: "pictures on" in bridge.said)
        assert bridge.said.count("is away") == 1
        assert bridge.stop() == 0


def test_the_broker_says_whether_the_bridge_is_there(bridge: Bridge, broker: Broker, line: Line) -> None:
    said: queue.Queue[str] = queue.Queue()
    line.client.message_callback_add("plant/status", lambda client, data, message: said.put(message.payload.decode()))
    line.client.subscribe("plant/status", 1)
    assert said.get(timeout=DEADLINE) == "online"
    bridge.process.kill()  # the broker says so in its place
    assert said.get(timeout=DEADLINE) == "offline"


def test_who_is_not_let_in_is_told_in_a_sentence(broker: Broker, tmp_path: Path) -> None:
    broker.stop()
    broker.allow_nobody()
    broker.start()
    bridge = Bridge(broker, "http://127.0.0.1:1", tmp_path).start()
    assert bridge.process.wait(DEADLINE) == 1
    assert "MQTT_USERNAME" in bridge.said.splitlines()[-1]
    assert "Traceback" not in bridge.said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--broker", "127.0.0.1:1883"], "--broker"),
        (["--broker", "mqtt://me:secret@127.0.0.1"], "MQTT_USERNAME"),
        (["--broker", "mqtt://127.0.0.1:99999"], "--broker"),
        (["--broker", "mqtt://127.0.0.1:0"], "--broker"),
        (["--service", "127.0.0.1:8000"], "--service"),
        (["--prefix", "a/#"], "--prefix"),
        (["--patience", "0"], "--patience"),
        (["--patience", "nan"], "--patience"),
    ],
)
def test_impossible_options_are_one_sentence(options: list[str], named: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "serving.mqtt", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n"), named in ended.stderr) == (1, 1, True)
    assert "secret" not in ended.stderr
