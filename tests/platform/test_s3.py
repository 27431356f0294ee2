"""S3 as the project reaches it: what the environment says holds, and every failure is one sentence."""

import socket

import pytest

from inpformer.errors import UserError
from pipelines.platform import s3
from tests.relay import relay
from tests.s3_server import S3Server

THERE = s3.Location("tests", "s3/there")


@pytest.fixture
def server(s3_here: S3Server) -> S3Server:
    """The server with the object s3/there of 4 MiB."""
    s3_here.client().put_object(Bucket="tests", Key="s3/there", Body=bytes(4 << 20))
    s3_here.client().put_object(Bucket="public", Key="s3/there", Body=b"for all")
    return s3_here


def sentence(location: s3.Location, unsigned: bool = False) -> str:
    """What a user reads when `location` cannot be read."""
    client = s3.connect(unsigned)
    with pytest.raises(UserError) as error, s3.explained(client, location):
        s3.head(client, location)
    return str(error.value)


def test_an_address_is_bucket_and_key() -> None:
    assert s3.parse("s3://b/k/l.tar") == s3.Location("b", "k/l.tar")
    assert s3.parse("s3://b") == s3.parse("s3://b/") == s3.Location("b", "")
    for wrong in ("s3:///key", "s3://", "b/k", "S3:b"):
        with pytest.raises(UserError, match="write s3://bucket/key"):
            s3.parse(wrong)


def test_address_and_keys_come_from_the_environment(server: S3Server) -> None:
    client = s3.connect()
    assert s3.endpoint(client) == server.endpoint
    assert s3.head(client, THERE)["ContentLength"] == 4 << 20


def test_without_keys_only_public_objects_are_read(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not let anybody use s3://tests/s3/there" in sentence(THERE, unsigned=True)
    assert s3.head(s3.connect(unsigned=True), s3.Location("public", "s3/there"))["ContentLength"] == 7
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert s3.head(s3.connect(), s3.Location("public", "s3/there"))["ContentLength"] == 7


@pytest.mark.parametrize(
    ("name", "code"), [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")]
)
def test_wrong_keys(server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    monkeypatch.setenv(name, "wrong-but-secret")
    said = sentence(THERE)
    assert said == (
        f"{server.endpoint} does not accept the keys for s3://tests/s3/there ({code}): "
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if you use one, AWS_SESSION_TOKEN."
    )
    assert "wrong-but-secret" not in said
    assert server.secret_key not in said


def test_half_a_pair_of_keys(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"S3 cannot be used .*check AWS_ENDPOINT_URL and the other AWS_ variables"):
        s3.connect()


def test_what_is_missing_is_named(server: S3Server) -> None:
    said = sentence(s3.Location("nowhere", "s3/there"))
    assert f"there is no bucket nowhere at {server.endpoint} (for s3://nowhere/s3/there)" in said
    said = sentence(s3.Location("tests", "s3/nothing"))
    assert f"there is no object s3/nothing in the bucket tests at {server.endpoint}" in said


def test_an_impossible_bucket_name(server: S3Server) -> None:
    assert sentence(s3.Location("no bucket!", "k")).startswith(f"s3://no bucket!/k at {server.endpoint} cannot be used")


def test_nobody_at_the_address(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hidden@127.0.0.1:{port}")
    said = sentence(THERE)
    assert said == (
        f"http://127.0.0.1:{port} cannot be reached for s3://tests/s3/there: "
        "check AWS_ENDPOINT_URL and the network, then run again."
    )


def test_no_address_at_all(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio.local")
    with pytest.raises(UserError, match=r"S3 cannot be used .*minio.local.*AWS_ENDPOINT_URL"):
        s3.connect()


def test_a_connection_that_breaks_half_way(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(server.endpoint, limit=1 << 20) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        client = s3.connect()
        body = client.get_object(Bucket="tests", Key="s3/there")["Body"]
        assert len(body.read(1 << 10)) == 1 << 10
        assert between.held.wait(30)
        between.close()
        with pytest.raises(UserError) as error, s3.explained(client, THERE):
            body.read()
    assert str(error.value) == (
        f"the connection to {between.endpoint} broke at s3://tests/s3/there: run the same command again."
    )
