"""An interceptor around every call of a service: limits on callers, metrics, log, and errors as statuses."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import Any, Self

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.trace import INVALID_SPAN, Span

from videoanalysis import call_log, metrics, tracing
from videoanalysis.errors import DeadlineExceeded, InvalidInput, Overloaded, ServiceError
from videoanalysis.status import status_code, trailing_metadata
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# gRPC's default limit.
MAX_METADATA_BYTES = 8 << 10

_OWN_METHODS = "/videoanalysis."
# HPACK counts 32 bytes for an entry in addition to its name and value.
_METADATA_ENTRY_BYTES = 32
_CANCELLATION_SECONDS = 0.01
_FLUSH_SECONDS = 2.0

# Surrounds a call of a method; raises ServiceError to refuse it before its request is read.
Guard = Callable[[str, grpc.aio.ServicerContext], AbstractAsyncContextManager[None]]

_log = structlog.get_logger()


@asynccontextmanager
async def accept(_method: str, _context: grpc.aio.ServicerContext) -> AsyncGenerator[None]:
    """The guard that accepts every call."""
    yield


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Runs every handler within limits and inside `guard`, and answers its errors.

    The first message of a call arrives within `first_message_seconds`, a write ends within `write_seconds`, and calls
    from one host are at most `max_calls_per_peer`. Handlers are coroutines or async generators; one that streams its
    answers may be either. Calls of videoanalysis methods are counted, timed, and finished before the server stops.
    """

    def __init__(
        self,
        *,
        first_message_seconds: float = 5.0,
        write_seconds: float = 30.0,
        max_calls_per_peer: int = 1024,
        guard: Guard = accept,
    ) -> None:
        self._guard = guard
        self._first_message_seconds = first_message_seconds
        self._write_seconds = write_seconds
        self._max_calls_per_peer = max_calls_per_peer
        self._calls_by_peer: Counter[str] = Counter()
        self._running = 0
        self._all_ended = asyncio.Event()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        # For a unary request gRPC waits without limit for the message, and answers one that it cannot parse with the
        # name of a Python class. Reading the request as a stream avoids both.
        async def requested(messages: AsyncIterator[bytes]) -> Any:
            requests = _Requests(messages, handler.request_deserializer, self._first_message_seconds)
            return requests if handler.request_streaming else await requests.only()

        async def answer_once(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> Any:
            async with self._call(method, handler, context):
                return await behaviour(await requested(messages), context)

        async def answer_stream(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
            async with self._call(method, handler, context):
                bounded = _BoundedContext(context, self._write_seconds)
                answers = behaviour(await requested(messages), bounded)
                if not hasattr(answers, "__aiter__"):
                    await answers
                    return
                async with aclosing(answers):
                    async for answer in answers:
                        await bounded.write(answer)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(answer_stream, None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(answer_once, None, handler.response_serializer)

    async def stop(self, server: grpc.aio.Server, grace_seconds: float) -> None:
        """Stops `server`: videoanalysis calls have the grace period to finish, nothing else delays the stop.

        A client that does not read its answer, or does not acknowledge the end of its connection, delays it by 2 s.
        """
        stopping = asyncio.create_task(server.stop(grace_seconds))
        try:
            if self._running:
                self._all_ended.clear()
                ended = asyncio.create_task(self._all_ended.wait())
                await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
            await asyncio.wait([stopping], timeout=_FLUSH_SECONDS)
        finally:
            stopping.cancel()
        await server.stop(None)

    @asynccontextmanager
    async def _call(
        self, method: str, handler: grpc.RpcMethodHandler, context: grpc.aio.ServicerContext
    ) -> AsyncGenerator[None]:
        failure: BaseException | None = None
        with _span(method, context) as span, self._running_call(method, handler) as ended:
            call_log.begin(context.peer(), context.invocation_metadata() or ())
            try:
                self._admit(context)
                async with self._guard(method, context):
                    yield
            except (Exception, asyncio.CancelledError) as error:
                failure = error
            code = _code(failure, context)
            ended(code, failure)
            tracing.end_call(span, code)
        # After the call was counted: a caller that does not read delays its status, too.
        if failure is not None:
            await _end(context, failure, method)

    @contextmanager
    def _running_call(
        self, method: str, handler: grpc.RpcMethodHandler
    ) -> Iterator[Callable[[grpc.StatusCode, BaseException | None], None]]:
        """Yields a function to call when the call has ended.

        Calls of health and reflection are neither counted nor logged nor awaited.
        """
        if not method.startswith(_OWN_METHODS):
            yield lambda _, __: None
            return
        labels = metrics.method_labels(
            method, client_streaming=handler.request_streaming, server_streaming=handler.response_streaming
        )
        metrics.STARTED.labels(*labels).inc()
        started = time.perf_counter()
        self._running += 1

        def ended(code: grpc.StatusCode, failure: BaseException | None) -> None:
            metrics.HANDLED.labels(*labels, metrics.code_label(code)).inc()
            call_log.ended(method, code.name, time.perf_counter() - started, failure)

        try:
            yield ended
        finally:
            metrics.HANDLING_SECONDS.labels(*labels).observe(time.perf_counter() - started)
            self._running -= 1
            if not self._running:
                self._all_ended.set()

    def _admit(self, context: grpc.aio.ServicerContext) -> None:
        """Counts the call until gRPC has sent its last message or the caller has left."""
        peer = context.peer().rpartition(":")[0]
        if self._calls_by_peer[peer] >= self._max_calls_per_peer:
            raise Overloaded(
                f"{self._max_calls_per_peer} calls of this host are open", reason=ErrorReason.TOO_MANY_CALLS
            )
        self._calls_by_peer[peer] += 1
        context.add_done_callback(lambda _: self._release(peer))
        sizes = (len(key) + len(value) + _METADATA_ENTRY_BYTES for key, value in context.invocation_metadata() or ())
        if (size := sum(sizes)) > MAX_METADATA_BYTES:
            raise InvalidInput(f"metadata: {size} bytes, at most {MAX_METADATA_BYTES} are accepted")

    def _release(self, peer: str) -> None:
        self._calls_by_peer[peer] -= 1
        if not self._calls_by_peer[peer]:
            del self._calls_by_peer[peer]


class _Requests:
    """The messages of a call, parsed; the first arrives in time or the call ends."""

    def __init__(
        self, messages: AsyncIterator[bytes], parse: Callable[[bytes], Any] | None, first_message_seconds: float
    ) -> None:
        self._messages = messages
        self._parse = parse
        self._seconds: float | None = first_message_seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                message = await anext(self._messages)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"request: no message arrived within {self._seconds:g} s", reason=ErrorReason.CALLER_TOO_SLOW
            ) from error
        self._seconds = None
        try:
            return self._parse(message) if self._parse else message
        except DecodeError as error:
            raise InvalidInput("request: not a protobuf message of the type that this method takes") from error

    async def only(self) -> Any:
        try:
            return await anext(self)
        except StopAsyncIteration as error:
            # When a caller leaves, the end of its messages arrives before the cancellation.
            await asyncio.sleep(_CANCELLATION_SECONDS)
            raise InvalidInput("request: the call ended without a message") from error


class _BoundedContext:
    """The context of a call, whose writes end in time. A caller that does not read ends its call."""

    def __init__(self, context: grpc.aio.ServicerContext, write_seconds: float) -> None:
        self._context = context
        self._write_seconds = write_seconds
        self._has_headers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                if not self._has_headers:
                    # Sent together with a message that is blocked, the initial metadata would block the status, too.
                    await self._context.send_initial_metadata(())
                    self._has_headers = True
                await self._context.write(message)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the caller has not read for {self._write_seconds:g} s", reason=ErrorReason.CALLER_TOO_SLOW
            ) from error


def _span(method: str, context: grpc.aio.ServicerContext) -> AbstractContextManager[Span]:
    if not method.startswith(_OWN_METHODS):
        return nullcontext(INVALID_SPAN)
    return tracing.server_span(method, context.invocation_metadata() or ())


def _code(failure: BaseException | None, context: grpc.aio.ServicerContext) -> grpc.StatusCode:
    """The status of a call that ended in this way."""
    if failure is None:
        return context.code() or grpc.StatusCode.OK
    if isinstance(failure, grpc.aio.AbortError):
        return context.code() or grpc.StatusCode.UNKNOWN
    if _caller_left(failure):
        is_late = context.time_remaining() == 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
    return status_code(failure) if isinstance(failure, ServiceError) else grpc.StatusCode.INTERNAL


def _caller_left(failure: BaseException) -> bool:
    """Whether gRPC has cancelled the handler, or is about to: a blocked write fails first, with InternalError."""
    if isinstance(failure, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(failure, grpc.aio.InternalError)


async def _end(context: grpc.aio.ServicerContext, failure: BaseException, method: str) -> None:
    """Answers ServiceError with its status; anything else is a bug, logged and answered as a bare INTERNAL.

    Always raises.
    """
    if isinstance(failure, grpc.aio.AbortError):
        raise failure
    if _caller_left(failure):
        raise asyncio.CancelledError("the caller left") from failure
    if isinstance(failure, Overloaded):
        metrics.REFUSED.labels(method.split("/")[1], failure.reason_name).inc()
    if isinstance(failure, ServiceError):
        await context.abort(status_code(failure), failure.message, trailing_metadata(failure))
    _log.error("bug", method=method, exc_info=failure)
    # Also for a cancellation that did not come from the caller, which would otherwise get no answer.
    await context.abort(grpc.StatusCode.INTERNAL, "internal error")
