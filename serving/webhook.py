"""MLflow's signed webhooks: an alias moved, so the service looks now instead of at its next look.

Whoever can sign can only make it look once more; what it then serves, the registry says.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

SECRET_VARIABLE = "INPFORMER_WEBHOOK_SECRET"
PATH = "/v1/registry-changed"
LARGEST_BODY = 2**16
# An older message may have been recorded by somebody who sends it again.
OLDEST_SECONDS = 300.0


def webhook_secret() -> str:
    """What MLflow signs with, from the environment; "" where it does not call."""
    return os.environ.get(SECRET_VARIABLE, "")


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether MLflow sent this: its HMAC-SHA256 over delivery id, time and body, made less than OLDEST_SECONDS from
    `now` (seconds since 1970).
    """
    delivery, sent = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    scheme, _, signature = headers.get("x-mlflow-signature", "").partition(",")
    try:
        given, age = base64.b64decode(signature, validate=True), abs(now - int(sent))
    except (binascii.Error, OverflowError, ValueError):
        return False
    right = hmac.new(secret.encode(), f"{delivery}.{sent}.".encode() + body, hashlib.sha256).digest()
    return scheme == "v1" and age <= OLDEST_SECONDS and hmac.compare_digest(given, right)
