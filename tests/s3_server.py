"""A real S3 server for the tests: SeaweedFS on loopback, with keys made at random, that can be killed and restarted."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_SECONDS = 90
PUBLIC_BUCKETS = ("amazon-visual-anomaly", "public")  # readable without keys
PORTS = tuple(f"-{part}.port{kind}" for part in ("s3", "filer", "master", "volume") for kind in ("", ".grpc"))


class S3Server:
    """One `weed` process over `folder`; address and keys stay the same over `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self._ports = free_ports(len(PORTS))
        self.endpoint = f"http://127.0.0.1:{self._ports[0]}"
        self.log = folder / "weed.log"
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        anonymous = [f"{action}:{bucket}" for bucket in PUBLIC_BUCKETS for action in ("Read", "List")]
        identities = [
            {"name": "tests", "credentials": keys, "actions": ["Admin"]},
            {"name": "anonymous", "actions": anonymous},
        ]
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        self._command = [
            str(Path(sys.executable).with_name("weed")),
            *("server", "-s3", "-filer", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3.iam=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=256", "-volume.preStopSeconds=1"),
            "-master.electionTimeout=1s",  # it would wait 10 s for other masters when it is started again
            "-volume.max=200",  # each bucket takes several, and the default of 8 is one bucket
            *(f"{option}={port}" for option, port in zip(PORTS, self._ports, strict=True)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What boto3, DVC, MLflow and Ray read to find the server and its keys."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def client(self) -> Any:
        """A boto3 client with the server's address and keys, whatever the environment says."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Starts it unless it runs, on the folder as the last process left it, and returns when a write succeeds."""
        if self._process:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self._writes():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no S3 server:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def _writes(self) -> bool:
        client = self.client()
        try:
            if "ready" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return True
        except (BotoCoreError, ClientError):
            return False

    def kill(self) -> None:
        """Ends it at once, as a power cut would, and waits until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            for port in self._ports:
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all open at once so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the whole session, with a bucket for anybody's use, `tests`, and the public ones."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        for bucket in ("tests", *PUBLIC_BUCKETS):
            server.client().create_bucket(Bucket=bucket)
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_here(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, named by the environment alone; a test may kill it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield s3_server
    s3_server.start()
