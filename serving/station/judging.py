"""What the service says of a picture that lies in the folder, which somebody may still be writing to."""

import os
import threading
import time
from typing import Any

from serving.answers import PART_LENGTH
from serving.asking import LARGEST_PICTURE, ask, without_verdict
from serving.station.folder import STILL_SECONDS, Picture, Stamp

UNREADABLE, TOO_LARGE = 400, 413
# A picture that the service cannot read is asked for again if it is written to within these.
UNREADABLE_SECONDS = 2.0
LOOK_SECONDS = 0.05
READY_SECONDS = 2.0


def judge(
    service: str, picture: Picture, category: str | None, patience: float, stopping: threading.Event
) -> dict[str, Any] | None:
    """The service's verdict, or why there is none, as `serving.asking.ask` says it; the part's name is the file's. None
    where it was stopped before that is known.
    """
    # A name may be no text at all.
    part = os.fsencode(picture.name).decode(errors="replace")[:PART_LENGTH]
    named = {"part": part} | ({} if category is None else {"category": category})
    end = time.monotonic() + patience
    try:
        while (left := end - time.monotonic()) > 0:
            before = picture.stamp()
            if before.size > LARGEST_PICTURE:
                return without_verdict(named, f"the file is larger than {LARGEST_PICTURE / 2**20:g} MB.", TOO_LARGE)
            answer = ask(service, picture.path.read_bytes(), named, left, stopping, latest=left)
            unreadable = answer is not None and answer.get("status") == UNREADABLE
            if not _is_written_to(picture, before, min(left, UNREADABLE_SECONDS) if unreadable else 0, stopping):
                return answer
    except OSError as error:
        return without_verdict(named, f"the file cannot be read ({error.strerror}).", UNREADABLE)
    return without_verdict(named, f"the file was written to for {patience:g} s.", UNREADABLE)


def is_ready(service: str) -> bool:
    """Whether it takes pictures."""
    import requests

    try:
        return requests.get(f"{service}/readyz", timeout=READY_SECONDS).ok
    except requests.RequestException:
        return False


def _is_written_to(picture: Picture, before: Stamp, seconds: float, stopping: threading.Event) -> bool:
    """Whether the file is another one than `before`, or becomes so within `seconds`."""
    end = time.monotonic() + seconds
    while picture.stamp() == before:
        if time.monotonic() >= end or stopping.wait(LOOK_SECONDS):
            return False
    stopping.wait(STILL_SECONDS)
    return True
