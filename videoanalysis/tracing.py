"""Traces of OpenTelemetry: one for each analysis, from its caller through the ingress to the encoders and decoders.

Without an exporter in the OTEL_ variables nothing is recorded, and the context of a caller is passed on as it came.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    # Slow to import, and not every part that is traced needs it.
    import grpc

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_MISSING = (
    "traces: an OTEL_EXPORTER_OTLP endpoint is set, but OpenTelemetry's SDK or its OTLP exporter is not installed: "
    "pip install 'videoanalysis[tracing]'"
)
# The statuses for which the conventions call a server's span an error.
_SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

_tracer = trace.get_tracer("videoanalysis")
_propagator = TraceContextTextMapPropagator()


def configure(service: str) -> None:
    """Exports spans to the endpoint in the OTEL_ variables, by OTLP over gRPC; exits if the exporter is not installed.

    The SDK reads OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES and the other variables itself.
    """
    is_off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    if is_off or not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        sys.exit(_MISSING)
    name = os.environ.get("OTEL_SERVICE_NAME") or f"videoanalysis-{service}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def server_span(method: str, metadata: Iterable[tuple[str, Any]]) -> Iterator[Span]:
    """The span of a call of `method`, such as /package.Service/Method, within the trace of its caller."""
    carrier = {key: value for key, value in metadata if key in _propagator.fields and isinstance(value, str)}
    service, _, name = method.lstrip("/").rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    context = _propagator.extract(carrier)
    with _tracer.start_as_current_span(
        method.lstrip("/"), context, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def end_call(span: Span, code: "grpc.StatusCode") -> None:
    """The call of a server's span ended with `code`."""
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code.name in _SERVER_ERRORS:
        span.set_status(Status(StatusCode.ERROR, code.name))


@contextmanager
def span(name: str, **attributes: str | int | float) -> Iterator[Span]:
    """A part of the current span's work; attributes are under `videoanalysis.`."""
    with _tracer.start_as_current_span(name, attributes=_named(attributes)) as started:
        yield started


def start(name: str, start_ns: int, parent: Span | None = None) -> Span:
    """A span that its owner ends, within `parent` or the current one; `start_ns` counts from the Unix epoch."""
    context = trace.set_span_in_context(parent) if parent is not None else None
    return _tracer.start_span(name, context, start_time=start_ns)


def use(span: Span) -> Any:
    """A context manager within which `span` is the current one."""
    return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)


def annotate(**attributes: str | int | float) -> None:
    """Attributes of the current span, under `videoanalysis.`."""
    trace.get_current_span().set_attributes(_named(attributes))


def outgoing() -> tuple[tuple[str, str], ...]:
    """The metadata with which a call joins the current trace."""
    if not trace.get_current_span().get_span_context().is_valid:
        return ()
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())


def trace_id() -> str:
    """Of the current trace, 32 hexadecimal digits; empty if there is none."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def _named(attributes: dict[str, str | int | float]) -> dict[str, str | int | float]:
    return {f"videoanalysis.{name}": value for name, value in attributes.items()}
