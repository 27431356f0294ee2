"""Checkpoints are whole or not there: in a folder, on S3, on a full disk."""

import json
import subprocess
from pathlib import Path

import pyarrow.fs
import pytest
import ray.cloudpickle as pickle

from inpformer.errors import UserError
from inpformer.training.loop import CHECKPOINT_PROGRESS, CHECKPOINT_TENSORS
from pipelines.training.checkpoints import NAME, Checkpoints, PatientS3, open_checkpoints
from tests.s3_server import S3Server


@pytest.fixture(params=["folder", "s3"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    if request.param == "folder":
        return open_checkpoints(str(tmp_path / "runs"), "key")
    server: S3Server = request.getfixturevalue("s3_server")
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_checkpoints(f"s3://tests/{tmp_path.name}/runs", "key")


def write(checkpoints: Checkpoints, name: str, size: int = 10) -> None:
    with checkpoints.saving(name) as folder:
        (folder / CHECKPOINT_TENSORS).write_bytes(bytes(size))
        (folder / CHECKPOINT_PROGRESS).write_text(json.dumps({"name": name}))


def damage(checkpoints: Checkpoints, name: str, file: str, content: bytes) -> None:
    """Writes one file as a killed process would have left it."""
    checkpoints.filesystem.create_dir(checkpoints.path(name))
    with checkpoints.filesystem.open_output_stream(f"{checkpoints.path(name)}/{file}") as stream:
        stream.write(content)


def test_the_newest_whole_one_is_found_and_the_rest_removed(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None
    for epoch in (5, 10):
        write(checkpoints, NAME.format(1, epoch))
    damage(checkpoints, NAME.format(1, 15), CHECKPOINT_TENSORS, b"half")
    damage(checkpoints, NAME.format(1, 20), CHECKPOINT_PROGRESS, b'{"na')
    with checkpoints.filesystem.open_output_stream(checkpoints.path("checkpoint_manager_snapshot.json")) as stream:
        stream.write(b"")
    assert checkpoints.newest() == NAME.format(1, 10)
    assert [checkpoints.whole(NAME.format(1, epoch)) for epoch in (5, 10, 15, 20)] == [False, True, False, False]
    with checkpoints.fetched(NAME.format(1, 10)) as folder:
        assert json.loads((folder / CHECKPOINT_PROGRESS).read_text()) == {"name": NAME.format(1, 10)}
        assert (folder / CHECKPOINT_TENSORS).read_bytes() == bytes(10)
    checkpoints.remove()
    assert checkpoints.newest() is None


def test_a_later_phase_is_newer_whatever_its_epochs(checkpoints: Checkpoints) -> None:
    for phase, epoch in ((1, 200), (2, 200), (2, 1000), (1, 5)):
        write(checkpoints, NAME.format(phase, epoch))
    assert checkpoints.newest() == NAME.format(2, 1000)
    write(checkpoints, NAME.format(3, 1000))
    assert checkpoints.newest() == NAME.format(3, 1000)


def test_categories_of_any_name_have_places_of_their_own_inside_the_trainings(checkpoints: Checkpoints) -> None:
    names = ["..", ".", "a/b", "a--b", "a", "../key", "/etc", "", " ", "ä", "a\\b", "a\nb", "x" * 500, "finished"]
    places = {name: checkpoints.within(name) for name in names}
    for name, place in places.items():
        with place.saving("finished") as folder:
            (folder / CHECKPOINT_TENSORS).write_bytes(b"")
            (folder / CHECKPOINT_PROGRESS).write_text(json.dumps({"name": name}))
    for name, place in places.items():
        with place.fetched("finished") as folder:
            assert json.loads((folder / CHECKPOINT_PROGRESS).read_text()) == {"name": name}
        assert place.within("..").key.count("/") == 2  # places nest, one folder each
    found = checkpoints.filesystem.get_file_info(pyarrow.fs.FileSelector(f"{checkpoints.root}/{checkpoints.key}"))
    assert len(found) == len(names)
    assert {info.base_name for info in found} == {place.key.rpartition("/")[2] for place in places.values()}
    assert all(len(info.base_name) == 16 and info.base_name.isalnum() for info in found)
    siblings = checkpoints.filesystem.get_file_info(pyarrow.fs.FileSelector(checkpoints.root))
    assert [info.base_name for info in siblings] == [checkpoints.key]
    checkpoints.remove()
    assert not any(place.whole("finished") for place in places.values())


def test_what_is_not_finished_does_not_appear(checkpoints: Checkpoints) -> None:
    def stop() -> None:
        with checkpoints.saving("one") as folder:
            (folder / CHECKPOINT_TENSORS).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not list(Path("/tmp").glob("inpformer-key-one*"))
    assert not checkpoints.whole("one")


def test_one_of_the_same_name_is_not_whole_until_it_is_new(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(checkpoints, NAME.format(1, 5))
    seen, copy_files = [], pyarrow.fs.copy_files

    def watched(*arguments: object, **options: object) -> None:
        seen.append(checkpoints.whole(NAME.format(1, 5)))
        copy_files(*arguments, **options)

    monkeypatch.setattr("pipelines.training.checkpoints.copy_files", watched)
    write(checkpoints, NAME.format(1, 5), size=20)
    assert seen == [False, False]
    assert checkpoints.whole(NAME.format(1, 5))


def test_the_patience_goes_along_to_other_processes(s3_server: S3Server) -> None:
    one = PatientS3(s3_server.endpoint, None)
    copy = pickle.loads(pickle.dumps(one))
    assert type(copy) is PatientS3
    assert copy == one
    assert s3_server.secret_key.encode() not in pickle.dumps(one)


def test_wrong_keys_and_a_missing_bucket_are_one_sentence(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_server.start()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="there is no bucket nowhere at http"):
        open_checkpoints("s3://nowhere/runs", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="does not accept the keys for s3://tests/runs"):
        open_checkpoints("s3://tests/runs", "key")


def test_a_full_disk_is_one_sentence_and_leaves_what_was_whole(small_disk: Path) -> None:
    checkpoints = open_checkpoints(str(small_disk), "key")
    write(checkpoints, NAME.format(1, 1), 600_000)
    with pytest.raises(
        UserError, match=rf"no space left in {small_disk}/key or .*: free some and run the same command"
    ):
        write(checkpoints, NAME.format(1, 2), 600_000)
    assert [path.name for path in (small_disk / "key").iterdir()] == [NAME.format(1, 1)]
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    assert checkpoints.newest() == NAME.format(1, 1)
    write(checkpoints, NAME.format(1, 2), 600_000)
    assert checkpoints.newest() == NAME.format(1, 2)
