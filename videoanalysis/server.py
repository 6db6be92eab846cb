"""The gRPC server of every service: health, reflection, error mapping, call metrics, draining."""

import asyncio
import inspect
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from videoanalysis import metrics
from videoanalysis.atomic_write import write_atomically
from videoanalysis.errors import Overloaded, ServiceError
from videoanalysis.settings import ServiceSettings
from videoanalysis.status import status_code, trailing_metadata

LIVENESS = "liveness"
READINESS = "readiness"

_log = structlog.get_logger()

_Coroutine = Callable[[Any, Any], Awaitable[Any]]
_Generator = Callable[[Any, Any], AsyncGenerator[Any, None]]
_CallContext = Callable[[grpc.aio.ServicerContext], AbstractAsyncContextManager[None]]

# Two servers that share a port by mistake must fail, not split the calls between them.
_OWN_PORT = ("grpc.so_reuseport", 0)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Health(health.aio.HealthServicer):
    """Health whose Watch streams can be ended: one left open would use up the whole grace period."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._ended = False

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        if self._ended:
            return
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait([watch])
        finally:
            watch.cancel()
            self._watches.discard(watch)
        if not watch.cancelled():
            watch.result()

    def end_watches(self) -> None:
        self._ended = True
        for watch in self._watches:
            watch.cancel()


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
    there is one. Entering starts to listen; leaving stops at once what is still running. `on_drain` is called when we
    begin to drain. Connections are closed `connection_seconds` after they were opened, give or take a tenth, or else
    never; calls in progress on them finish. Raises InvalidFile.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        service_names: list[str],
        on_drain: Callable[[], None] = lambda: None,
        connection_seconds: float | None = None,
    ) -> None:
        self._settings = settings
        self._service_names = service_names
        self._on_drain = on_drain
        self._credentials = settings.server_tls.grpc_credentials() if settings.server_tls else None
        self._health = _Health()
        self._stop_requested = asyncio.Event()
        self.grpc = grpc.aio.server(
            interceptors=[MetricsInterceptor(), ErrorInterceptor()],
            options=[
                _OWN_PORT,
                # Callers keep idle connections open; see `videoanalysis.channels`.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                *([("grpc.max_connection_age_ms", int(connection_seconds * 1000))] if connection_seconds else []),
            ],
        )
        # Probes do not use TLS, and are answered until the drain ends.
        self._health_grpc = grpc.aio.server(options=[_OWN_PORT])
        for server in (self.grpc, self._health_grpc):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self.grpc, pool=_MethodLookup(descriptor_pool.Default()))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop_requested.set)
        await self._health.set(LIVENESS, _SERVING)
        await self.set_ready(False)
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

    async def set_ready(self, ready: bool) -> None:
        """Sets the health status that load balancers and callers check."""
        for name in ("", READINESS, *self._service_names):
            await self._health.set(name, _SERVING if ready else _NOT_SERVING)

    async def serve_until_terminated(self) -> None:
        """Ready until SIGTERM or SIGINT; then finishes the calls in progress within the grace period."""
        await self.set_ready(True)
        await self._stop_requested.wait()
        _log.info("draining", grace_seconds=self._settings.grace_seconds)
        self._on_drain()
        await self.set_ready(False)
        await asyncio.sleep(self._settings.drain_delay_seconds)
        self._health.end_watches()
        await self.grpc.stop(self._settings.grace_seconds)
        _log.info("stopped")


def exit_on_signals() -> None:
    """Ends at once on a signal, also as process 1, which ignores SIGTERM. A Server that listens drains instead."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _frame: os._exit(128 + number))


class _Interceptor(grpc.aio.ServerInterceptor):
    """Runs each call of a videoanalysis method inside `around`; health and reflection are passed through.

    Handlers are coroutines or async generators; one that streams its answers may be either.
    """

    def around(self, call: "_Call") -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/videoanalysis."):
            return handler
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        form = handler.request_streaming, handler.response_streaming

        def around(context: grpc.aio.ServicerContext) -> AbstractAsyncContextManager[None]:
            return self.around(_Call(method, *form, context))

        guard = _guard_generator if inspect.isasyncgenfunction(behaviour) else _guard_coroutine
        return _HANDLERS[form](guard(behaviour, around), handler.request_deserializer, handler.response_serializer)


@dataclass(frozen=True, slots=True)
class _Call:
    method: str  # "/package.Service/Method"
    client_streaming: bool
    server_streaming: bool
    context: grpc.aio.ServicerContext


_HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _guard_coroutine(behaviour: _Coroutine, around: _CallContext) -> _Coroutine:
    async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
        async with around(context):
            return await behaviour(request, context)

    return guarded


def _guard_generator(behaviour: _Generator, around: _CallContext) -> _Generator:
    async def guarded(request: Any, context: grpc.aio.ServicerContext) -> AsyncGenerator[Any, None]:
        async with around(context), aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return guarded


class MetricsInterceptor(_Interceptor):
    """Counts and times calls, a stream until its last message. Precedes ErrorInterceptor, which sets the status."""

    @asynccontextmanager
    async def around(self, call: _Call) -> AsyncGenerator[None, None]:
        labels = metrics.method_labels(
            call.method, client_streaming=call.client_streaming, server_streaming=call.server_streaming
        )
        metrics.STARTED.labels(*labels).inc()
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = _code_after(error, call.context)
            raise
        else:
            code = call.context.code() or code
        finally:
            metrics.HANDLED.labels(*labels, metrics.code_label(code)).inc()
            metrics.HANDLING_SECONDS.labels(*labels).observe(time.perf_counter() - started)


def _code_after(error: BaseException, context: grpc.aio.ServicerContext) -> grpc.StatusCode:
    """The status of a call that ended with `error` before one was set: gRPC cancels calls whose caller has left."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        is_late = context.time_remaining() == 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
    return context.code() or grpc.StatusCode.UNKNOWN


class ErrorInterceptor(_Interceptor):
    """Ends a call that raised ServiceError with its status; anything else is logged and answered as a bare INTERNAL."""

    @asynccontextmanager
    async def around(self, call: _Call) -> AsyncGenerator[None, None]:
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            await _end(call.context, error, call.method)


async def _end(context: grpc.aio.ServicerContext, error: BaseException, method: str) -> None:
    """Ends the call that raised `error`; always raises."""
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    if cancelled or isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.aio.InternalError):
        # A blocked write fails in this way when its caller leaves, before gRPC cancels the handler.
        raise asyncio.CancelledError("the caller left during a write") from error
    if isinstance(error, Overloaded):
        metrics.REFUSED.labels(method.split("/")[1], error.reason_name).inc()
    if isinstance(error, ServiceError):
        code = status_code(error)
        # Refusals come in masses under overload; the counter is enough.
        log = _log.debug if isinstance(error, Overloaded) else _log.info
        log("call failed", method=method, code=code.name, reason=error.reason_name, error=error.message)
        await context.abort(code, error.message, trailing_metadata(error))
    _log.error("bug", method=method, exc_info=error)
    # Also for a cancellation that did not come from the caller, who would otherwise never get an answer.
    await context.abort(grpc.StatusCode.INTERNAL, "internal error")
