"""Where the bridge stands."""

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from inpformer.errors import UserError


@dataclass(frozen=True)
class Bridge:
    """It listens at `listen`, HOST:PORT, and asks the `service`, whose uploads are of `max_upload_mb`. With files (PEM)
    of a `certificate` and its `key` it speaks TLS.
    """

    listen: str
    service: str
    max_upload_mb: float
    certificate: str | None
    key: str | None

    def __post_init__(self) -> None:
        parts = urlsplit(f"//{self.listen}")
        try:
            known = bool(parts.hostname and parts.port) and parts.netloc == self.listen and not parts.username
        except ValueError:  # a port that is none
            known = False
        if not known:
            raise UserError(f"--listen is {self.listen}: it must be HOST:PORT, such as 127.0.0.1:8001.")
        if urlsplit(self.service).scheme not in ("http", "https"):
            raise UserError(f"--service is {self.service}: it must be an address such as http://127.0.0.1:8000.")
        if not 0 < self.max_upload_mb <= 1024:  # nor no number
            raise UserError(f"--max-upload-mb is {self.max_upload_mb:g}: it must be above 0 and at most 1024.")
        if (self.certificate is None) != (self.key is None):
            raise UserError("--certificate and --key belong together: give both, or neither.")
        if self.certificate is not None:
            _check_pair(self.certificate, self.key)


def _check_pair(certificate: str, key: str | None) -> None:
    """gRPC itself would start, and refuse every client."""
    try:
        # A key with a password is refused, where openssl would ask for it at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as error:  # ssl's own are among them
        reason = error.strerror or str(error)
        raise UserError(
            f"--certificate {certificate} and --key {key} cannot be used ({reason}): both must be PEM files, and the "
            "key that of the certificate, without a password."
        ) from None
