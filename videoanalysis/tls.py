"""PEM files of TLS, checked, and the credentials of a channel."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: an own certificate chain and its key, and the certificate authorities (CAs) of the other side."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.cert, self.key, self.ca) if path is not None]

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises ValueError unless every file can be used and the key is that of the certificate."""
        if self.cert is not None:
            _load_own(context, self.cert, self.key)
        if self.ca is not None:
            _load_ca(context, self.ca)

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The contents of certificate, key and CAs; raises ValueError or OSError."""
        self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return _content(self.cert), _content(self.key), _content(self.ca)


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Without CAs, servers are verified with the public ones that gRPC comes with; raises OSError or ValueError."""
    cert, key, ca = files.read()
    return grpc.ssl_channel_credentials(ca, key, cert)


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


def _load_own(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        # With a password, so that an encrypted key fails and nothing waits for a person to type one.
        context.load_cert_chain(cert, key, password="")
    except FileNotFoundError as error:
        raise ValueError(f"{cert} or {key} does not exist") from error
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"{cert} and {key} are not a PEM certificate chain and its unencrypted key ({error})"
        ) from error


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{ca} holds no PEM certificate ({error})") from error
