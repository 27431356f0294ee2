"""One service that the tests of this folder share: real Ray, real MLflow on SQLite, real HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray import serve

from inpformer.encoders.encoder import Encoder
from serving.app import build
from serving.settings import Settings
from tests.serving.keys import keyring
from tests.serving.model_store import ALIAS, DEADLINE, MODEL, ModelStore, free_port


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, empty: Path) -> ModelStore:
    store = ModelStore(tmp_path_factory.mktemp("registry"), encoder).create(empty)
    store.publish()
    return store


@pytest.fixture(scope="package")
def service(ray_cluster: None, store: ModelStore) -> Iterator[httpx.Client]:
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = Settings(model=MODEL, alias=ALIAS, tracking_uri=store.uri, poll_seconds=0.2, max_upload_mb=1)
    serve.run(build(settings), name=MODEL)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
        yield client
    serve.shutdown()


@pytest.fixture(scope="package")
def ring(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys by name, and the file."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = {
        "any": keyring("add", file, "any"),
        "press": keyring("add", file, "press", "--line", "press-2"),
        "slow": keyring("add", file, "slow", "--rate", "0.01"),
    }
    return keys | {"file": str(file)}


@pytest.fixture(scope="package")
def guarded(service: httpx.Client, store: ModelStore, ring: dict[str, str]) -> Iterator[httpx.Client]:
    """The same model, beside the service of the other tests, for who has a key."""
    settings = Settings(model=MODEL, alias=ALIAS, tracking_uri=store.uri, poll_seconds=600, keys=ring["file"])
    serve.run(build(settings), name="guarded", route_prefix="/guarded")
    with httpx.Client(base_url=service.base_url.join("/guarded"), timeout=DEADLINE) as client:
        yield client
    serve.delete("guarded")
