"""Keys of clients, made by the command."""

import subprocess
import sys
from pathlib import Path

from inpformer.errors import UserError


def keyring(*arguments: str | Path) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "serving.keyring", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        assert "Traceback" not in done.stderr
        raise UserError(done.stderr)
    return done.stdout.strip()
