"""Who is let in: the file of keys, its command, and a service that asks for them."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from inpformer.errors import UserError
from serving.answers import RequestError
from serving.keys import LOOK_SECONDS, Keys, Rate, read_keys
from tests.serving.keys import keyring
from tests.serving.model_store import MODEL, eventually
from tests.serving.pictures import as_file, picture

GOOD = as_file(picture())


def status_of(keys: Keys, key: str) -> int:
    try:
        keys.let_in(f"Bearer {key}")
    except RequestError as error:
        return error.status
    return 200


def test_a_key_is_added_listed_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = keyring("add", file, "press 2", "--line", "press-2", "--rate", "2.5", "--days", "30")
    other = keyring("add", file, "press 2")
    assert file.stat().st_mode & 0o777 == 0o600
    assert key.rpartition("_")[2] not in file.read_text()
    held = read_keys(file)
    first, second = held.values()
    assert (first.name, first.line, first.rate, second.line, second.rate, second.expires) == (
        "press 2",
        "press-2",
        2.5,
        None,
        None,
        None,
    )
    keys = Keys(file)
    assert [status_of(keys, one) for one in (key, other, f"{key[:-1]}~", "", key.lower())] == [200, 200, 401, 401, 401]
    assert [line.split()[0] for line in keyring("list", file).splitlines()] == list(held)
    file.chmod(0o640)
    (tmp_path / ".keys.json.tmp").write_text("half")  # of one that was killed
    keyring("remove", file, first.id)
    assert (list(read_keys(file)), file.stat().st_mode & 0o777) == ([second.id], 0o640)
    assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "{}/keys.json", "n", "--rate", "0"), "rate"),
        (("add", "{}/keys.json", "n", "--rate", "nan"), "rate"),
        (("add", "{}/keys.json", "n", "--line", "a b"), "line"),
        (("add", "{}/keys.json", ""), "name"),
        (("add", "{}/keys.json", "n", "--days", "-1"), "--days"),
        (("add", "{}/keys.json", "n", "--days", "1e9"), "--days"),
        (("add", "{}/gone/keys.json", "n"), "gone"),
        (("remove", "{}/keys.json", "abc"), "abc"),
        (("list", "{}/gone.json"), "gone.json"),
        (("list", "{}"), "cannot be read"),
    ],
)
def test_a_wrong_call_ends_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    with pytest.raises(UserError, match=named):
        keyring(*(each.format(tmp_path) for each in arguments))
    assert (tmp_path / "keys.json").read_text() == '{"keys": []}'


KEY: dict[str, Any] = {"id": "0" * 12, "name": "n", "sha256": "0" * 64}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"keys": 3}',
        '{"keys": [3]}',
        "[" * 100_000,
        json.dumps({"keys": [KEY | {"id": "../x"}]}),
        json.dumps({"keys": [KEY | {"sha256": "inp_" + "0" * 60}]}),
        json.dumps({"keys": [KEY | {"expires": "2027-01-31"}]}),
        json.dumps({"keys": [KEY | {"rate": -1}]}),
        json.dumps({"keys": [KEY | {"other": 1}]}),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path / "keys.json")):
        Keys(tmp_path / "keys.json")


def test_two_that_add_at_once_lose_no_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: keyring("add", tmp_path / "keys.json", f"n{number}"), range(4)))
    keys = Keys(tmp_path / "keys.json")
    assert [status_of(keys, key) for key in made] == [200] * 4


def test_a_key_expires(tmp_path: Path) -> None:
    key = keyring("add", tmp_path / "keys.json", "n", "--days", "0.00001")
    keys = Keys(tmp_path / "keys.json")
    eventually(lambda: status_of(keys, key) == 401)
    assert "expired" in keyring("list", tmp_path / "keys.json")


def test_a_broken_file_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    old = keyring("add", file, "n")
    keys = Keys(file)
    content = file.read_text()
    for broken in ("{", None):
        file.write_text(broken) if broken else file.unlink()
        time.sleep(LOOK_SECONDS)  # so often it looks
        assert status_of(keys, old) == 200
    file.write_text(content)
    keyring("remove", file, next(iter(read_keys(file))))
    new = keyring("add", file, "n")
    eventually(lambda: status_of(keys, new) == 200)
    assert status_of(keys, old) == 401


def test_a_rate_lets_a_seconds_worth_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("serving.keys.time.monotonic", lambda: now[0])
    rate = Rate(4)

    def let_in(pictures: int = 1) -> int | None:
        try:
            rate.refuse()
        except RequestError as error:
            return error.retry_after if error.status == 429 else -1
        rate.take(pictures)
        return None

    assert [let_in() for _ in range(5)] == [None] * 4 + [1]
    now[0] += 0.25
    assert [let_in(), let_in()] == [None, 1]
    now[0] += 0.25
    assert let_in(16) is None  # what it brought too many is owed
    assert let_in() == 4
    now[0] += 4
    assert let_in() is None
    now[0] += 1000
    assert [let_in() for _ in range(5)] == [None] * 4 + [1]
    slow = Rate(0.1)
    slow.refuse()
    slow.take(1)
    with pytest.raises(RequestError) as refused:
        slow.refuse()
    assert refused.value.retry_after == 10


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_whoever_has_no_key_gets_no_verdict(guarded: httpx.Client, ring: dict[str, str]) -> None:
    for headers in ({}, bearer("inp_x"), {"Authorization": f"Basic {ring['any']}"}, bearer(ring["any"][:-3] + "AAA")):
        for answer in (
            guarded.post("/v1/predict?category=bolt", content=GOOD, headers=headers),
            guarded.post(f"/v2/models/{MODEL}/infer", content=b"{}", headers=headers),
            guarded.get("/v1/calibration?category=bolt", headers=headers),
            guarded.get("/v1/decisions", headers=headers),
            guarded.get("/metrics", headers=headers),
        ):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert set(answer.json()) == {"error"}
    assert [guarded.get(path).status_code for path in ("/", "/healthz", "/readyz", "/v2/health/live")] == [200] * 4


def test_a_key_of_a_line_is_of_that_line(guarded: httpx.Client, ring: dict[str, str]) -> None:
    def ask(key: str, line: str) -> httpx.Response:
        return guarded.post(f"/v1/predict?category=bolt{line}", content=GOOD, headers=bearer(ring[key]))

    assert [ask("press", line).json()["line"] for line in ("", "&line=press-2")] == ["press-2"] * 2
    assert ask("press", "&line=press-3").status_code == 403
    assert ask("any", "&line=press-3").json()["line"] == "press-3"

    def lines(key: str) -> set[str]:
        return {one["line"] for one in guarded.get("/v1/decisions", headers=bearer(ring[key])).json() if "line" in one}

    assert lines("press") == {"press-2"}
    assert {"press-2", "press-3"} <= lines("any")
    assert guarded.get("/v1/decisions?line=press-3", headers=bearer(ring["press"])).status_code == 403
    counted = guarded.get("/metrics", headers=bearer(ring["press"])).text
    assert 'status="403"' in counted
    assert "inp_" not in counted


def test_pictures_that_come_too_fast_are_told_when(guarded: httpx.Client, ring: dict[str, str]) -> None:
    answers = [guarded.post("/v1/predict?category=bolt", content=GOOD, headers=bearer(ring["slow"])) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 90 < int(answers[1].headers["retry-after"]) <= 100


def test_triton_clients_send_a_key(guarded: httpx.Client, ring: dict[str, str]) -> None:
    client = triton.InferenceServerClient(str(guarded.base_url).removeprefix("http://").rstrip("/"))
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([GOOD], dtype=np.object_))
    with pytest.raises(triton.InferenceServerException, match="key"):
        client.infer(MODEL, [image], parameters={"category": "bolt"})
    answer = client.infer(MODEL, [image], parameters={"category": "bolt"}, headers=bearer(ring["press"]))
    assert json.loads(answer.as_numpy("verdict")[0])["line"] == "press-2"
    with pytest.raises(triton.InferenceServerException, match="press-2"):
        client.infer(MODEL, [image], parameters={"category": "bolt", "line": "press-3"}, headers=bearer(ring["press"]))


def test_a_service_whose_keys_are_gone_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--keys", str(tmp_path / "gone.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "gone.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
