"""Processes of the service's own, which it talks to by their stdin and stdout."""

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]


def start(module: str) -> "subprocess.Popen[bytes]":
    """Starts `python -m module`."""
    # Where the packages are not installed, as in a Ray working_dir, they are found from here.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # Ctrl-C is for the service; with that their input ends
    )


def answers() -> BinaryIO:
    """For the process itself: what it answers on. What a library prints goes to stderr from now on."""
    file = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return file
