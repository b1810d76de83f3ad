"""The certificate and the key with which the server speaks HTTPS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from xraylab.errors import ParamsError


@dataclass(frozen=True)
class Tls:
    """PEM files: the certificate, with those of its issuers after it, and its private key."""

    certificate: Path
    key: Path

    @classmethod
    def checked(cls, certificate: Path | None, key: Path | None) -> "Tls | None":
        """None without both. Errors: ParamsError for one alone, and for files that are no such pair."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise ParamsError("--certificate and --key belong together: give both, or neither")
        for option, path in (("--certificate", certificate), ("--key", key)):
            if not path.is_file():
                raise ParamsError(f"{option} {path}: there is no such file")
        try:
            # with a passphrase at hand OpenSSL does not ask the terminal for one
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise ParamsError(
                f"--certificate {certificate} and --key {key} are no certificate in PEM with its key, without a "
                f"passphrase ({reason})"
            ) from None
        return cls(certificate, key)
