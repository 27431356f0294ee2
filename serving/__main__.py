"""Serves the model on this machine until Ctrl-C: `python -m serving [--port 8000] [--model inpformer] ...`.

Uses the Ray cluster that RAY_ADDRESS names, or starts one of its own and stops it again.
"""

import argparse
import io
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from inpformer.backends.names import BACKENDS, PRECISIONS
from inpformer.errors import UserError
from serving.certificate import check_certificate
from serving.port import check_free

if TYPE_CHECKING:
    from serving.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own metrics would be open to everybody on all interfaces; ours are at /metrics. No port: not served.
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
    # Ray's own 15 would have the service wait for whatever else the machine does.
    "RAY_worker_niceness": "0",
    # On a busy machine Serve would end its own proxy before that has started.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.proxy:set_up",
    # How long one that was killed stays unnoticed.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
}
REQUEST_SECONDS = 90.0  # later than our own refusals, as Serve's are not in JSON


def main() -> None:
    """Exits 1 with one sentence if the service cannot start, 0 after Ctrl-C or SIGTERM."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        arguments = _arguments()
        check_free(arguments.host, arguments.port)
        settings = _settings(arguments)
        secured = _secured(arguments)
        _check_keys(settings)
        _check_cluster(os.environ.get("RAY_ADDRESS") or "local")
        version = _check_model(settings)
        _serve(settings, version, {"host": arguments.host, "port": arguments.port, **secured})
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m serving", description="Serves a registered model over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--model", help="name in the registry (default: inpformer)")
    parser.add_argument("--alias", help="which version of it (default: champion)")
    parser.add_argument("--tracking-uri", help="the registry (default: MLFLOW_TRACKING_URI, or ./mlflow.db)")
    parser.add_argument("--poll-seconds", type=float, help="time between looks at the alias (default: 5)")
    parser.add_argument("--max-upload-mb", type=float, help="largest upload (default: 16)")
    parser.add_argument("--encoder-weights", help="the encoder's .safetensors file, if it moved since the training")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="who computes (default: on a CPU the version's export, where it has one; else torch)",
    )
    parser.add_argument(
        "--precision", type=int, choices=PRECISIONS, help="bits of the version's export, on a CPU (default: 32)"
    )
    parser.add_argument(
        "--keep",
        help="folder to keep the latest version in, for a start without the registry "
        "(default: INPFORMER_KEEP, or ~/.cache/inpformer)",
    )
    parser.add_argument("--verify-key", help="load only what this public key (PEM) verifies (or INPFORMER_VERIFY_KEY)")
    parser.add_argument("--keys", help="file of clients' keys, see `python -m serving.keyring` (or INPFORMER_KEYS)")
    parser.add_argument("--certificate", help="PEM file of the server's certificate and those above it: then HTTPS")
    parser.add_argument("--private-key", help="PEM file of its private key, without a password")
    return parser.parse_args()


def _check_cluster(address: str) -> None:
    """Ray itself would try an address where nothing listens for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:  # "local" and "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS is {address}, where no Ray answers ({error}): correct or unset it.") from None


def _settings(arguments: argparse.Namespace) -> "Settings":
    # Imported only now, as --help needs neither.
    from pydantic import ValidationError

    from serving.settings import Settings

    files = ("encoder_weights", "verify_key", "keep", "keys")
    options = ("model", "alias", "tracking_uri", "poll_seconds", "max_upload_mb", "backend", "precision", *files)
    given = {name: getattr(arguments, name) for name in options if getattr(arguments, name) is not None}
    # Absolute: replicas run elsewhere.
    given |= {name: str(Path(given[name]).absolute()) for name in ("verify_key", "keys") if given.get(name)}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option} is {first['input']!r}: {first['msg'].lower()}.") from None


def _secured(arguments: argparse.Namespace) -> dict[str, str]:
    """What Serve is told of HTTPS."""
    certificate, key = arguments.certificate, arguments.private_key
    check_certificate(certificate, key)
    if certificate is None or key is None:
        return {}
    # Absolute: Serve's proxy runs elsewhere.
    return {"ssl_certfile": str(Path(certificate).absolute()), "ssl_keyfile": str(Path(key).absolute())}


def _check_keys(settings: "Settings") -> None:
    from serving.keys import read_keys

    if settings.keys:
        read_keys(Path(settings.keys))


def _check_model(settings: "Settings") -> int:
    """Loads the model once, before Ray starts, as what is wrong with it can still be said in one sentence; the version
    of it.
    """
    # Imported only now, as --help does not need it.
    from serving.check import in_a_process

    checked = in_a_process(settings)
    if checked.error:
        raise UserError(checked.error)
    for notice in checked.notices:
        print(notice, file=sys.stderr)
    return checked.version


def _serve(settings: "Settings", version: int, http: dict[str, Any]) -> None:
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import serve
    from ray.exceptions import RayError

    from serving.app import build

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        with _held_back():
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a node that does not start within Ray's 30 seconds raises just that
        raise UserError(f"Ray at {address} cannot be used ({error}): check RAY_ADDRESS, or try again.") from None
    try:
        if serve.status().proxies:
            raise UserError(f"Serve already runs on {address}: deploy there with `serve deploy deploy/serve.yaml`.")
        if address == "local":
            # The whole machine is ours: the model gets what the HTTP side can spare, and a GPU if there is one.
            has = ray.cluster_resources()
            cpus, gpus = max(1, int(has["CPU"]) - 1), min(1.0, has.get("GPU", 0.0))
            settings = settings.model_copy(update={"cpus": cpus, "gpus": gpus})
        try:
            serve.start(http_options={**http, "request_timeout_s": REQUEST_SECONDS})
            serve.run(build(settings), name=settings.model)
            scheme = "https" if "ssl_certfile" in http else "http"
            print(f"serving {settings.model} version {version} at {scheme}://{http['host']}:{http['port']}", flush=True)
            try:
                while True:
                    signal.pause()
            finally:
                _drain(settings.model)
        except (RuntimeError, TimeoutError, RayError) as error:  # although the same model loaded in this process
            first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
            raise UserError(f"the application did not start ({first}): if this machine is busy, try again.") from None
        finally:
            # Ray reports the controller's end, which is wanted, as a failed task on stdout.
            with redirect_stdout(io.StringIO()):
                serve.shutdown()
    finally:
        with redirect_stdout(io.StringIO()):
            ray.shutdown()


def _drain(name: str) -> None:
    """Waits for the answers that are under way: Serve's end would cut them off."""
    from ray import serve

    from serving.answers import LATEST_DEADLINE_MS

    with suppress(Exception):  # of processes that died: there is nothing to wait for
        handle = serve.get_deployment_handle("Ingress", name)
        handle.broadcast("drain").results(timeout_s=LATEST_DEADLINE_MS / 1000 + 5)
        handle.shutdown()  # else it would go on listening to a controller that ends


def _interrupt(number: int, frame: FrameType | None) -> None:
    """One Ctrl-C is enough, and a second one must not break the cleaning up after the first."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _held_back() -> Iterator[None]:
    """Lets Ray start its processes to the end: one that is interrupted half way leaves some behind."""
    came: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        # Ray puts a SIGTERM handler of its own in place, which would end this process before Serve is shut down.
        for number in SIGNALS:
            signal.signal(number, _interrupt)
    if came:
        raise KeyboardInterrupt


if __name__ == "__main__":
    main()
