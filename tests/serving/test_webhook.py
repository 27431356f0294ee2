"""Whose webhooks are believed. That one makes the service look, tests/platform/test_team.py holds."""

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from serving.webhook import OLDEST_SECONDS, is_signed

SECRET, BODY, NOW = "shared", b'{"entity": "model_version_alias"}', 1_800_000_000


def headers(secret: str = SECRET, body: bytes = BODY, sent: int = NOW, **changed: str) -> dict[str, str]:
    """As MLflow signs."""
    signature = _generate_hmac_signature(secret, "id", str(sent), body.decode())
    made = {"x-mlflow-delivery-id": "id", "x-mlflow-timestamp": str(sent), "x-mlflow-signature": signature}
    return made | changed


def test_mlflow_is_believed() -> None:
    assert is_signed(SECRET, headers(), BODY, NOW + 5)


@pytest.mark.parametrize(
    "given",
    [
        {},
        headers("another"),
        headers(body=b"another"),
        headers(sent=int(NOW - OLDEST_SECONDS - 6)),
        headers(sent=int(NOW + OLDEST_SECONDS + 6)),
        headers(**{"x-mlflow-delivery-id": "other"}),
        headers(**{"x-mlflow-timestamp": "yesterday"}),
        headers(**{"x-mlflow-timestamp": "9" * 400}),
        headers(**{"x-mlflow-signature": "v1,no base64!"}),
        headers(**{"x-mlflow-signature": "v2," + headers()["x-mlflow-signature"].partition(",")[2]}),
        headers(**{"x-mlflow-signature": "v1,"}),
    ],
)
def test_nobody_else_is(given: dict[str, str]) -> None:
    assert not is_signed(SECRET, given, BODY, NOW + 5)
