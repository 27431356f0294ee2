"""The files of deploy/: KubeRay's fields, secrets only by reference, one version of Ray, and a service that deploys."""

import copy
import inspect
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.configprovider
import botocore.credentials
import httpx
import mlflow.environment_variables
import pytest
import yaml
from jsonschema import Draft202012Validator
from ray.dashboard.modules.job import job_supervisor
from ray.serve._private import constants as serve_constants

from inpformer.encoders.encoder import Encoder
from serving.app import STOPPING
from serving.settings import default_keep
from tests.ray_head import RayHead
from tests.serving.model_store import ModelStore, eventually, free_port
from tests.serving.pictures import as_file, picture

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("raycluster", "rayjob", "rayservice")
SCHEMA = Draft202012Validator(json.loads((ROOT / "tests/platform/kuberay_schema.json").read_text()))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / f"deploy/{name}.yaml").read_text())


def cluster(document: Any) -> dict[str, Any]:
    """The Ray cluster that a RayCluster, RayJob or RayService describes."""
    spec = document["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return found


def containers(document: Any) -> list[dict[str, Any]]:
    groups = [cluster(document)["headGroupSpec"], *cluster(document)["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def mistakes(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in SCHEMA.iter_errors(document)]


@pytest.mark.parametrize("name", KINDS)
def test_kuberay_knows_every_field(name: str) -> None:
    assert mistakes(read(name)) == []


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("raycluster", lambda d: d["spec"].update(workerGroups=[])),
        ("raycluster", lambda d: d["spec"]["workerGroupSpecs"][0].pop("maxReplicas")),
        ("raycluster", lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0})),
        ("raycluster", lambda d: d["spec"]["authOptions"].update(mode="password")),
        ("rayjob", lambda d: d["spec"].update(entrypointNumCpus="4")),
        ("rayservice", lambda d: d["spec"].update(serveConfigV2={})),
        ("rayservice", lambda d: containers(d)[1]["env"][0].update(valueFrom={"secretRef": {"name": "s3"}})),
    ],
)
def test_a_wrong_field_is_refused(name: str, break_it: Callable[[Any], None]) -> None:
    document = copy.deepcopy(read(name))
    break_it(document)
    assert mistakes(document) != []


@pytest.mark.parametrize("name", KINDS)
def test_secrets_are_references_and_access_takes_a_token(name: str) -> None:
    for container in containers(read(name)):
        assert all(set(variable) == {"name", "valueFrom"} for variable in container["env"])
    spec = cluster(read(name))
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    if "gcsFaultToleranceOptions" in spec:
        assert set(spec["gcsFaultToleranceOptions"]["redisPassword"]) == {"valueFrom"}
    secret = re.compile(r"KEY|SECRET|PASSWORD|TOKEN")
    assert not [key for key in read("config")["data"] if secret.search(key)]


@pytest.mark.parametrize("name", KINDS)
def test_resources_are_guaranteed_and_the_head_does_no_work(name: str) -> None:
    document = read(name)
    assert all(c["resources"]["requests"] == c["resources"]["limits"] for c in containers(document))
    assert cluster(document)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    head, worker = containers(document)
    assert {8265, 6379} <= {port["containerPort"] for port in head["ports"]}
    assert ("nvidia.com/gpu" in worker["resources"]["limits"]) == (name != "rayservice")
    (group,) = cluster(document)["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]


@pytest.mark.parametrize("name", KINDS)
def test_one_image_with_the_locked_ray(name: str) -> None:
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    version = locked[1]
    (image,) = {container["image"] for container in containers(read(name))}
    assert image.endswith(f"-ray{version}")
    assert image in (ROOT / "deploy/Dockerfile").read_text()
    assert cluster(read(name))["rayVersion"] == version


def test_the_image_of_a_line_is_a_target_of_the_dockerfile_and_keeps_where_the_service_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("INPFORMER_KEEP", raising=False)
    service = read("line")["services"]["inspector"]
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert f"--target line -t {service['image']} ." in dockerfile
    line = dockerfile.split("FROM project AS line")[1].split("FROM")[0]
    (command,) = re.findall(r"^CMD (.*)$", line, re.MULTILINE)
    assert json.loads(command)[:3] == ["python", "-m", "serving"]
    (folder,) = [volume.partition(":")[2] for volume in service["volumes"]]
    assert f"RUN install --directory {folder}" in line
    assert default_keep() == folder.replace("/home/ray", "~")
    assert float(service["stop_grace_period"].removesuffix("s")) > STOPPING["graceful_shutdown_timeout_s"]
    (ports,) = service["ports"]
    assert ports.startswith("127.0.0.1:")


def test_every_variable_is_one_that_is_read() -> None:
    readers = (
        *(botocore.configprovider, botocore.credentials, mlflow.environment_variables),
        *(job_supervisor, serve_constants),
    )
    source = "".join(inspect.getsource(module) for module in readers)
    used = {variable["name"] for name in KINDS for c in containers(read(name)) for variable in c["env"]}
    used |= set(read("config")["data"]) | set(read("line")["services"]["inspector"]["environment"])
    assert {"AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI", "RAY_JOB_STOP_WAIT_TIME_S"} <= used
    assert [name for name in used if not re.search(rf"""['"]{name}['"]""", source)] == []


def test_the_service_of_kubernetes_is_the_one_of_serve_deploy() -> None:
    assert yaml.safe_load(read("rayservice")["spec"]["serveConfigV2"]) == read("serve")


@pytest.fixture
def config(ray_head: RayHead, encoder: Encoder, tmp_path: Path, empty: Path) -> Iterator[dict[str, Any]]:
    """deploy/serve.yaml as it stands but for a port, fewer CPUs, and a registry with a tiny champion."""
    ModelStore(ray_head.folder.parent, encoder).create(empty).publish()
    values: dict[str, Any] = read("serve")
    values["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    values["applications"][0]["args"]["cpus"] = 1
    yield values
    token = {"Authorization": f"Bearer {Path(ray_head.client['RAY_AUTH_TOKEN_PATH']).read_text()}"}
    httpx.delete(f"{ray_head.jobs}/api/serve/applications/", headers=token, timeout=60).raise_for_status()


def test_serve_deploy_serves_the_champion(ray_head: RayHead, config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    deploy = ["serve", "deploy", "--address", ray_head.jobs, "serve.yaml"]
    subprocess.run(deploy, cwd=tmp_path, env=ray_head.client, check=True, capture_output=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{config['http_options']['port']}", timeout=60) as client:

        def healthy() -> bool:
            try:
                return client.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(healthy)
        answer = client.post("/v1/predict?category=nut", content=as_file(picture())).json()
    assert (answer["decision"], answer["model_version"]) == ("FAIL", 1)


def test_the_registry_takes_its_secrets_by_reference() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy/registry.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Service", "StatefulSet", "Service", "Deployment"]
    known = {name.lstrip("_") for name in dir(mlflow.environment_variables)}
    known |= {"MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_BACKEND_STORE_URI"}
    for document in (documents[1], documents[3]):
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"] == labels
        for container in document["spec"]["template"]["spec"]["containers"]:
            for variable in container["env"]:
                name = variable["name"]
                assert not name.startswith("MLFLOW_") or name in known
                if re.search("PASSWORD|SECRET|KEY|URI", name):
                    assert list(variable["valueFrom"]) == ["secretKeyRef"]
    config = read("config")["data"]
    assert "AWS_ENDPOINT_URL" in config
