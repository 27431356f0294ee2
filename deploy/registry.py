"""A team's registry on one machine: MLflow with users, on PostgreSQL, its artefacts in S3 or in a folder.

MLFLOW_AUTH_ADMIN_PASSWORD=… python deploy/registry.py --folder registry --artifacts s3://bucket/mlflow

Runs until Ctrl-C; started again on the same folder, it goes on. PostgreSQL listens on loopback alone. What it keeps
secret lies in FOLDER/secrets.json, which only you can read: back it up with the database.
"""

import argparse
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from inpformer.errors import UserError
from serving.port import check_free

ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
SHORTEST_PASSWORD = 12  # MLflow's own
USER = "mlflow"
DATABASES = ("mlflow", "mlflow_auth")
# Of our servers alone, which are known again by it: a user's shell may well have MLflow's own variables.
FOLDER_VARIABLE = "INPFORMER_REGISTRY_FOLDER"
START_SECONDS = 180.0
STOP_SECONDS = 30.0


def main() -> None:
    """Exits 1 with one sentence if it cannot start, 0 after Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("registry"), help="databases, keys and logs (default: registry)"
    )
    parser.add_argument("--artifacts", help="a folder or s3://bucket/prefix (default: FOLDER/artifacts)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(args.folder.resolve(), args.artifacts, args.host, args.port)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def run(folder: Path, artifacts: str | None, host: str, port: int) -> None:
    """Starts both, says where, and stops both at the end. Raises UserError."""
    programs = postgres_programs()
    folder.mkdir(parents=True, exist_ok=True)
    end_left_over(folder)
    check_free(host, port)
    kept = read_secrets(folder / "secrets.json")
    if len(os.environ.get(ADMIN_PASSWORD, "")) < SHORTEST_PASSWORD and not kept.get("has_admin"):
        raise UserError(f"set {ADMIN_PASSWORD} to what user admin is to have, {SHORTEST_PASSWORD} characters or more.")
    with database(programs, folder, kept["postgres"]) as uris:
        environment = settings(folder, kept, uris, artifacts or str(folder / "artifacts"))
        with mlflow_server(folder, environment, host, port):
            write_secret(folder / "secrets.json", json.dumps({**kept, "has_admin": True}))
            print(f"MLflow is at http://{host}:{port}, its user is admin; Ctrl-C stops it", flush=True)
            signal.pause()


def end_left_over(folder: Path) -> None:
    """Ends the servers of an earlier start on this folder, which outlive a kill of this program."""
    mark = f"{FOLDER_VARIABLE}={folder}".encode()
    while any(_end(int(one.name), mark) for one in Path("/proc").glob("[0-9]*")):
        pass  # it may have started another meanwhile


def _end(number: int, mark: bytes) -> bool:
    """Kills a process with that variable and waits until its sockets are closed; whether there was one."""
    try:
        process = os.pidfd_open(number)
    except OSError:  # it has ended
        return False
    try:
        if mark not in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
        # Not its environment, which is gone before its sockets are.
        return bool(select.select([process], [], [], STOP_SECONDS)[0])
    except OSError:  # it has ended, or is somebody else's
        return False
    finally:
        os.close(process)


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs. Raises UserError if it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        raise UserError("PostgreSQL is not installed: install it (in Debian the package postgresql).")
    return places[-1]


def read_secrets(file: Path) -> dict[str, str]:
    """Those of an earlier start, or new ones, which are kept."""
    if file.is_file():
        return dict(json.loads(file.read_text()))
    from cryptography.fernet import Fernet

    made = {
        "postgres": secrets.token_urlsafe(32),
        "sessions": secrets.token_urlsafe(32),
        "webhooks": Fernet.generate_key().decode(),
    }
    write_secret(file, json.dumps(made))
    return made


def write_secret(file: Path, text: str) -> None:
    """Nobody else can read it, at no moment."""
    temporary = file.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
        f.write(text)
    temporary.rename(file)


@contextmanager
def database(programs: Path, folder: Path, password: str) -> Iterator[dict[str, str]]:
    """A PostgreSQL on loopback with DATABASES, which are made if they are not there; yields their addresses."""
    data, log = folder / "postgres", folder / "postgres.log"
    as_user = {"user": "postgres"} if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)  # of a start that was cut off
        data.mkdir(mode=0o700)
        if as_user:
            shutil.chown(data, "postgres")
        password_file = folder / "password"
        write_secret(password_file, password)
        if as_user:
            shutil.chown(password_file, "postgres")
        options = ["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--pwfile", password_file]
        try:
            _do([programs / "initdb", "-D", data, *options], log, **as_user)
        finally:
            password_file.unlink()
    control = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
    if subprocess.run([*control, "status"], capture_output=True, check=False, **as_user).returncode == 0:
        _do([*control, "-m", "fast", "stop"], log, **as_user)  # outlived a kill of this program
    port = free_port()
    where = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=''"
    _do([*control, "-o", where, "start"], log, **as_user)
    try:
        make_databases(port, password)
        yield {name: f"postgresql://{USER}:{password}@127.0.0.1:{port}/{name}" for name in DATABASES}
    finally:
        _do([*control, "-m", "fast", "stop"], log, **as_user)


def _do(command: list[object], log: Path, **options: object) -> None:
    with log.open("ab") as file:
        done = subprocess.run(list(map(str, command)), stdout=file, stderr=file, cwd="/", check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{Path(str(command[0])).name} failed ({last}): see {log}.")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_databases(port: int, password: str) -> None:
    """Those of DATABASES that are not there."""
    import psycopg

    address = {"host": "127.0.0.1", "port": port, "user": USER, "password": password, "dbname": "postgres"}
    with psycopg.connect(**address, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(f'CREATE DATABASE "{name}"')


def settings(folder: Path, kept: Mapping[str, str], uris: Mapping[str, str], artifacts: str) -> dict[str, str]:
    """The environment of MLflow's server; no secret stands in its command line, which everybody on the machine sees."""
    users = folder / "users.ini"
    write_secret(
        users, f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {uris['mlflow_auth']}\nadmin_username = admin\n"
    )
    # The services that webhooks call stand beside the line, at private addresses and mostly without https.
    inside = {"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true", "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http"}
    return {
        **inside,
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uris["mlflow"],
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        FOLDER_VARIABLE: str(folder),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept["sessions"],
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": kept["webhooks"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@contextmanager
def mlflow_server(folder: Path, environment: Mapping[str, str], host: str, port: int) -> Iterator[None]:
    """The server, once it answers."""
    log = folder / "mlflow.log"
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--app-name=basic-auth", "--workers=2"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*command, f"--host={host}", f"--port={port}"],
            env=dict(environment),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://{host}:{port}/health", log)
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    last = (log.read_text(errors="replace").strip().splitlines() or ["no reason given"])[-1]
    raise UserError(f"MLflow does not answer at {address} ({last}): see {log}.")


if __name__ == "__main__":
    main()
