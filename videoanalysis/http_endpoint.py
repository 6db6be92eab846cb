"""An HTTP server for metrics. Its threads, and the time of every connection, are bounded, so that it always answers."""

import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from socketserver import TCPServer
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from videoanalysis.reloaded_files import ReloadedFiles

_MAX_CONNECTIONS = 16
_CONNECTION_SECONDS = 5.0
_SECONDS_BETWEEN_CHECKS = 0.5


@contextmanager
def serve(
    registry: CollectorRegistry,
    host: str,
    port: int,
    tls: ReloadedFiles[ssl.SSLContext] | None = None,
    connection_seconds: float = _CONNECTION_SECONDS,
) -> Iterator[int]:
    """Serves `registry` from threads of its own; yields the port, which the system chooses if `port` is 0."""
    server = _Server(host, port, tls, connection_seconds)
    server.set_app(make_wsgi_app(registry))
    thread = Thread(target=server.serve_forever, args=(_SECONDS_BETWEEN_CHECKS,), name="http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A scrape is not logged."""


class _Server(WSGIServer):
    """One thread for each connection, of which there are few: a new one closes the oldest beyond that.

    A connection is closed when its time is over, whether its client sends nothing, sends slowly or does not read.
    """

    request_queue_size = 128

    def __init__(
        self, host: str, port: int, tls: ReloadedFiles[ssl.SSLContext] | None, connection_seconds: float
    ) -> None:
        if host == "0.0.0.0" and socket.has_dualstack_ipv6():
            # As gRPC does: on every address of both families.
            host = "::"
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._tls = tls
        self._connection_seconds = connection_seconds
        # When each was opened, the oldest first.
        self._connections: OrderedDict[socket.socket, float] = OrderedDict()
        self._threads = ThreadPoolExecutor(_MAX_CONNECTIONS, "http")
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer resolves its own name, which takes seconds if DNS does not answer.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake waits for the client, so the thread of the connection does it.
            connection = self._tls.get().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections[request] = time.monotonic()
        if len(self._connections) > _MAX_CONNECTIONS:
            _disconnect(self._connections.popitem(last=False)[0])
        self._threads.submit(self._process, request, client_address)

    def _process(self, request: socket.socket, client_address: Any) -> None:
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client left, or its time was over
        finally:
            self._connections.pop(request, None)
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Called at least every 0.5 s while serving."""
        latest = time.monotonic() - self._connection_seconds
        for connection, opened in list(self._connections.items()):
            if opened < latest:
                _disconnect(connection)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            _disconnect(connection)
        self._threads.shutdown()


def _disconnect(connection: socket.socket) -> None:
    """Ends the reads and writes of the thread that serves it, which then closes it."""
    with suppress(OSError):
        # Shuts down the TCP socket and not TLS, which the thread uses at this moment.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
