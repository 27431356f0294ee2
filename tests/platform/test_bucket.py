"""The feature store in S3: what a folder does, and what a server far away adds: keys, outages, a cache."""

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.features.objects import Range
from inpformer.features.view_table import Views
from pipelines.features.index import FeatureIndex, compute_features
from pipelines.features.settings import FeatureSettings
from pipelines.manifest.table import Manifest
from pipelines.platform.bucket import Bucket, cache_folder, open_objects
from pipelines.training.features import training_features
from tests.relay import relay
from tests.s3_server import S3Server


@pytest.fixture(autouse=True)
def server(s3_here: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return s3_here


@pytest.fixture
def settings(encoder: Encoder) -> FeatureSettings:
    return FeatureSettings(encoder.settings, store=f"s3://tests/{uuid4().hex}/features", cache_gigabytes=1)


def stored(settings: FeatureSettings, index: FeatureIndex) -> Views:
    return training_features(settings, index).open()


def rows(views: Views, split: str = "train") -> torch.Tensor:
    """All levels of a split's views side by side."""
    return torch.cat([level.flatten(1) for level in views.read(split, range(views.count(split)))], dim=1)


def everything(views: Views) -> torch.Tensor:
    return torch.cat([rows(views, split) for split in ("train", "val")])


def objects(server: S3Server, settings: FeatureSettings) -> list[str]:
    prefix = settings.store.removeprefix("s3://tests/")
    return [e["Key"] for e in server.client().list_objects_v2(Bucket="tests", Prefix=prefix).get("Contents", [])]


def test_a_bucket_holds_what_a_folder_holds(
    server: S3Server, manifest: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    here = replace(settings, store=str(tmp_path / "store"))
    index = compute_features(manifest, encoder, settings)
    assert compute_features(manifest, encoder, here) == index
    names = [key.removeprefix(f"{settings.store.removeprefix('s3://tests/')}/") for key in objects(server, settings)]
    assert names == sorted(p.relative_to(here.store).as_posix() for p in Path(here.store).rglob("*") if p.is_file())
    views = stored(settings, index)
    views.refuse_missing()
    assert torch.equal(rows(views), rows(stored(here, index)))


def test_a_second_run_encodes_nothing_and_a_lost_shard_is_computed_again(
    server: S3Server, manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    index = compute_features(manifest, encoder, settings)
    before = objects(server, settings)
    assert compute_features(manifest, encoder, settings) == index
    assert objects(server, settings) == before
    (shard,) = (key for key in before if "/tables/" not in key)
    views = stored(settings, index)
    server.client().delete_object(Bucket="tests", Key=shard)
    with pytest.raises(UserError, match=r"feature shard s3://tests/.* is missing or cut off"):
        views.refuse_missing()
    assert compute_features(manifest, encoder, settings) == index
    assert objects(server, settings) == before


def test_a_row_is_fetched_once_as_long_as_the_cache_has_room(
    server: S3Server, manifest: Manifest, settings: FeatureSettings, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = compute_features(manifest, encoder, settings)
    with relay(server.endpoint) as counted:
        monkeypatch.setenv("AWS_ENDPOINT_URL", counted.endpoint)
        first = rows(stored(settings, index))
        assert counted.passed > first.nbytes
        before = counted.passed
        views = stored(settings, index)  # as another process would
        assert torch.equal(rows(views), first)
        assert counted.passed - before < 10_000  # the table alone
        before = counted.passed
        shutil.rmtree(cache_folder("features"))
        assert torch.equal(rows(stored(replace(settings, cache_gigabytes=0), index)), first)
        assert counted.passed - before > first.nbytes
        assert not cache_folder("features").exists()


def test_a_damaged_row_does_not_stay_in_the_cache(
    server: S3Server, manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    index = compute_features(manifest, encoder, settings)
    (shard,) = (key for key in objects(server, settings) if "/tables/" not in key)
    whole = server.client().get_object(Bucket="tests", Key=shard)["Body"].read()
    server.client().put_object(Bucket="tests", Key=shard, Body=whole[:-1] + bytes([whole[-1] ^ 1]))
    views = stored(settings, index)
    with pytest.raises(UserError, match="is damaged: remove it if it is there and compute"):
        everything(views)
    server.client().put_object(Bucket="tests", Key=shard, Body=whole)
    assert len(everything(views)) == 12


def test_the_server_may_be_away_for_twenty_seconds(
    server: S3Server, manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    index = compute_features(manifest, encoder, settings)
    views = stored(settings, index)
    server.kill()
    back = threading.Timer(20, server.start)
    back.start()
    try:
        away = rows(views)
    finally:
        back.join()
    assert torch.equal(away, rows(stored(replace(settings, cache_gigabytes=0), index)))


def test_a_broken_answer_is_asked_for_again(
    server: S3Server, settings: FeatureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(4 << 20)
    open_objects(settings.store, 0).write("one", content)
    with relay(server.endpoint, limit=1 << 20) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.endpoint)
        reader = open_objects(settings.store, 0)

        def break_once() -> None:
            broken.held.wait()
            broken.break_connections()

        thread = threading.Thread(target=break_once)
        thread.start()
        assert reader.read_ranges([Range("one", 0, len(content))]) == [content]
        thread.join()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "does not accept the keys for s3://tests/.*: check AWS_ACCESS_KEY_ID"),
        ({"store": "s3://nowhere/features"}, "there is no bucket nowhere at http://127.0.0.1"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "S3 cannot be used .*: check AWS_ENDPOINT_URL"),
    ],
)
def test_what_is_wrong_with_the_store_is_one_sentence(
    manifest: Manifest,
    settings: FeatureSettings,
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    says: str,
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    store = change.get("store", settings.store)
    with pytest.raises(UserError, match=says):
        compute_features(manifest, encoder, replace(settings, store=store))


def test_a_store_is_a_folder_or_a_bucket() -> None:
    assert isinstance(open_objects("s3://b/prefix/", 1), Bucket)
    assert open_objects("s3://b/prefix/", 1).address == "s3://b/prefix"
    with pytest.raises(UserError, match="store is 'gs://b': it must be a folder or s3://bucket/prefix"):
        FeatureSettings(store="gs://b")
