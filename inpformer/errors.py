"""The one exception that is meant for a person, and what must not be told to one."""

import re


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do about it.

    Entry points print the message alone and exit with a non-zero status; they never show a traceback of it.
    """


class StaleFeaturesError(UserError):
    """Features that were stored are missing, damaged or of other weights: they have to be computed again."""


class BrokenScoreError(UserError):
    """A score is no finite number: the model is broken. Whoever needs a verdict on the part takes it for a FAIL."""


def without_password(text: str) -> str:
    """A text with the user and password of every address in it left out."""
    return re.sub(r"://[^/\s]*@", "://", text)
