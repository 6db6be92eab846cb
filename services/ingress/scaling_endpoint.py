"""Where autoscalers read the demand: `GET /scaling`, in Prometheus' text format."""

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import structlog

from services.ingress.admission import Demand
from services.ingress.metrics import QUEUE_DEPTH, QUEUE_DEPTH_HELP

PATH = "/scaling"

_log = structlog.get_logger()


class ScalingEndpoint:
    """Answers while it is entered, from threads of its own: also while the event loop is busy, and while we drain.

    An answer costs the same whatever there is to do: it reads three numbers. `port` 0 lets the system choose.
    """

    def __init__(self, demand: Demand, host: str, port: int) -> None:
        class Handler(_Handler):
            def answer(self) -> bytes:
                return render(demand)

        self._server = _HttpServer(host, port, Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="scaling", daemon=True).start()
        _log.info("scaling endpoint listens", port=self.port, path=PATH)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def render(demand: Demand) -> bytes:
    depths = {"ingress": demand.ingress, "encoder": demand.encoder, "decoder": demand.decoder}
    samples = [f'{QUEUE_DEPTH}{{service="{service}"}} {depth}\n' for service, depth in depths.items()]
    return "".join([f"# HELP {QUEUE_DEPTH} {QUEUE_DEPTH_HELP}\n# TYPE {QUEUE_DEPTH} gauge\n", *samples]).encode()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    # Scalers of a large cluster may ask all at once.
    request_queue_size = 64

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        host = host.strip("[]")  # which gRPC wants around an IPv6 address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)


class _Handler(BaseHTTPRequestHandler):
    # Whoever connects and says nothing, or does not read, holds a thread no longer than this.
    timeout = 5

    def answer(self) -> bytes:
        raise NotImplementedError

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"only {PATH} is here")
            return
        body = self.answer()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scaler asks every few seconds."""
