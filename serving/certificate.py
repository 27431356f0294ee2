"""The certificate of a server that speaks TLS."""

import ssl

from inpformer.errors import UserError


def check_certificate(certificate: str | None, private_key: str | None) -> None:
    """Raises UserError where one is given without the other, and for files (PEM) that are no certificate and its key:
    the server itself would start, and refuse every client.
    """
    if (certificate is None) != (private_key is None):
        raise UserError("--certificate and --private-key belong together: give both, or neither.")
    if certificate is None:
        return
    try:
        # A key with a password is refused, where openssl would ask for it at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password=lambda: b"")
    except OSError as error:  # ssl's own are among them
        reason = error.strerror or str(error)
        raise UserError(
            f"--certificate {certificate} and --private-key {private_key} cannot be used ({reason}): both must be PEM "
            "files, and the key that of the certificate, without a password."
        ) from None
