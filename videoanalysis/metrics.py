"""Metrics that every service has, and the endpoint where Prometheus reads them.

A process has one registry, the default one of prometheus_client, which also has CPU, memory and open files. Metrics of
one service alone are in the `metrics.py` of that service.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import grpc
import structlog
from google.protobuf import descriptor_pool
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics

from videoanalysis.http_endpoint import serve
from videoanalysis.settings import ServiceSettings

# Otherwise each counter has a second series with its creation time.
disable_created_metrics()  # type: ignore[no-untyped-call]

_log = structlog.get_logger()

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
# From a response out of memory to the longest video.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

# Names and codes are those of go-grpc-prometheus, so that public dashboards work.
STARTED = Counter("grpc_server_started_total", "Calls started.", _METHOD)
HANDLED = Counter("grpc_server_handled_total", "Calls ended, by status.", (*_METHOD, "grpc_code"))
HANDLING_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Duration of calls, to the last message of a stream.",
    _METHOD,
    buckets=_SECONDS,
)

WAITING = Gauge("videoanalysis_waiting", "Requests waiting for a slot of this process.", ["service"])
RUNNING = Gauge("videoanalysis_running", "Requests holding a slot of this process.", ["service"])
SLOTS = Gauge("videoanalysis_slots", "Slots of this process: how many requests run concurrently.", ["service"])
REFUSED = Counter("videoanalysis_refused_total", "Calls answered with RESOURCE_EXHAUSTED.", ["grpc_service", "reason"])

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


def method_labels(method: str, *, client_streaming: bool, server_streaming: bool) -> tuple[str, str, str]:
    """The labels of `method`, "/package.Service/Method"."""
    service, _, name = method.removeprefix("/").rpartition("/")
    return _TYPES[client_streaming, server_streaming], service, name


def code_label(code: grpc.StatusCode) -> str:
    """RESOURCE_EXHAUSTED as ResourceExhausted."""
    match code:
        case grpc.StatusCode.OK:
            return "OK"
        case grpc.StatusCode.CANCELLED:
            return "Canceled"
    return "".join(word.capitalize() for word in code.name.split("_"))


@contextmanager
def listen(settings: ServiceSettings, service_names: Sequence[str]) -> Iterator[int | None]:
    """Serve the registry at /metrics if the settings have a port for it, with the calls of `service_names` at zero.

    Yields the port or None. A thread of its own serves it from before the service is ready until after it has drained.
    """
    _start_at_zero(service_names)
    if settings.metrics_port is None:
        yield None
        return
    tls = settings.server_tls.http_context() if settings.server_tls and settings.metrics_tls else None
    with serve(REGISTRY, settings.host, settings.metrics_port, tls) as port:
        _log.info("metrics endpoint listens", host=settings.host, port=port, path="/metrics")
        yield port


def _start_at_zero(service_names: Sequence[str]) -> None:
    """Publish the calls of these services before the first call: a rate needs a zero to start from."""
    for name in service_names:
        # Generated stubs register their descriptors; a service without them has no series before its first call.
        with suppress(KeyError):
            service = descriptor_pool.Default().FindServiceByName(name)
            for method in service.methods:
                labels = method_labels(
                    f"/{name}/{method.name}",
                    client_streaming=method.client_streaming,
                    server_streaming=method.server_streaming,
                )
                STARTED.labels(*labels)
                HANDLING_SECONDS.labels(*labels)
                for code in grpc.StatusCode:
                    HANDLED.labels(*labels, code_label(code))
