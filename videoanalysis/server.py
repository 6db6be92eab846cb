"""The gRPC server of every service: limits, health, reflection and draining."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, Self

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from videoanalysis.atomic_write import write_atomically
from videoanalysis.calls import MAX_METADATA_BYTES, CallInterceptor, Guard, accept
from videoanalysis.health import NOT_SERVING, SERVING, Health
from videoanalysis.settings import ServiceSettings

LIVENESS = "liveness"
READINESS = "readiness"

_log = structlog.get_logger()

_MAX_REQUEST_BYTES = 4 << 20  # gRPC's own limit
_SMALL_REQUEST_BYTES = 1 << 20
_MAX_PROBE_BYTES = 4 << 10

_OPTIONS: list[tuple[str, int]] = [
    # Two servers that share a port by mistake must fail, not split the calls between them.
    ("grpc.so_reuseport", 0),
    # Callers keep idle connections open, see `videoanalysis.channels`; faster pings close the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A caller that vanishes without closing its connection is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Above the accepted size, so that the refusal can name the reason.
    ("grpc.max_metadata_size", 4 * MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 4 * MAX_METADATA_BYTES),
]


class _MethodLookup:
    """A descriptor pool that finds methods by name as well: ghz looks up the method it calls through reflection."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


class Server:
    """A gRPC server that runs until SIGTERM or SIGINT and then drains.

    Health answers under `liveness`, `readiness` and the full name of every service, also on a port of its own where
    there is one. Entering starts to listen; leaving cancels the calls that still run. `on_drain` is called when the
    drain begins. Requests are at most `max_request_bytes` long.

    Connections are closed `connection_seconds` after they were opened, give or take a tenth, or else never; calls in
    progress on them have `call_seconds` to finish. Raises InvalidFile.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        service_names: list[str],
        on_drain: Callable[[], None] = lambda: None,
        *,
        guard: Guard = accept,
        max_request_bytes: int = _MAX_REQUEST_BYTES,
        connection_seconds: float | None = None,
        call_seconds: float = 3600,
    ) -> None:
        self._settings = settings
        self._service_names = service_names
        self._on_drain = on_drain
        self._credentials = settings.server_tls.grpc_credentials() if settings.server_tls else None
        self._health = Health()
        self._stop_requested = asyncio.Event()
        self._calls = CallInterceptor(
            first_message_seconds=settings.first_message_seconds,
            write_seconds=settings.write_seconds,
            max_calls_per_peer=settings.max_calls_per_peer,
            guard=guard,
        )
        options = [*_OPTIONS, *_limits(settings)]
        age = [("grpc.max_connection_age_ms", _milliseconds(connection_seconds))] if connection_seconds else []
        self.grpc = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                *options,
                *age,
                ("grpc.max_connection_age_grace_ms", _milliseconds(call_seconds)),
                ("grpc.max_receive_message_length", max_request_bytes),
                # Buffers that grow with a sender's bandwidth, to MiB for each call, serve large requests alone.
                ("grpc.http2.bdp_probe", int(max_request_bytes > _SMALL_REQUEST_BYTES)),
            ],
        )
        # Probes do not use TLS, and are answered until the drain ends.
        self._health_grpc = grpc.aio.server(
            interceptors=[self._calls], options=[*options, ("grpc.max_receive_message_length", _MAX_PROBE_BYTES)]
        )
        for server in (self.grpc, self._health_grpc):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self.grpc, pool=_MethodLookup(descriptor_pool.Default()))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop_requested.set)
        self._health.set([LIVENESS], SERVING)
        self.set_ready(False)
        address = self._settings.address(self._settings.port)
        if self._credentials is None:
            self.port = self.grpc.add_insecure_port(address)
        else:
            self.port = self.grpc.add_secure_port(address, self._credentials)
        self.health_port: int | None = None
        if self._settings.health_port is not None:
            self.health_port = self._health_grpc.add_insecure_port(self._settings.address(self._settings.health_port))
            await self._health_grpc.start()
        await self.grpc.start()
        if self._settings.address_file is not None:
            write_atomically(self._settings.address_file, self._settings.address(self.port).encode())
        _log.info("listening", host=self._settings.host, port=self.port, health_port=self.health_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.grpc.stop(0)
        await self._health_grpc.stop(0)

    def set_ready(self, ready: bool) -> None:
        """Sets the health status that load balancers and callers check."""
        self._health.set(["", READINESS, *self._service_names], SERVING if ready else NOT_SERVING)

    async def serve_until_terminated(self) -> None:
        """Ready until SIGTERM or SIGINT; then finishes the calls in progress within the grace period."""
        self.set_ready(True)
        await self._stop_requested.wait()
        _log.info("draining", grace_seconds=self._settings.grace_seconds)
        self._on_drain()
        self.set_ready(False)
        await asyncio.sleep(self._settings.drain_delay_seconds)
        self._health.end_watches()
        await self._calls.stop(self.grpc, self._settings.grace_seconds)
        _log.info("stopped")


def _limits(settings: ServiceSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.idle_connection_seconds)),
        # Of a connection, before which it has no calls: the TLS handshake and HTTP/2's first frame.
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.first_message_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def exit_on_signals() -> None:
    """Ends the process at once on SIGTERM or SIGINT, also as process 1; a Server that listens drains instead."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _frame: os._exit(128 + number))
