"""Who does something: a claim, unless the server asks for a password or entries are signed."""

import getpass
import os
import socket

LONGEST = 200  # characters of a name in an entry


def actor() -> str:
    """The user that the MLflow server is told, else user@host."""
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http") and (
        name := os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    ):
        return _plain(name)
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = f"uid{os.getuid()}"
    return _plain(f"{user}@{host()}")


def host() -> str:
    """This machine's name."""
    return _plain(socket.gethostname())


def same_person(one: str, other: str) -> bool:
    """Whether two actors may be one person: the names before the @ are the same, on whichever machine."""
    return one.partition("@")[0].casefold() == other.partition("@")[0].casefold()


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:LONGEST]
