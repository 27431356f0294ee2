"""A team's registry for real: deploy/registry.py on PostgreSQL and S3, two users, a webhook that tells the service."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from inpformer.encoders.encoder import Encoder
from inpformer.judging.detector import Detector
from inpformer.judging.learnt import ALL
from pipelines.platform.registry import Evidence, register
from pipelines.platform.runs import Run
from serving.webhook import LARGEST_BODY, PATH, SECRET_VARIABLE
from tests.conftest import INP_FORMER, MULTI, OWN, limits, untrained
from tests.s3_server import S3Server, free_ports
from tests.serving.model_store import DEADLINE, eventually

ROOT = Path(__file__).resolve().parents[2]
NAME = "inpformer"
ADMIN, PASSWORD = ("admin", "the admin's password"), "a password of somebody"
SECRET = "what MLflow and the service share"
EVENTS = ["model_version_alias.created"]

if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin"))):
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)


@dataclass
class Team:
    """The registry at `uri`, which keeps all that it has in `folder`, and its bucket."""

    folder: Path
    port: int
    s3: S3Server
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        command = [sys.executable, str(ROOT / "deploy/registry.py"), "--folder", str(self.folder / "registry")]
        with (self.folder / "out").open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--artifacts=s3://team/mlflow", f"--port={self.port}"],
                env={**os.environ, **self.s3.environment, **environment},
                stdout=out,
                stderr=out,
            )
        eventually(lambda: "MLflow is at" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        return (self.folder / "out").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def admin(self, path: str, **values: str) -> None:
        """A request of the admin's, as docs/promotion.md has it."""
        httpx.post(f"{self.uri}/api/{path}", json=values, auth=ADMIN, timeout=60).raise_for_status()

    def grant(self, who: str, kind: str, which: str) -> None:
        """Lets somebody change an experiment or a model."""
        where = {"resource_type": kind, "resource_id": which, "permission": "EDIT"}
        self.admin("3.0/mlflow/users/permissions/grant", username=who, **where)

    def user(self, name: str | None) -> dict[str, str]:
        """The environment of somebody's commands, of nobody's for None."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
        if name is not None:
            environment |= {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        return environment | {"MLFLOW_TRACKING_URI": self.uri, "PYTHONPATH": str(ROOT)}

    def run(self, who: str | None, *command: str, expected: int = 0) -> str:
        """A command of that user in a folder with params.yaml; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder / "work",
            env=self.user(who),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def team(s3_server: S3Server) -> Iterator[Team]:
    """Users ana and ben, who may change the model that ana registers."""
    # Not pytest's own folder: PostgreSQL runs as another user, who may not look into that.
    folder = Path(tempfile.mkdtemp(prefix="inpformer-team-"))
    folder.chmod(0o755)
    s3_server.client().create_bucket(Bucket="team")
    (folder / "work").mkdir()
    shutil.copy(ROOT / "params.yaml", folder / "work")
    (port,) = free_ports(1)
    made = Team(folder, port, s3_server)
    made.start(MLFLOW_AUTH_ADMIN_PASSWORD=ADMIN[1])
    try:
        yield made
    finally:
        status = made.stop()
        shutil.rmtree(folder)
    assert status == 0


@pytest.fixture
def as_ana(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is ana's."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in team.user("ana").items():
        monkeypatch.setenv(name, value)


def registered(team: Team, encoder: Encoder, number: int) -> str:
    """A version of ana's."""
    folder = team.folder / f"detector-{number}"
    models = {ALL: untrained(encoder, number)}
    Detector(encoder, INP_FORMER, OWN, models, MULTI, {"nut": limits(0.0)}).save(folder)
    return register(Run.open(f"key {number}", "a run", {}, {}), folder, NAME, Evidence())


def admin(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])


def test_a_team_promotes_with_names_and_the_service_hears_of_it(
    team: Team, encoder: Encoder, as_ana: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ana", "ben"):
        team.admin("2.0/mlflow/users/create", username=name, password=PASSWORD)
    assert registered(team, encoder, 1) == "1"
    kept = team.s3.client().list_objects_v2(Bucket="team", Prefix="mlflow/")["Contents"]
    assert any(one["Key"].endswith("artifacts/detector/model.safetensors") for one in kept)
    # Nobody's and a mere reader's commands change nothing, and say why.
    for who in (None, "ben"):
        said = team.run(who, "pipelines.promote", "--force", "I may not", expected=1)
        assert said.strip().splitlines()[-1].startswith("error: MLflow at")
        assert MlflowClient(team.uri).get_registered_model(NAME).aliases == {"challenger": "1"}
    team.run("ana", "pipelines.promote", "--force", "the first")
    with monkeypatch.context() as patch:
        admin(team, patch)
        for experiment in MlflowClient(team.uri).search_experiments():
            team.grant("ben", "experiment", experiment.experiment_id)
        for model in MlflowClient(team.uri).search_registered_models():
            team.grant("ben", "registered_model", model.name)
    (port,) = free_ports(1)
    log = tmp_path / "service"
    with log.open("w") as out:
        service = subprocess.Popen(
            [sys.executable, "-m", "serving", "--port", str(port), "--poll-seconds=3600"],
            cwd=ROOT,
            env={**team.user("ben"), SECRET_VARIABLE: SECRET},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        eventually(lambda: "serving" in log.read_text() or service.poll() is not None)
        assert service.poll() is None, log.read_text()
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/healthz").json()["model_version"] == 1
        assert httpx.post(f"{address}{PATH}", content=b"{}").status_code == 401
        assert httpx.post(f"{address}{PATH}", content=bytes(LARGEST_BODY + 1)).status_code == 413
        with monkeypatch.context() as patch:
            admin(team, patch)
            MlflowClient(team.uri).create_webhook("service", f"{address}{PATH}", EVENTS, secret=SECRET)
        assert registered(team, encoder, 2) == "2"
        team.run("ben", "pipelines.promote", "--force", "a better one")
        eventually(lambda: httpx.get(f"{address}/healthz").json()["model_version"] == 2)
    finally:
        os.killpg(service.pid, signal.SIGINT)
        service.wait(timeout=DEADLINE)
    assert SECRET not in log.read_text()
    team.run("ana", "pipelines.audit", "export", str(tmp_path / "record.jsonl"))
    entries = [json.loads(line)["entry"] for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    forced = [(entry["actor"], entry["version"]) for entry in entries if entry["kind"] == "forced"]
    assert forced == [("ana", "1"), ("ben", "2")]


def test_killed_at_once_it_goes_on_with_all_that_it_had(team: Team, as_ana: None) -> None:
    """Runs after the other. The servers outlive the program that started them, and are ended by its next start."""
    before = MlflowClient(team.uri).get_registered_model(NAME).aliases
    assert team.process is not None
    team.process.kill()
    team.process.wait()
    assert httpx.get(f"{team.uri}/health").status_code == 200  # MLflow outlives it too
    team.start()  # without the password, which users.ini does not hold
    assert MlflowClient(team.uri).get_registered_model(NAME).aliases == before
    for secret in ("secrets.json", "users.ini"):
        assert (team.folder / "registry" / secret).stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({}, [], "MLFLOW_AUTH_ADMIN_PASSWORD"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, [], "12 characters"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "long enough, I think"}, ["--port=0"], "--port"),
        ({"PATH": "/nowhere", "MLFLOW_AUTH_ADMIN_PASSWORD": "long enough, I think"}, ["--folder=/proc/x"], "/proc/x"),
    ],
)
def test_what_keeps_it_from_starting_is_a_sentence(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], said: str
) -> None:
    command = [sys.executable, str(ROOT / "deploy/registry.py"), f"--folder={tmp_path / 'r'}", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "MLFLOW_AUTH_ADMIN_PASSWORD"}
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
