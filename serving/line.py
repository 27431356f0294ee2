"""The line before the model: who would wait too long is told so at once."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from serving.answers import RequestError

# Uploads that are held at a time, of up to `max_upload_mb` each.
MOST_WAITING = 64
# The share of the latest picture in what one is expected to take.
LATEST = 0.1


class Line:
    """Counts those who wait, and measures what a view of a picture takes. For one thread, that of the event loop."""

    def __init__(self) -> None:
        self._waiting = 0
        self._seconds_a_picture = self._seconds_a_view = 0.0

    @property
    def length(self) -> int:
        """How many wait, or have the model."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether nobody else is let in."""
        return self._waiting >= MOST_WAITING

    @contextmanager
    def place(self, seconds: float) -> Iterator[None]:
        """In the line. Raises RequestError (503) where the answer would come after `seconds`."""
        expected = self._waiting * self._seconds_a_picture
        if self.is_full or (self._waiting and expected + self._seconds_a_picture > seconds):
            reason = f"{self._waiting} pictures wait for the model, which takes {expected:.1f} s: try again then."
            raise RequestError(503, reason, retry_after=max(1, math.ceil(expected)), full=True)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def refuse_long(self, views: int, seconds: float) -> None:
        """Raises RequestError (413) for a picture of so many `views` that they take longer than `seconds`."""
        if views > 1 and (expected := views * self._seconds_a_view) > seconds:
            reason = (
                f"the picture has {views:,} tiles, which take {expected:.0f} s: more than the {seconds:.0f} s left."
            )
            raise RequestError(413, reason)

    def took(self, seconds: float, views: int) -> None:
        """What the model took for a picture."""
        self._seconds_a_picture = _smoothed(self._seconds_a_picture, seconds)
        self._seconds_a_view = _smoothed(self._seconds_a_view, seconds / views)


def _smoothed(before: float, latest: float) -> float:
    return before + LATEST * (latest - before) if before else latest
