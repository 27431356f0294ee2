"""Bridges ask the service: what becomes of a picture, also where it has to be asked twice."""

import threading
import time
from typing import Any
from urllib.parse import urlsplit

from inpformer.errors import UserError

LATEST_ANSWER_SECONDS = 70.0  # later than the service's latest deadline
RETRY_SECONDS = 1.0
MAY_COME_TO_BE = (408, 429, 503, 504)
ERROR = "ERROR"
LARGEST_PICTURE = 64 * 2**20  # that a bridge takes from a line


def check_service(address: str) -> None:
    """Raises UserError for what is no address of a service."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna")  # what DNS could not ask for is a UnicodeError
        known = parts.scheme in ("http", "https") and host and b" " not in host and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise UserError(f"--service is {address}: it must be an address such as http://127.0.0.1:8000.")


def ask(
    service: str,
    picture: bytes,
    named: dict[str, str],
    patience: float,
    stopping: threading.Event,
    latest: float = LATEST_ANSWER_SECONDS,
) -> dict[str, Any] | None:
    """What becomes of a picture: the service's verdict, or why there is none, with the decision ERROR or what the
    service says instead; None where it was stopped before that is known.

    What may succeed later is asked again until `patience` seconds went by; an answer may take `latest` seconds. `named`
    are parameters of the request: category, part and others.
    """
    import requests
    from urllib3.exceptions import HTTPError  # of a redirect to what is no address, which requests lets through

    from serving.keys import authorization

    end = time.monotonic() + patience
    while True:
        try:
            answer = requests.post(
                f"{service}/v1/predict", params=named, data=picture, headers=authorization(), timeout=latest
            )
        except (requests.RequestException, HTTPError) as error:
            reason, status, wait = f"{service} does not answer ({type(error).__name__})", None, RETRY_SECONDS
        else:
            said = _said(answer)
            if answer.status_code == 200 and "decision" in said:
                return said
            status, reason = answer.status_code, str(said.get("error"))
            if status not in MAY_COME_TO_BE:
                return without_verdict(named, reason, status, str(said.get("decision") or ERROR))
            wait = _seconds(answer.headers.get("retry-after"))
        if time.monotonic() + wait > end:
            return without_verdict(named, reason, status)
        if stopping.wait(wait):
            return None


def without_verdict(named: dict[str, str], reason: str, status: int | None, decision: str = ERROR) -> dict[str, Any]:
    """What stands in a verdict's place."""
    return {**named, "decision": decision, "error": reason, "status": status}


def _said(answer: Any) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {"error": answer.text[:200]}


def _seconds(text: str | None) -> float:
    """Of a header Retry-After; dates are not read."""
    try:
        return min(60.0, max(RETRY_SECONDS, float(text or 0)))
    except ValueError:
        return RETRY_SECONDS
