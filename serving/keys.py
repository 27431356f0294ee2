"""Who may ask the service: a file of keys, which holds their hashes alone. `serving/keyring.py` writes it."""

import hashlib
import hmac
import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inpformer.config import build, require
from inpformer.errors import UserError
from serving.answers import LINE, RequestError

VARIABLE = "INPFORMER_KEYS"
CLIENT_VARIABLE = "INPFORMER_KEY"
# An identifier, by which a key is found, and 32 random bytes: nobody guesses them, or turns a plain hash of them round.
KEY = re.compile(r"inp_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
NAME_LENGTH = 100
LOOK_SECONDS = 1.0
LARGEST_FILE = 2**24
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Key:
    """`sha256` (hex) is of the whole key. With `line`, it is for that line alone; with `rate`, for so many pictures a
    second; with `expires`, until then.
    """

    id: str
    name: str
    sha256: str
    line: str | None = None
    rate: float | None = None
    expires: str | None = None

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"[0-9a-f]{12}", self.id)), "id", self.id, "12 hex digits")
        named = 0 < len(self.name) <= NAME_LENGTH and self.name.isprintable()
        require(named, "name", self.name, f"a text of up to {NAME_LENGTH} characters")
        # Not shown, as somebody may have put the key itself there.
        require(bool(re.fullmatch(r"[0-9a-f]{64}", self.sha256)), "sha256", "another text", "64 hex digits")
        require(self.line is None or bool(re.fullmatch(LINE, self.line)), "line", self.line, f"a name as in {LINE}")
        rate = self.rate is None or (self.rate > 0 and math.isfinite(self.rate))
        require(rate, "rate", self.rate, "above 0 pictures a second")
        right = "a time with its zone, such as 2027-01-31T00:00:00+00:00"
        require(self.expires is None or _time(self.expires) is not None, "expires", self.expires, right)

    def is_over(self, now: datetime) -> bool:
        """Whether it has expired."""
        end = None if self.expires is None else _time(self.expires)
        return end is not None and end <= now


class Guest:
    """Who was let in: anybody, or who has a key, perhaps of one line."""

    def __init__(self, line: str | None = None, rate: "Rate | None" = None) -> None:
        self._line, self._rate = line, rate

    def of(self, line: str | None) -> str | None:
        """The line that a picture is of, where the request names this one. Raises RequestError (403) for one that the
        key is not for.
        """
        if self._line is not None and line not in (None, self._line):
            raise RequestError(403, f"this key is for the line {self._line} alone: name that line, or none.")
        return self._line or line

    def brought(self, pictures: int) -> None:
        """A request had more than the one picture that it was let in with."""
        if self._rate is not None:
            self._rate.take(pictures - 1)


class Rate:
    """So many pictures a second: what a second brings may come at once, and more is owed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left, self._at = max(1.0, rate), time.monotonic()

    def refuse(self) -> None:
        """Raises RequestError (429) where the next picture comes too soon."""
        now = time.monotonic()
        self._left = min(max(1.0, self._rate), self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            seconds = math.ceil((1 - self._left) / self._rate)
            reason = f"this key is for {self._rate:g} pictures a second: send the next one in {seconds} s."
            raise RequestError(429, reason, retry_after=seconds)

    def take(self, pictures: int) -> None:
        """So many were let in."""
        self._left -= pictures


class Keys:
    """The keys of a file, which is read again when it changes."""

    def __init__(self, file: Path) -> None:
        """Raises UserError for a file that is missing or holds something else."""
        self._file = file
        self._stamp = _stamp(file)
        self._keys = read_keys(file)
        self._rates = _rates(self._keys, {}, {})
        self._look_at = time.monotonic() + LOOK_SECONDS

    def let_in(self, authorization: str | None) -> Key:
        """The key of a request, by its header. Raises RequestError (401) where that has none, or one that is unknown or
        expired.
        """
        self._look()
        scheme, _, given = (authorization or "").partition(" ")
        found = KEY.fullmatch(given.strip())
        if scheme.lower() != "bearer" or found is None:
            raise RequestError(401, "this service asks for a key: send it as the header `Authorization: Bearer KEY`.")
        key = self._keys.get(found[1])
        if key is None or not hmac.compare_digest(hashed(given.strip()), key.sha256):
            raise RequestError(401, "the key is unknown: ask whoever runs the service for another.")
        if key.is_over(datetime.now(UTC)):
            raise RequestError(401, f"the key {key.id} has expired: ask whoever runs the service for another.")
        return key

    def admit(self, authorization: str | None) -> Guest:
        """Lets a request with a picture in. Raises RequestError: 401 as `let_in`, 429 where the key's pictures come too
        fast.
        """
        key = self.let_in(authorization)
        rate = self._rates.get(key.id)
        if rate is not None:
            rate.refuse()
            rate.take(1)
        return Guest(key.line, rate)

    def _look(self) -> None:
        """A file that is gone or broken leaves the keys as they were: a slip of the pen must not stop a line."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = read_keys(self._file)
        except UserError as error:
            log.error("the keys stay as they were: %s", error)
            return
        self._rates = _rates(keys, self._keys, self._rates)
        self._keys = keys


def read_keys(file: Path) -> dict[str, Key]:
    """By identifier. Raises UserError for a file that is missing or holds something else."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE)
        found = json.loads(content)["keys"]
        keys = [build(Key, values, f"{file}: keys[{number}]") for number, values in enumerate(found)]
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): make it with `python -m serving.keyring add`."
        ) from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(
            f'{file} is no JSON object with a list "keys": make it with `python -m serving.keyring add`.'
        ) from None
    return {key.id: key for key in keys}


def authorization() -> dict[str, str]:
    """The header by which a client of this project is let in, if its environment holds a key."""
    key = os.environ.get(CLIENT_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def hashed(key: str) -> str:
    """What a file holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _rates(keys: Mapping[str, Key], before: Mapping[str, Key], rates: Mapping[str, Rate]) -> dict[str, Rate]:
    """Of those keys that have one; of a key whose rate is as before, what it owes stays."""
    return {
        id: rates[id] if id in rates and before[id].rate == key.rate else Rate(key.rate)
        for id, key in keys.items()
        if key.rate is not None
    }


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
