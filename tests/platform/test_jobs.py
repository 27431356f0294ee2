"""`ray job submit` as its user sees it: a real head, the command line, data and results in a DVC remote on S3."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.ray_head import RayHead
from tests.s3_server import S3Server
from tests.test_pipeline import Checkout

SECRET_OR_HEAVY = (".git", ".venv", ".features", ".runs", "artifacts", "mlruns", "mlartifacts", "reports", "tests")


class Jobs:
    """A checkout whose jobs go to `head`."""

    def __init__(self, checkout: Checkout, head: RayHead, s3: S3Server) -> None:
        self.checkout, self.head, self._s3 = checkout, head, s3

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """`ray job submit` of a command, in the checkout."""
        return subprocess.Popen(
            ["ray", "job", "submit", "--address", self.head.jobs, "--working-dir", ".", "--", *command],
            cwd=self.checkout.folder,
            env=self.head.client,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, command: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of `ray job submit`, waited for."""
        process = self.start(command)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def dvc(self, *arguments: str) -> str:
        """A DVC command in the checkout, by a user who has S3's keys."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._s3.environment.items():
                patch.setenv(name, value)
            return self.checkout.run(["dvc", *arguments])

    def packages(self) -> list[Path]:
        """The working directories that arrived, the newest last."""
        found = self.head.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
        return sorted((path for path in found if path.is_dir()), key=lambda path: path.stat().st_ctime)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, ray_head: RayHead, s3_server: S3Server) -> Jobs:
    """A checkout with its data in the DVC remote, checkpoints and features in folders that jobs share."""
    shared = tmp_path_factory.mktemp("shared")
    checkout = Checkout(tmp_path_factory.mktemp("jobs"))
    checkout.set(
        {
            "manifest": {"data": "data/mine"},
            "features": {"store": str(shared / "features")},
            "train": {"inp_former": {"epochs": 20}, "storage": str(shared / "runs")},
        }
    )
    checkout.run(["python", "-m", "demo.data", "--out", "data/mine"])
    made = Jobs(checkout, ray_head, s3_server)
    made.dvc("add", "data/mine")
    made.dvc("remote", "add", "--default", "store", "s3://tests/jobs")
    made.dvc("push")
    return made


def test_a_stage_runs_on_the_cluster_and_its_result_comes_back(jobs: Jobs) -> None:
    folder = jobs.checkout.folder
    for name in SECRET_OR_HEAVY:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "heavy").write_bytes(bytes(1000))
    (folder / ".dvc/config.local").write_text("['remote \"other\"']\n    url = s3://other\n    access_key_id = mine\n")
    code, output = jobs.submit(["python", "-m", "pipelines.job", "manifest"])
    assert code == 0, output
    assert "board        10    2          2               4      4  " in output
    (package,) = jobs.packages()
    arrived = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    tracked = set(jobs.checkout.run(["git", "ls-files"]).splitlines())
    made_there = re.compile(
        r"artifacts/manifest.parquet|data/mine/|data/\.gitignore|artifacts/\.gitignore|dvc.lock|\.dvc/|.*__pycache__/"
    )
    assert {name for name in arrived - tracked if not made_there.match(name)} == {"data/mine.dvc"}
    assert {"dvc.yaml", "params.yaml", "pipelines/job.py", "serving/page.html", ".dvc/config"} <= arrived
    assert not any(name.startswith(("tests/", ".git/", "mlruns/")) or name.endswith("heavy") for name in arrived)
    assert "mine" not in (package / ".dvc/config.local").read_text()
    assert "Stage 'manifest' is cached - skipping run" in jobs.dvc("repro", "--pull", "manifest")


def test_a_refusal_is_one_sentence_and_exit_code_1(jobs: Jobs) -> None:
    code, output = jobs.submit(
        ["python", "-m", "pipelines.gate", "--manifest", "none", "--report", "r", "--findings", "f", "--linked", "l"]
    )
    assert code == 1
    # Ray repeats the end of the logs after a failure.
    (sentence,) = {line for line in output.splitlines() if line.startswith("error: ")}
    assert "none is not there" in sentence
    assert "Traceback" not in output


def test_a_stopped_training_goes_on_when_submitted_again(jobs: Jobs) -> None:
    command = ["python", "-m", "pipelines.job", "--commit", "0123abc", "train"]
    seen = ""
    with jobs.start(command) as first:
        assert first.stdout
        while "epoch 3/20" not in seen:  # while it runs: the logs come as they are written
            line = first.stdout.readline()
            assert line, seen
            seen += line
        first.send_signal(signal.SIGINT)
    assert first.returncode != 0
    assert "Running stage 'manifest'" not in seen  # an earlier job's result
    (job,) = set(re.findall(r"raysubmit_\w+", seen))
    ray = ["ray", "job", "stop", "--address", jobs.head.jobs, job]
    stopped = subprocess.run(ray, env=jobs.head.client, capture_output=True, text=True, timeout=120, check=True)
    assert "RUNNING" in stopped.stdout + stopped.stderr  # Ctrl-C ended the command alone
    assert f"{job}' was stopped" in stopped.stdout
    # Another package of code, as on another machine: nothing of the first working directory helps.
    (jobs.checkout.folder / "README.md").write_text(f"changed {os.getpid()}")
    code, output = jobs.submit(command)
    assert code == 0, output
    assert re.findall(r"Running stage '(\w+)'", output) == [
        "weights",
        "train",
    ]  # the others were pushed although it was stopped
    epochs = [int(number) for number in re.findall(r"epoch (\d+)/20", output)]
    assert epochs[0] > 3
    assert epochs == list(range(epochs[0], 21))
    client = MlflowClient(f"sqlite:///{jobs.head.folder.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("inpformer").experiment_id])
    assert run.info.status == "FINISHED"
    assert (run.data.tags["git.commit"], run.data.tags["git.dirty"], run.data.tags["ray.job"]) == (
        "0123abc",
        "unknown",
        job,
    )
    locally = jobs.dvc("repro", "--pull", "train")
    assert "Stage 'train' is cached - skipping run" in locally
    assert set(re.findall(r"Running stage '(\w+)'", locally)) <= {"weights"}  # which always looks
