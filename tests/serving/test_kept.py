"""What a service keeps of the registry on its machine, and when that serves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from serving import fetched
from serving.fetched import DETECTOR_FOLDER, Wanted
from serving.kept import FETCHING, LATEST, LOCK, Kept
from serving.loading import load_first
from serving.registry import NotThereError, Registry
from serving.settings import Settings
from tests.serving.model_store import ALIAS, MODEL, ModelStore
from tests.serving.pictures import picture
from tests.serving.test_serving import vit_detector


@pytest.fixture
def store(tmp_path: Path, encoder: Encoder, empty: Path) -> ModelStore:
    store = ModelStore(tmp_path, encoder).create(empty)
    store.publish()
    return store


@pytest.fixture
def settings(store: ModelStore, tmp_path: Path) -> Settings:
    return Settings(model=MODEL, alias=ALIAS, tracking_uri=store.uri, keep=str(tmp_path / "keep"))


def first(settings: Settings) -> tuple[int, str | None]:
    served, problem = load_first(Registry(settings.tracking_uri), settings, Lock())
    return served.version, problem


def folders(settings: Settings) -> list[str]:
    """In the one place of `settings`."""
    (place,) = Path(settings.keep).iterdir()
    return sorted(each.name for each in place.iterdir() if each.name not in (LATEST, LOCK))


@pytest.fixture(params=["database", "artefacts"])
def registry_gone(request: pytest.FixtureRequest, store: ModelStore, settings: Settings) -> str:
    """Once a version was loaded, the registry does not answer, or not with its artefacts."""
    assert first(settings) == (1, None)
    if request.param == "database":
        Path(store.uri.removeprefix("sqlite:///")).write_bytes(b"no database" * 1000)
    else:
        store.publish()
        shutil.rmtree(store.folder / "artifacts")
    return str(request.param)


def test_the_latest_version_serves_where_the_registry_does_not_answer(
    registry_gone: str, settings: Settings, store: ModelStore
) -> None:
    served, problem = load_first(Registry(settings.tracking_uri), settings, Lock())
    assert (served.version, "Version 1" in (problem or "")) == (1, True)
    np.testing.assert_array_equal(
        served.detector.predict([picture()], ["nut"]).maps, store.detectors[1].predict([picture()], ["nut"]).maps
    )


@pytest.mark.parametrize(
    "options", [{"verify_key": "/no.pem"}, {"backend": "onnxruntime"}, {"keep": "/dev/null/elsewhere"}]
)
def test_it_serves_only_as_it_was_asked_for(registry_gone: str, settings: Settings, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="does not answer" if registry_gone == "database" else "cannot be fetched"):
        first(settings.model_copy(update=options))


def test_a_folder_that_somebody_changed_is_no_version(store: ModelStore, settings: Settings) -> None:
    first(settings)
    (place,) = Path(settings.keep).iterdir()
    (place / LATEST).unlink()
    (place / "mine").mkdir()
    (place / LATEST).symlink_to("mine")
    shutil.rmtree(store.folder / "artifacts")
    with pytest.raises(UserError, match="cannot be fetched"):
        first(settings)


def test_an_alias_that_was_taken_away_is_not_served(store: ModelStore, settings: Settings) -> None:
    first(settings)
    store.client.delete_registered_model_alias(MODEL, ALIAS)
    with pytest.raises(NotThereError):
        first(settings)
    Path(store.uri.removeprefix("sqlite:///")).write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="does not answer"):  # it does not come back by that
        first(settings)


def test_a_broken_new_version_leaves_the_one_before(store: ModelStore, settings: Settings) -> None:
    first(settings)
    broken = store.publish(lambda folder: (folder / "model.safetensors").write_bytes(b""))
    version, problem = first(settings)
    assert (version, f"version {broken}" in (problem or "")) == (1, True)
    assert [name.partition("-")[0] for name in folders(settings)] == ["1"]
    mended = store.publish()
    assert first(settings) == (mended, None)
    assert [name.partition("-")[0] for name in folders(settings)] == [str(mended)]


FETCH = """
import sys, time
from pathlib import Path
from serving.kept import Kept
with Kept(Path(sys.argv[1]), "sqlite:///x", "m", "a").fetching() as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process in the middle of fetching, and the folder that it fetches into."""
    with subprocess.Popen([sys.executable, "-c", FETCH, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_left_is_removed_and_what_one_fetches_now_is_not(
    fetcher: tuple["subprocess.Popen[str]", Path], tmp_path: Path
) -> None:
    process, theirs = fetcher
    kept = Kept(tmp_path, "sqlite:///x", "m", "a")

    def keep(version: int) -> None:
        with kept.fetching() as folder:
            (folder / "file").write_text(str(version))
            kept.keep(folder, version, set())

    keep(1)
    assert (theirs / "half").exists()
    process.kill()
    process.wait()
    keep(2)
    assert not theirs.exists()
    with kept.latest() as latest:
        assert latest is not None
        assert (latest.version, (latest.folder / "file").read_text()) == (2, "2")
    assert not [each for each in theirs.parent.iterdir() if each.name.startswith(FETCHING)]


def test_what_was_not_kept_is_gone_and_the_one_before_stays(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "sqlite:///x", "m", "a")
    with kept.latest() as latest:
        assert latest is None
    with kept.fetching() as folder:
        kept.keep(folder, 1, set())
    with pytest.raises(KeyError), kept.fetching() as folder:
        raise KeyError
    assert not folder.exists()
    with kept.latest() as latest:
        assert latest is not None
        assert latest.version == 1


def test_names_from_outside_become_no_path(tmp_path: Path) -> None:
    for model in ("../../x", "/etc", "a/b", "é" * 300):
        with Kept(tmp_path, "sqlite:///x", model, "..").fetching() as folder:
            assert folder.parent.parent == tmp_path


def test_a_place_that_cannot_be_written_only_means_that_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file", "sqlite:///x", "m", "a")
    with kept.fetching() as folder:
        assert folder.is_dir()
        kept.keep(folder, 1, set())
    assert not folder.exists()
    with kept.latest() as latest:
        assert latest is None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """One with room for a folder and no detector."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], capture_output=True)
    if mount.returncode:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_where_the_disk_is_full_the_version_serves_and_nothing_is_kept(
    full_disk: Path, settings: Settings, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    full = settings.model_copy(update={"keep": str(full_disk)})
    served, problem = load_first(Registry(settings.tracking_uri), full, Lock())
    assert (served.version, problem) == (1, None)
    assert [record.args for record in caplog.records if record.name == "ray.serve"] == [(1, str(full_disk))]
    assert [file.name for file in full_disk.rglob("*") if file.is_file()] == ["lock"]


def test_weights_that_lay_in_s3_are_kept_too(store: ModelStore, settings: Settings, tmp_path: Path) -> None:
    """Also where the next version shares the encoder that is loaded, and fetches none."""
    torch.manual_seed(0)
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), weights)
    detector = vit_detector(weights)
    address = "s3://bucket/vit.safetensors"
    digest = sha256(weights.read_bytes()).hexdigest()
    detector.encoder.settings = replace(detector.encoder.settings, weights=address, weights_sha256=digest)
    fetches: list[str] = []

    def download(asked: str, folder: Path) -> Path:
        fetches.append(asked)
        return Path(shutil.copy(weights, folder))

    kept, wanted = Kept(Path(settings.keep), "sqlite:///x", "m", "a"), Wanted()
    shared: Encoder | None = None
    for version in (1, 2):
        with kept.fetching() as folder:
            detector.save(folder / DETECTOR_FOLDER)
            (folder / fetched.TAGS_FILE).write_text("{}")
            shared = fetched.load(folder, "m", version, wanted, shared, download).detector.encoder
            (folder / fetched.WEIGHTS_FOLDER / "of another version").write_bytes(b"")
            kept.keep(folder, version, fetched.wanted_weights(folder, wanted))
    weights.unlink()
    with kept.latest() as latest:
        assert latest is not None
        loaded = fetched.load(latest.folder, "m", latest.version, wanted, None, download)
        assert os.listdir(latest.folder / fetched.WEIGHTS_FOLDER) == [fetched.weights_name(address)]
    assert (latest.version, loaded.detector.encoder.digest, fetches) == (2, detector.encoder.digest, [address])
