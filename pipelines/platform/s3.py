"""How this project speaks to S3: one place for address, keys, time-outs, retries and the words for every failure.

boto3 itself reads AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and its configuration files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from inpformer.errors import UserError, without_password

CONNECTIONS = 8  # that one client keeps open: as many requests can run side by side
BROKEN_STREAM = (ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId"}


@dataclass(frozen=True)
class Location:
    """An object, or all objects whose keys begin with `key`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse(uri: str) -> Location:
    """Raises UserError if `uri` is not s3://bucket or s3://bucket/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise UserError(f"{uri} is no S3 address: write s3://bucket/key.")
    return Location(bucket, key)


def connect(unsigned: bool = False, patient: bool = False) -> Any:
    """A boto3 S3 client, safe to share between threads; without keys in the environment it does not sign either. A
    `patient` one waits for a server that is away for a minute and more, as suits work that others wait for.

    Raises UserError if the address or the configuration in the environment cannot be used.
    """
    try:
        session = boto3.Session()
        signing = {"signature_version": UNSIGNED} if unsigned or session.get_credentials() is None else {}
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 12 if patient else 4},
            max_pool_connections=CONNECTIONS,
            **signing,
        )
        return session.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"S3 cannot be used ({without_password(str(error))}): check AWS_ENDPOINT_URL and the other AWS_ variables."
        ) from None


def endpoint(client: Any) -> str:
    """The address that a client speaks to, fit to be shown."""
    return without_password(client.meta.endpoint_url)


def head(client: Any, location: Location) -> dict[str, Any]:
    """What S3 says about one object: ContentLength (bytes), ETag, Checksum…, LastModified.

    Raises ClientError with S3's own reason, as the answer to HEAD is a bare number.
    """
    try:
        return dict(client.head_object(Bucket=location.bucket, Key=location.key, ChecksumMode="ENABLED"))
    except ClientError:
        client.get_object(Bucket=location.bucket, Key=location.key)["Body"].close()
        raise


@contextmanager
def explained(client: Any, location: Location) -> Iterator[None]:
    """Turns every failure of S3 inside into a UserError that names bucket, key and endpoint."""
    server = endpoint(client)
    try:
        yield
    except ClientError as error:
        unsigned = client.meta.config.signature_version is UNSIGNED
        raise UserError(_refusal(error, location, server, unsigned)) from None
    except BROKEN_STREAM:
        raise UserError(f"the connection to {server} broke at {location}: run the same command again.") from None
    except (ConnectionError, HTTPClientError):
        raise UserError(
            f"{server} cannot be reached for {location}: check AWS_ENDPOINT_URL and the network, then run again."
        ) from None
    except BotoCoreError as error:
        reason = " ".join(without_password(str(error)).split())
        raise UserError(f"{location} at {server} cannot be used ({reason}): mend that, then run again.") from None


def _refusal(error: ClientError, location: Location, server: str, unsigned: bool) -> str:
    code, message = (error.response["Error"].get(name, "") for name in ("Code", "Message"))
    if code in _BAD_KEYS:
        return (
            f"{server} does not accept the keys for {location} ({code}): "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if you use one, AWS_SESSION_TOKEN."
        )
    if code in {"AccessDenied", "403"}:
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if unsigned else "ask for the right, or use others"
        return f"{server} does not let {'anybody' if unsigned else 'these keys'} use {location}: {remedy}."
    if code == "NoSuchBucket":
        return (
            f"there is no bucket {location.bucket} at {server} (for {location}): check the name and AWS_ENDPOINT_URL."
        )
    if code in {"NoSuchKey", "404"}:
        return f"there is no object {location.key} in the bucket {location.bucket} at {server}: check the key."
    if code == "PreconditionFailed":
        return f"{location} at {server} changed while it was read: run the same command again to start anew."
    return f"{server} refuses {location} ({code}: {message}): mend that, then run again."
