"""Where the bridge stands."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from inpformer.errors import UserError
from serving.asking import check_service
from serving.certificate import check_certificate


@dataclass(frozen=True)
class Bridge:
    """It listens at `listen`, HOST:PORT, and asks the `service`, whose uploads are of `max_upload_mb`. With files (PEM)
    of a `certificate` and its `private_key` it speaks TLS.
    """

    listen: str
    service: str
    max_upload_mb: float
    certificate: str | None
    private_key: str | None

    def __post_init__(self) -> None:
        parts = urlsplit(f"//{self.listen}")
        try:
            known = bool(parts.hostname and parts.port) and parts.netloc == self.listen and not parts.username
        except ValueError:  # a port that is none
            known = False
        if not known:
            raise UserError(f"--listen is {self.listen}: it must be HOST:PORT, such as 127.0.0.1:8001.")
        check_service(self.service)
        if not 0 < self.max_upload_mb <= 1024:  # nor no number
            raise UserError(f"--max-upload-mb is {self.max_upload_mb:g}: it must be above 0 and at most 1024.")
        check_certificate(self.certificate, self.private_key)
