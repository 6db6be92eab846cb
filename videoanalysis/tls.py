"""TLS from PEM files that are read again when they are rotated: of servers, and of channels to them."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from videoanalysis.reloaded_files import ReloadedFiles


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: an own certificate chain and its key, and the certificate authorities (CAs) of the other side."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.cert, self.key, self.ca) if path is not None]

    def check(self) -> None:
        """Raises ValueError unless every file can be used and the key is that of the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.cert is not None:
            _load_own(context, self.cert, self.key)
        if self.ca is not None:
            _load_ca(context, self.ca)


class ServerTls:
    """TLS of the ports of one server. With CAs, callers must present a certificate that one of them has signed.

    Every handshake uses the files as they are then; connections that exist stay as they are.
    """

    def __init__(self, setting: str, files: TlsFiles) -> None:
        self._setting = setting
        self._files = files

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Raises InvalidFile."""
        configurations = ReloadedFiles(self._setting, self._files.paths, self._grpc_configuration)
        current = configurations.get()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            """Called at every handshake; None leaves the configuration."""
            nonlocal current
            previous, current = current, configurations.get()
            return None if current is previous else current

        return grpc.dynamic_ssl_server_credentials(
            current, changed, require_client_authentication=self._files.ca is not None
        )

    def http_context(self) -> "ReloadedFiles[ssl.SSLContext]":
        """Raises InvalidFile."""
        return ReloadedFiles(self._setting, self._files.paths, self._http_context)

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        self._files.check()
        cert, key, ca = (_content(path) for path in (self._files.cert, self._files.key, self._files.ca))
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)

    def _http_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._files.cert is not None:
            _load_own(context, self._files.cert, self._files.key)
        if self._files.ca is not None:
            _load_ca(context, self._files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Without CAs, servers are verified with the public ones that gRPC comes with; raises OSError or ValueError."""
    files.check()
    return grpc.ssl_channel_credentials(_content(files.ca), _content(files.key), _content(files.cert))


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


def _load_own(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        # With a password, so that an encrypted key fails and nothing waits for a person to type one.
        context.load_cert_chain(cert, key, password="")
    except FileNotFoundError as error:
        raise ValueError(f"{cert} or {key} does not exist") from error
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{cert} and {key} are not a PEM certificate chain and its unencrypted key ({error})") from error


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{ca} holds no PEM certificate ({error})") from error
