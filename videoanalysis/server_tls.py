"""TLS of a server's ports, from PEM files that are read again when they are rotated."""

import ssl

import grpc

from videoanalysis.reloaded_files import ReloadedFiles
from videoanalysis.tls import TlsFiles


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

    def http_context(self) -> ReloadedFiles[ssl.SSLContext]:
        """Raises InvalidFile."""
        return ReloadedFiles(self._setting, self._files.paths, self._http_context)

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        cert, key, ca = self._files.read()
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)

    def _http_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._files.load_into(context)
        if self._files.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context
