"""A line that speaks MQTT: pictures from a broker to the service, verdicts back. `python -m serving.mqtt [--broker …]`.

A picture on `PREFIX/<line>/<category>/picture` has its verdict, JSON, on `PREFIX/<line>/<category>/verdict`, or where
it asks for it (MQTT 5: response topic, correlation data; its user property `part` is the part's name). A picture is
acknowledged to the broker once the broker has its verdict, and the broker keeps what is not acknowledged: so every
picture of QoS 1 is answered at least once, whichever of bridge and service is killed, and after a restart of a broker
that keeps its sessions on disk. The bridge needs the service by HTTP alone, and the service knows nothing of it: with
the broker gone, it goes on.
"""

import argparse
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from inpformer.errors import UserError
from serving.asking import LARGEST_PICTURE, ask, check_service

USERNAME, PASSWORD = "MQTT_USERNAME", "MQTT_PASSWORD"
AT_A_TIME = 8  # pictures that the broker hands out before the first of them is acknowledged
SESSION_SECONDS = 24 * 3600  # how long the broker keeps pictures for a bridge that is away
WAIT_SECONDS = 2.0
REFUSALS = (134, 135)  # MQTT 5's reasons: bad user name or password, not authorized
QOS = 1


@dataclass(frozen=True)
class Bridge:
    """Where it stands: a broker, a service, and between them topics that begin with `prefix`. `client_id` is the name
    under which the broker keeps what was not acknowledged. A picture that the service cannot take for `patience`
    seconds has the decision ERROR.
    """

    broker: str
    service: str
    prefix: str
    client_id: str
    patience: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.broker)
        try:
            known = parts.scheme in ("mqtt", "mqtts") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is none
            known = False
        if not known:
            raise UserError(f"--broker is {self.broker}: it must be mqtt://HOST[:1883] or mqtts://HOST[:8883].")
        if parts.username or parts.password:
            raise UserError(f"--broker holds a name: set {USERNAME} and {PASSWORD} instead.")
        check_service(self.service)
        if not self.prefix or any(sign in self.prefix for sign in "+#"):
            raise UserError(f"--prefix is {self.prefix!r}: it must be the beginning of a topic, without + and #.")
        if not self.patience > 0:  # nor no number
            raise UserError(f"--patience is {self.patience:g}: it must be above 0 seconds.")


def main() -> None:
    """Runs until Ctrl-C or SIGTERM: what is under way is answered first."""
    try:
        bridge = _arguments()
    except UserError as error:
        sys.exit(f"error: {error}")
    connection = _Connection(bridge)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: connection.stopping.set())
    connection.run()
    if connection.refusal:
        sys.exit(
            f"error: {bridge.broker} does not let this bridge in ({connection.refusal}): set {USERNAME} and {PASSWORD}."
        )
    print("stopped", file=sys.stderr)


class _Connection:
    """The bridge's end of the broker."""

    def __init__(self, bridge: Bridge) -> None:
        # Imported only now, as --help does not need it.
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        self.stopping = threading.Event()
        self.refusal: str | None = None
        self._bridge = bridge
        self._status = f"{bridge.prefix}/status"
        self._client = Client(CallbackAPIVersion.VERSION2, bridge.client_id, protocol=MQTTv5, manual_ack=True)
        if name := os.environ.get(USERNAME):
            self._client.username_pw_set(name, os.environ.get(PASSWORD))
        self._client.will_set(self._status, "offline", QOS, retain=True)
        self._client.on_connect, self._client.on_disconnect = self._connected, self._lost
        self._client.on_connect_fail = lambda client, data: self._is_away("no connection")
        self._away = False
        self._client.on_message = lambda client, data, message: self._came(message)
        self._pool = ThreadPoolExecutor(AT_A_TIME, "picture")

    def run(self) -> None:
        """Until `stopping` is set, and what is under way then is answered."""
        where, secure = urlsplit(self._bridge.broker), self._bridge.broker.startswith("mqtts")
        if secure:
            self._client.tls_set()
        session = _properties("CONNECT")
        session.SessionExpiryInterval = SESSION_SECONDS
        session.ReceiveMaximum = AT_A_TIME
        session.MaximumPacketSize = LARGEST_PICTURE
        self._client.reconnect_delay_set(1, 10)
        port = where.port or (8883 if secure else 1883)
        self._client.connect_async(where.hostname or "", port, clean_start=False, properties=session)
        self._client.loop_start()
        while not self.stopping.wait(0.2):  # as long as that, a signal's handler does not run
            pass
        self._pool.shutdown()
        self._client.publish(self._status, "offline", QOS, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            if reason.value in REFUSALS:
                self.refusal = str(reason)
                self.stopping.set()
            else:
                self._is_away(reason)
            return
        self._away = False
        self._client.subscribe(f"{self._bridge.prefix}/+/+/picture", QOS)
        self._client.publish(self._status, "online", QOS, retain=True)
        print(f"{self._bridge.broker}: pictures on {self._bridge.prefix}/<line>/<category>/picture", flush=True)

    def _lost(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._is_away(reason)

    def _is_away(self, reason: object) -> None:
        """Says so once, until the broker is there again."""
        if not self._away and not self.stopping.is_set():
            print(f"{self._bridge.broker} is away ({reason}): it is tried again", file=sys.stderr, flush=True)
        self._away = True

    def _came(self, message: Any) -> None:
        if not self.stopping.is_set():
            self._pool.submit(self._answer, message)

    def _answer(self, message: Any) -> None:
        line, category = message.topic.split("/")[-3:-1]
        part = dict(getattr(message.properties, "UserProperty", [])).get("part")
        named = {"line": line, "category": category} | ({} if part is None else {"part": part})
        verdict = ask(self._bridge.service, message.payload, named, self._bridge.patience, self.stopping)
        if verdict is not None and self._is_published(message, json.dumps(verdict)):
            self._client.ack(message.mid, message.qos)

    def _is_published(self, message: Any, verdict: str) -> bool:
        """Whether the broker has the verdict: it is waited for until that is so, or the bridge is stopped."""
        properties = _properties("PUBLISH")
        if correlation := getattr(message.properties, "CorrelationData", None):
            properties.CorrelationData = correlation
        own = message.topic.removesuffix("picture") + "verdict"
        try:
            sent = self._client.publish(
                getattr(message.properties, "ResponseTopic", own), verdict, QOS, properties=properties
            )
        except ValueError:  # a response topic that is none
            sent = self._client.publish(own, verdict, QOS, properties=properties)
        sent.wait_for_publish(WAIT_SECONDS)
        while not sent.is_published() and not self.stopping.is_set():
            sent.wait_for_publish(WAIT_SECONDS)
        return bool(sent.is_published())


def _properties(packet: str) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    return Properties(getattr(PacketTypes, packet))


def _arguments() -> Bridge:
    parser = argparse.ArgumentParser(
        "python -m serving.mqtt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", default="mqtt://127.0.0.1", help="mqtt:// or mqtts://HOST[:PORT] (%(default)s)")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--prefix", default="inpformer", help="how its topics begin (default: %(default)s)")
    parser.add_argument("--client-id", default="inpformer", help="another one for each bridge (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds until a picture without a verdict is an ERROR (%(default)g)"
    )
    given = parser.parse_args()
    return Bridge(given.broker, given.service.rstrip("/"), given.prefix, given.client_id, given.patience)


if __name__ == "__main__":
    main()
