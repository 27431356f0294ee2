"""What a driver hears of a RAY_ADDRESS that cannot be used, and that our code travels to a cluster that lacks it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from inpformer.errors import UserError
from pipelines.platform.ray_address import check, explained, runtime_env
from tests.ray_head import RayHead

ROOT = Path(__file__).resolve().parents[2]
CONNECT = """
import sys
import ray
{before}
from inpformer.errors import UserError
from pipelines.platform.cluster import cluster
try:
    with cluster():
        {inside}
except UserError as error:
    sys.exit(str(error))
"""
TRAVELLED = """
        import shutil
        shutil.rmtree("pipelines"), shutil.rmtree("inpformer")
        @ray.remote
        def task():
            import os
            from pipelines import marker
            return marker.VALUE, marker.__file__, os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_SECRET_ACCESS_KEY"]
        print(*ray.get(task.remote()))
"""


def connect(
    address: str, folder: Path, environment: Mapping[str, str], before: str = "", inside: str = "pass"
) -> tuple[int, str]:
    """Exit code and last line of a driver that runs in `folder` and uses `cluster()`."""
    for package in ("inpformer", "pipelines"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pipelines/marker.py").write_text("VALUE = 'travelled'\n")
    done = subprocess.run(
        [sys.executable, "-c", CONNECT.format(before=before, inside=inside)],
        cwd=folder,
        env={**environment, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


def test_code_and_s3_address_travel_and_keys_do_not(ray_head: RayHead, tmp_path: Path) -> None:
    # The driver's own copy is removed before a worker looks for it, as if the worker were on another machine.
    endpoint = {"AWS_ENDPOINT_URL": "http://s3.example.internal", "AWS_SECRET_ACCESS_KEY": "drivers"}
    code, line = connect(ray_head.address, tmp_path, ray_head.client | endpoint, inside=TRAVELLED)
    assert code == 0, line
    value, file, url, key = line.split()
    assert (value, url) == ("travelled", endpoint["AWS_ENDPOINT_URL"])
    assert key != "drivers"  # the node's own
    assert "/runtime_resources/py_modules_files/" in file


def test_another_version_of_ray_is_named(ray_head: RayHead, tmp_path: Path) -> None:
    code, line = connect(ray_head.address, tmp_path, ray_head.client, before="ray.__version__ = '2.59.1'")
    assert code == 1
    assert line.startswith(f"Ray at {ray_head.address} has other versions (")
    assert "2.60.0" in line
    assert "2.59.1" in line


@pytest.mark.parametrize("started_by", ["ray start", "ray.init"])
def test_a_wrong_token_is_named(started_by: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # What the pipeline starts by itself wants a token too, without being told to.
    address = request.getfixturevalue("ray_head").address if started_by == "ray start" else None
    address = address or request.getfixturevalue("ray_cluster")
    (tmp_path / "token").write_text("wrong")
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    # Ray tries 20 times.
    code, line = connect(address, tmp_path, {**os.environ, **wrong, "RAY_NUM_REDIS_GET_RETRIES": "2"})
    assert code == 1
    assert "does not let this process in" in line
    assert "RAY_AUTH_TOKEN_PATH" in line


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://head:8265", "takes jobs, not drivers"),
        ("ray://head:10001", "Ray Client cannot train"),
        ("127.0.0.1:9", "no Ray answers"),
        ("head", "no Ray answers"),
    ],
)
def test_an_address_that_is_none_for_a_driver(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(address)


def test_a_machine_outside_of_the_cluster() -> None:
    error = ConnectionError("Failed to connect to Ray cluster at head:6379")
    error.__cause__ = RuntimeError("No node info found matching attributes: ''")  # what ray.init raises there
    assert "does not belong to the Ray cluster at head:6379" in str(explained("head:6379", error))


def test_a_job_brings_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert runtime_env()["env_vars"].get("AWS_DEFAULT_REGION") == "eu-west-1"
    assert [Path(package).name for package in runtime_env()["py_modules"]] == ["pipelines", "inpformer"]
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert runtime_env() == {}
