"""What a station is told."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from inpformer.errors import UserError
from serving.asking import check_service
from serving.station.results import LARGEST

LONGEST_INTERVAL = 86_400.0
LONGEST_PATIENCE = 60.0  # the latest deadline that the service lets a request set


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Settings:
    """Pictures come from `folder`. A part that a PLC triggers is of the category that `products` has for its number,
    another one is of `category`; None leaves that to a service that knows one. A trigger has its result, be it an
    Error, after `patience` seconds. With a `camera`, the words of its pipeline, the station takes the pictures: for a
    trigger, and without a PLC each `interval` seconds, or each second. A camera that `is_fired` is so by the PLC.
    """

    folder: Path
    service: str
    category: str | None
    products: dict[int, str]
    modbus: Address | None
    opcua: Address | None
    patience: float
    camera: tuple[str, ...] | None = None
    is_fired: bool = False
    interval: float | None = None

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"--folder is {self.folder}, which is no folder: make it, or correct the path.")
        check_service(self.service)
        if not 0 < self.patience <= LONGEST_PATIENCE:  # nor no number
            raise UserError(f"--patience is {self.patience:g}: it must be above 0 and at most {LONGEST_PATIENCE:g} s.")
        if self.has_plc and not self.products:
            raise UserError("a PLC names parts by their product number: give --product 1=CATEGORY for each.")
        if self.products and not self.has_plc:
            raise UserError("--product is for a PLC: give --modbus or --opcua too, or --category alone.")
        if self.is_fired and not (self.camera and self.has_plc):
            raise UserError("--fired is for a --camera that a PLC fires: give --camera and --modbus or --opcua too.")
        if self.interval is not None:
            if self.camera is None or self.has_plc:
                raise UserError(
                    "--interval is for a --camera without a PLC: give --camera, and no --modbus or --opcua."
                )
            if not 0 < self.interval <= LONGEST_INTERVAL:
                raise UserError(
                    f"--interval is {self.interval:g}: it must be above 0 and at most {LONGEST_INTERVAL:g} s."
                )

    @property
    def has_plc(self) -> bool:
        """Whether there are outputs."""
        return self.modbus is not None or self.opcua is not None

    @property
    def categories(self) -> set[str]:
        """All that it will ask for."""
        return {*self.products.values()} | ({self.category} if self.category is not None else set())


def modbus_address(text: str) -> Address:
    """Of HOST:PORT. Raises UserError where it is none."""
    return _address("--modbus", text, f"//{text}", "HOST:PORT, such as 127.0.0.1:5020")


def opcua_address(text: str) -> Address:
    """Of opc.tcp://HOST:PORT. Raises UserError where it is none."""
    url = text if text.startswith("opc.tcp://") else ""
    return _address("--opcua", text, url, "opc.tcp://HOST:PORT, such as opc.tcp://127.0.0.1:4840")


def pipeline(text: str) -> tuple[str, ...]:
    """The words of a text such as "v4l2src device=/dev/video0". Raises UserError where there is none."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"--camera is {text!r}, which cannot be read ({error}).") from None
    if not words:
        raise UserError("--camera is empty: it must be a pipeline of GStreamer, such as v4l2src device=/dev/video0.")
    return words


def products(given: list[str]) -> dict[int, str]:
    """Of texts such as 1=board. Raises UserError where one is none, or names a number again."""
    found: dict[int, str] = {}
    for text in given:
        number, _, category = text.partition("=")
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) <= LARGEST and category):
            raise UserError(f"--product is {text}: it must be NUMBER=CATEGORY, the number from 1 to {LARGEST}.")
        if int(number) in found:
            raise UserError(f"--product names {number} twice, for {found[int(number)]} and {category}: take one.")
        found[int(number)] = category
    return found


def _address(option: str, text: str, url: str, right: str) -> Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is none
        host, port = None, None
    if not host or not port or parts.path or parts.username is not None:
        raise UserError(f"{option} is {text}: it must be {right}.")
    return Address(host, port)
