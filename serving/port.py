"""Whether somebody listens where a server is to."""

import socket

from inpformer.errors import UserError


def check_free(host: str, port: int, options: str = "--host or --port") -> None:
    """Raises UserError where a server could not listen; it names the `options` that say where."""
    if not 0 < port < 65536:
        raise UserError(f"--port is {port}: it must be between 1 and 65535.")
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise UserError(f"cannot listen on {host}:{port} ({reason}): give another {options}.") from None
