"""The log of a call: trace, stream and caller on every line, and one line when it has ended.

A call without a trace gets a new trace id, which the services that it calls log too.
"""

import secrets
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import structlog

from videoanalysis import tracing
from videoanalysis.errors import ServiceError
from videoanalysis.logs import causes

_TRACEPARENT = "traceparent"
_STREAM_ID = "videoanalysis-stream-id-bin"
_MAX_STREAM_ID_BYTES = 1000

Metadata = Iterable[tuple[str, Any]]

_trace_id: ContextVar[str] = ContextVar("trace_id")
_facts: ContextVar[dict[str, object]] = ContextVar("facts")

_log = structlog.get_logger()


def begin(peer: str, metadata: Metadata) -> None:
    """Binds the current trace, or a new one, to the lines of this task, with the stream and the caller's host."""
    given = dict(metadata)
    trace_id = tracing.trace_id() or secrets.token_hex(16)
    _trace_id.set(trace_id)
    _facts.set({})
    structlog.contextvars.bind_contextvars(trace_id=trace_id, caller=host_of(peer))
    if isinstance(stream_id := given.get(_STREAM_ID), bytes):
        bind(stream_id=stream_id[:_MAX_STREAM_ID_BYTES].decode(errors="replace"))


def bind(*, stream_id: str | None = None, caller: str | None = None) -> None:
    """Adds the stream or the caller to every further line of the call, including the last one."""
    known = {"stream_id": stream_id, "caller": caller}
    if stream_id:
        tracing.annotate(stream_id=stream_id)
    structlog.contextvars.bind_contextvars(**{name: value for name, value in known.items() if value})


def note(**facts: object) -> None:
    """Adds facts to the last line of the call; those that are functions are called then."""
    _facts.get({}).update(facts)


def stages(**seconds: float) -> None:
    """Adds the seconds that the call spent in each of its stages."""
    note(stage_seconds={name: round(max(0.0, value), 4) for name, value in seconds.items()})


def passed_on() -> Sequence[tuple[str, str | bytes]]:
    """Metadata for calls to other services, so that they log the same trace and stream."""
    metadata: list[tuple[str, str | bytes]] = [*tracing.outgoing()]
    if not metadata and (trace_id := _trace_id.get(None)) is not None:
        # Not sampled.
        metadata.append((_TRACEPARENT, f"00-{trace_id}-{secrets.token_hex(8)}-00"))
    if stream_id := structlog.contextvars.get_contextvars().get("stream_id"):
        metadata.append((_STREAM_ID, str(stream_id).encode(errors="replace")[:_MAX_STREAM_ID_BYTES]))
    return metadata


def ended(method: str, status: str, seconds: float, failure: BaseException | None) -> None:
    """The one line of a call."""
    facts = {name: fact() if callable(fact) else fact for name, fact in _facts.get({}).items()}
    if isinstance(failure, ServiceError):
        facts |= {"reason": failure.reason_name, "error": failure.message}
        if failure.field is not None:
            facts["field"] = failure.field
        if chain := causes(failure):
            facts["causes"] = chain
        if failure.details:
            facts["details"] = failure.details
    log = _log.warning if status in ("UNAVAILABLE", "INTERNAL") else _log.info
    log("call ended", method=method.removeprefix("/"), status=status, seconds=round(seconds, 4), **facts)


def host_of(peer: str) -> str:
    """The host in gRPC's "ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000" or "unix:/path"."""
    address = unquote(peer).partition(":")[2]
    return address.rpartition(":")[0] or address
