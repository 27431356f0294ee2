"""A station on a line: pictures from a folder to the service, verdicts to PLCs. `python -m serving.station --folder IN`

Every picture that is dropped into the folder is judged and moved to its folder `done`, with the verdict beside it; with
--camera the station takes the pictures itself, by GStreamer.
With --modbus and --opcua a PLC triggers an inspection, reads its result and acknowledges it: docs/line.md has the
timing, the registers and the nodes. The station needs the service by HTTP alone.
"""

import argparse
import asyncio
import logging
import signal
import sys
from functools import partial
from pathlib import Path

from inpformer.errors import UserError
from serving.port import check_free
from serving.station.folder import Folder
from serving.station.settings import Address, Settings, modbus_address, opcua_address, pipeline, products

MODBUS, OPCUA = "127.0.0.1:5020", "opc.tcp://127.0.0.1:4840"
CHECK_SECONDS = 5.0


def main() -> None:
    """Runs until Ctrl-C or SIGTERM: what is under way is judged first."""
    try:
        settings = _settings()
        for option, address in (("--modbus", settings.modbus), ("--opcua", settings.opcua)):
            if address:
                check_free(address.host, address.port, f"another address for {option}")
        folder = Folder(settings.folder)
        _check_categories(settings)
        asyncio.run(_run(settings, folder))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # before it was ready
        print("stopped", file=sys.stderr)


async def _run(settings: Settings, folder: Folder) -> None:
    from serving.station.camera import Camera
    from serving.station.station import Station

    # They log what clients do wrong, with tracebacks.
    for name in ("pymodbus", "asyncua"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    camera = Camera(settings.camera, settings.is_fired) if settings.camera else None
    station = Station(settings, folder, camera)
    # Imported only where they are used, as they take seconds.
    if settings.modbus:
        from serving.station.modbus import Modbus

        station.add(partial(Modbus, settings.modbus))
    if settings.opcua:
        from serving.station.opcua import OpcUa

        station.add(partial(OpcUa, settings.opcua))
    await station.run(stopping)


def _check_categories(settings: Settings) -> None:
    """Raises UserError where the service does not know what it will be asked for; it may also be away."""
    import requests

    try:
        known = requests.get(f"{settings.service}/healthz", timeout=CHECK_SECONDS).json()["categories"]
    except (requests.RequestException, ValueError, TypeError, KeyError):
        print(f"{settings.service} does not say yet which categories it knows", file=sys.stderr, flush=True)
        return
    if unknown := sorted(settings.categories - {*known}):
        reason = f"{settings.service} knows {', '.join(known)}, and not {', '.join(unknown)}"
        raise UserError(f"{reason}: correct --product and --category.")
    if not settings.has_plc and settings.category is None and len(known) > 1:
        raise UserError(f"{settings.service} knows {', '.join(known)}: say with --category which one the parts are.")


def _settings() -> Settings:
    parser = argparse.ArgumentParser(
        "python -m serving.station", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where pictures are dropped")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--category", help="of pictures that no PLC triggers (default: the one that the service knows)")
    parser.add_argument(
        "--product", action="append", default=[], metavar="N=CATEGORY", help="of a PLC's product number; repeat it"
    )
    parser.add_argument(
        "--modbus",
        nargs="?",
        const=MODBUS,
        metavar="HOST:PORT",
        help=f"a Modbus/TCP server (without a value: {MODBUS})",
    )
    parser.add_argument(
        "--opcua", nargs="?", const=OPCUA, metavar="URL", help=f"an OPC-UA server (without a value: {OPCUA})"
    )
    parser.add_argument(
        "--camera", metavar="PIPELINE", help='of GStreamer, up to what brings frames: "v4l2src device=/dev/video0"'
    )
    parser.add_argument(
        "--fired",
        action="store_true",
        help="the PLC fires the camera, at Busy; else it runs freely, and older frames pass",
    )
    parser.add_argument(
        "--interval", type=float, help="seconds between pictures of the camera, where no PLC triggers them (default: 1)"
    )
    parser.add_argument(
        "--patience", type=float, default=10, help="seconds from a trigger until it is an Error (default: %(default)g)"
    )
    given = parser.parse_args()
    modbus: Address | None = modbus_address(given.modbus) if given.modbus is not None else None
    opcua: Address | None = opcua_address(given.opcua) if given.opcua is not None else None
    service = given.service.rstrip("/")
    camera = pipeline(given.camera) if given.camera is not None else None
    return Settings(
        given.folder,
        service,
        given.category,
        products(given.product),
        modbus,
        opcua,
        given.patience,
        camera,
        given.fired,
        given.interval,
    )


if __name__ == "__main__":
    main()
