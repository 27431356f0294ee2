"""Images from a real S3 server into a folder, through every interruption that a long download meets."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inpformer.errors import UserError
from pipelines.fetch.source import VISA, Source, fetch
from pipelines.platform import s3
from pipelines.platform.download import part_file
from tests.archives import tar_of
from tests.relay import Relay, relay
from tests.s3_server import PUBLIC_BUCKETS, S3Server

MIB = 1 << 20
NOISE = np.random.default_rng(0).bytes(24 * MIB)
FILES = {"bolt/train/good/1.png": b"one" * 500, "bolt/train/good/2.png": b"two" * 700, "nut/empty.txt": b""}


@pytest.fixture(autouse=True)
def server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, named by the environment alone; commands run in an empty folder."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    s3_server.start()  # if a test that killed it failed
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.chdir(tmp_path)
    return s3_server


def put(server: S3Server, key: str, body: bytes, bucket: str = "tests") -> Source:
    server.client().put_object(Bucket=bucket, Key=key, Body=body)
    return Source(s3.Location(bucket, key))


def put_tree(server: S3Server, prefix: str) -> Source:
    for path, body in FILES.items():
        put(server, f"{prefix}/{path}", body)
    return Source(s3.Location("tests", prefix))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(*arguments: str, endpoint: str | None = None) -> subprocess.Popen[str]:
    """The real command, in the background."""
    environment = os.environ | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})
    command = [sys.executable, "-m", "pipelines.fetch", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for_part(between: Relay, at_least: int) -> Path:
    """The partial file, once the relay holds the rest of the answer back and what passed was written."""
    assert between.held.wait(60)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for part in Path("data").glob("*.part"):
            if part.stat().st_size >= at_least:
                return part
        time.sleep(0.01)
    raise AssertionError(f"no part of {at_least} bytes in {list(Path('data').glob('*'))}")


def test_an_archive_becomes_a_folder_and_a_second_call_does_nothing(server: S3Server) -> None:
    put(server, "archive/mine.tar", tar_of(FILES))
    code, out, err = end(start("s3://tests/archive/mine.tar"))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"s3://tests/archive/mine.tar: {len(tar_of(FILES))} bytes, checked by size and MD5",
        "next: dvc add data/mine",
        "      set manifest.data in params.yaml to data/mine, then: dvc repro",
    ]
    assert content(Path("data/mine")) == FILES
    assert names(Path("data")) == ["mine", "mine.source.json"]
    record = json.loads(Path("data/mine.source.json").read_text())
    assert record["source"] == "s3://tests/archive/mine.tar"
    assert record["checked_by"] == "size and MD5"
    # the second call asks nobody
    code, out, _ = end(start("s3://tests/archive/mine.tar", endpoint="http://127.0.0.1:1"))
    assert (code, out.startswith("data/mine is finished, nothing to do")) == (0, True)


def test_the_archive_stays_if_asked_to(server: S3Server) -> None:
    fetch(put(server, "keep/mine.tar", tar_of(FILES)), Path("out/here"), keep=True)
    assert names(Path("out")) == ["here", "here.source.json", "mine.tar"]
    assert Path("out/mine.tar").read_bytes() == tar_of(FILES)


def test_an_archive_for_which_there_is_no_room_is_unpacked_later_without_being_fetched_again(
    server: S3Server, small_disk: Path
) -> None:
    files = {"a.png": bytes(3 * MIB), "b.png": NOISE[: MIB // 2]}
    put(server, "large/mine.tar.gz", tar_of(files, "mine.tar.gz"))
    out = str(small_disk / "mine")
    with relay(server.endpoint, limit=None) as counted:
        code, _, err = end(start("s3://tests/large/mine.tar.gz", "--out", out, endpoint=counted.endpoint))
        assert (code, counted.passed > MIB // 2) == (1, True)
        assert f"no space left in {small_disk}" in err
        (part,) = small_disk.iterdir()  # the archive, and nothing half unpacked
        assert part.stat().st_size > MIB // 2
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        before = counted.passed
        code, _, err = end(start("s3://tests/large/mine.tar.gz", "--out", out, endpoint=counted.endpoint))
        assert (code, err) == (0, "")
        assert counted.passed - before < 10_000
    assert content(small_disk / "mine") == files


def test_a_prefix_becomes_a_tree(server: S3Server) -> None:
    put_tree(server, "tree/set")
    put(server, "tree/set/nut/", b"")  # as consoles show a folder
    put(server, "tree/settings.txt", b"another prefix")
    code, out, err = end(start("s3://tests/tree/set/", "--out", "data/mine"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "s3://tests/tree/set/: 3 files, 3600 bytes, checked: 3 by size and MD5"
    assert content(Path("data/mine")) == FILES
    assert names(Path("data")) == ["mine", "mine.source.json"]
    code, out, _ = end(start("s3://tests/tree/set/", "--out", "data/mine", endpoint="http://127.0.0.1:1"))
    assert (code, out.startswith("data/mine is finished, nothing to do")) == (0, True)


def test_what_is_complete_of_a_tree_is_not_fetched_again(
    server: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put_tree(server, "again/set")
    put(server, "again/set/gone.png", b"removed in between")
    put(server, "again/set/large", NOISE[: 4 * MIB])
    put(server, "again/set/late.png", b"first")
    with relay(server.endpoint, limit=2 * MIB) as between:
        process = start("s3://tests/again/set", endpoint=between.endpoint)
        assert between.held.wait(60)
        folder = next(Path("data").glob("set.*.part"))
        deadline = time.monotonic() + 60
        while not set(FILES) | {"gone.png", "late.png"} <= set(content(folder)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        between.break_connections()
        code, _, err = end(process)
    assert (code, err.count("\n")) == (130, 1)
    assert not Path("data/set").exists()
    server.client().delete_object(Bucket="tests", Key="again/set/gone.png")
    put(server, "again/set/late.png", b"second, and longer")
    with relay(server.endpoint) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        fetch(source, Path("data/set"))
        assert between.passed < 4 * MIB
    assert content(Path("data/set")) == FILES | {"large": NOISE[: 4 * MIB], "late.png": b"second, and longer"}
    assert "checked: 3 by an earlier call, 2 by size and MD5" in capsys.readouterr().out
    assert names(Path("data")) == ["set", "set.source.json"]


def test_ctrl_c_leaves_the_part_and_the_same_command_goes_on(server: S3Server) -> None:
    put(server, "long/mine.tar", tar_of({"noise": NOISE}))
    with relay(server.endpoint, limit=12 * MIB) as between:
        process = start("s3://tests/long/mine.tar", endpoint=between.endpoint)
        part = wait_for_part(between, 8 * MIB)
        process.send_signal(signal.SIGINT)
        code, out, err = end(process)
        assert (code, out) == (130, "")
        assert err == "interrupted: what is finished is kept, run the same command again to go on.\n"
        assert names(Path("data")) == [part.name]
    had = part.stat().st_size
    with relay(server.endpoint) as between:
        code, out, err = end(start("s3://tests/long/mine.tar", endpoint=between.endpoint))
        assert (code, err) == (0, "")
        assert between.passed < len(tar_of({"noise": NOISE})) - had + MIB
    assert f"going on after {had} of" in out
    assert content(Path("data/mine")) == {"noise": NOISE}
    assert names(Path("data")) == ["mine", "mine.source.json"]


def test_a_connection_that_breaks_is_made_again(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put(server, "broken/mine.tar", tar_of({"noise": NOISE}))
    with relay(server.endpoint, limit=12 * MIB) as between:
        process = start("s3://tests/broken/mine.tar", endpoint=between.endpoint)
        wait_for_part(between, 8 * MIB)
        between.break_connections()
        assert end(process)[0] == 0
        assert between.passed < 30 * MIB
    assert content(Path("data/mine")) == {"noise": NOISE}


def test_a_server_that_dies_half_way_and_comes_back(server: S3Server) -> None:
    put(server, "dies/mine.tar", tar_of({"noise": NOISE}))
    with relay(server.endpoint, limit=6 * MIB) as between:
        process = start("s3://tests/dies/mine.tar", endpoint=between.endpoint)
        part = wait_for_part(between, 4 * MIB)
        server.kill()
        between.open()
        code, _, err = end(process)
        assert code == 1
        assert err == (
            f"error: the connection to {between.endpoint} broke at s3://tests/dies/mine.tar: "
            "run the same command again.\n"
        )
    code, _, err = end(start("s3://tests/dies/mine.tar"))
    assert (code, err) == (
        1,
        f"error: {server.endpoint} cannot be reached for s3://tests/dies/mine.tar: "
        "check AWS_ENDPOINT_URL and the network, then run again.\n",
    )
    assert part.stat().st_size >= 4 * MIB
    server.start()
    code, out, err = end(start("s3://tests/dies/mine.tar"))
    assert (code, err, "going on after" in out) == (0, "", True)
    assert content(Path("data/mine")) == {"noise": NOISE}


def test_an_object_that_changed_since_starts_anew(server: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tar_of({"noise": NOISE}), tar_of({"noise": NOISE[::-1]})
    assert len(old) == len(new)
    source = put(server, "changed/mine.tar", old)
    part = part_file(Path("data/mine"), s3.head(s3.connect(), source.location))
    part.parent.mkdir()
    part.write_bytes(old[: 8 * MIB])
    put(server, "changed/mine.tar", new)
    fetch(source, Path("data/mine"))
    assert "going on" not in capsys.readouterr().out
    assert content(Path("data/mine")) == {"noise": NOISE[::-1]}
    assert names(Path("data")) == ["mine", "mine.source.json"]


def test_an_object_that_changes_meanwhile_is_never_mixed(server: S3Server) -> None:
    put(server, "meanwhile/mine.tar", tar_of({"noise": NOISE}))
    with relay(server.endpoint, limit=12 * MIB) as between:
        process = start("s3://tests/meanwhile/mine.tar", endpoint=between.endpoint)
        wait_for_part(between, 8 * MIB)
        put(server, "meanwhile/mine.tar", tar_of({"noise": NOISE[::-1]}))
        between.break_connections()
        code, _, err = end(process)
    assert code == 1
    assert "s3://tests/meanwhile/mine.tar" in err
    assert "changed while it was read: run the same command again to start anew" in err
    assert end(start("s3://tests/meanwhile/mine.tar"))[0] == 0
    assert content(Path("data/mine")) == {"noise": NOISE[::-1]}


def test_a_damaged_part_is_refused_and_the_next_call_mends_it(server: S3Server) -> None:
    body = tar_of(FILES)
    source = put(server, "damaged/mine.tar", body)
    part = part_file(Path("data/mine"), s3.head(s3.connect(), source.location))
    part.parent.mkdir()
    part.write_bytes(b"\x01" + body[1:5000])
    with pytest.raises(UserError) as error:
        fetch(source, Path("data/mine"))
    assert str(error.value) == (
        f"what arrived of s3://tests/damaged/mine.tar from {server.endpoint} is not what S3 says of it (size and MD5) "
        "and was removed: run the same command to fetch it anew."
    )
    assert names(Path("data")) == []
    fetch(source, Path("data/mine"))
    assert content(Path("data/mine")) == FILES


def test_a_pinned_digest_decides(server: S3Server) -> None:
    put(server, "pinned/mine.tar", tar_of(FILES))
    right = hashlib.sha256(tar_of(FILES)).hexdigest()
    wrong = right[::-1]
    code, _, err = end(start("s3://tests/pinned/mine.tar", "--sha256", wrong))
    assert (code, f"is not of the SHA256 {wrong} that was asked for and was removed" in err) == (1, True)
    assert names(Path("data")) == []
    code, out, _ = end(start("s3://tests/pinned/mine.tar", "--sha256", right.upper()))
    assert (code, "checked by size and pinned SHA256" in out) == (0, True)
    code, _, err = end(start("s3://tests/pinned/mine.tar", "--sha256", "abc"))
    assert (code, err) == (1, "error: --sha256 is 'abc': it must be 64 hexadecimal digits.\n")
    with pytest.raises(UserError, match="--sha256 is of one archive"):
        fetch(Source(s3.Location("tests", "pinned"), right), Path("data/tree"))


def test_visa_is_asked_for_without_keys_and_held_to_its_digest(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert VISA.location.bucket in PUBLIC_BUCKETS
    put(server, VISA.location.key, tar_of({"split_csv/1cls.csv": b"another VisA"}), VISA.location.bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-another-server")  # a signed request would be refused
    code, _, err = end(start("visa"))
    assert code == 1
    assert f"is not of the SHA256 {VISA.sha256} that was asked for" in err
    assert names(Path("data")) == []


def test_public_data_needs_no_keys(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fetch(put(server, "open/mine.tar", tar_of(FILES), "public"), Path("mine"))
    put(server, "open/set/1.png", b"1", "public")
    fetch(Source(s3.Location("public", "open/set")), Path("set"))
    assert (content(Path("mine")), content(Path("set"))) == (FILES, {"1.png": b"1"})


def test_an_archive_that_reaches_outside_leaves_nothing(server: S3Server) -> None:
    source = put(server, "evil/mine.tar", tar_of({"good": b"1", "../evil": b"2"}))
    with pytest.raises(UserError, match="is not safe to unpack"):
        fetch(source, Path("data/mine"))
    assert names(Path()) == ["data"]
    assert names(Path("data")) == []


def test_what_is_not_there(server: S3Server) -> None:
    with pytest.raises(UserError, match=r"there is no object none/mine.tar in the bucket tests"):
        fetch(Source(s3.Location("tests", "none/mine.tar")), Path("data/mine"))
    with pytest.raises(UserError, match="nothing lies under s3://tests/none/"):
        fetch(Source(s3.Location("tests", "none")), Path("data/mine"))
    with pytest.raises(UserError, match="there is no bucket nowhere"):
        fetch(Source(s3.Location("nowhere", "none")), Path("data/mine"))
    assert end(start("mvtec"))[2].startswith("error: mvtec is not known: name visa or an address")
    assert names(Path("data")) == []


def test_a_folder_of_another_origin_is_left_alone(server: S3Server) -> None:
    Path("mine").mkdir()
    Path("mine/own.png").touch()
    source = put(server, "other/mine.tar", tar_of(FILES))
    with pytest.raises(UserError, match=r"mine exists and is not from s3://tests/other/mine.tar"):
        fetch(source, Path("mine"))
    assert names(Path("mine")) == ["own.png"]
    Path("mine/own.png").unlink()
    fetch(source, Path("mine"))  # an empty folder is none
    with pytest.raises(UserError, match="name another folder with --out"):
        fetch(Source(s3.Location("tests", "another.tar")), Path("mine"))


def test_a_disk_that_is_full_is_one_sentence_and_the_part_stays(server: S3Server) -> None:
    put(server, "full/mine.tar", tar_of({"noise": NOISE}))
    command = [sys.executable, "-m", "pipelines.fetch", "s3://tests/full/mine.tar"]
    limit = 8 * MIB  # no file of this process may be larger: the same error path as ENOSPC, without filling a disk
    done = subprocess.run(
        command,
        text=True,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: data cannot be written (File too large): make room")
    assert done.stderr.count("\n") == 1
    assert next(Path("data").iterdir()).stat().st_size == limit
    assert end(start("s3://tests/full/mine.tar"))[0] == 0
    assert content(Path("data/mine")) == {"noise": NOISE}


def test_a_target_that_cannot_be_written(server: S3Server) -> None:
    source = put(server, "readonly/mine.tar", tar_of(FILES))
    with pytest.raises(UserError, match=r"cannot be written .*name another folder"):
        fetch(source, Path("/proc/mine/set"))
