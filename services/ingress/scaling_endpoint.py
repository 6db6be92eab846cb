"""The demand over HTTP, where autoscalers read it: `GET /scaling` in Prometheus' text format."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry

from services.ingress.admission import Demand
from services.ingress.metrics import export_demand, queue_depth
from videoanalysis.http_endpoint import serve
from videoanalysis.reloaded_files import ReloadedFiles

_log = structlog.get_logger()


@contextmanager
def scaling_endpoint(
    demand: Demand, host: str, port: int, tls: ReloadedFiles[ssl.SSLContext] | None = None
) -> Iterator[int]:
    """Yields the port; `port` 0 lets the system choose.

    Served from a thread of its own, so also while the event loop is busy and while the ingress drains. The registry
    holds three gauges alone: the cost of an answer does not depend on the load.
    """
    registry = CollectorRegistry()
    export_demand(demand, queue_depth(registry))
    with serve(registry, host, port, tls) as served:
        _log.info("scaling endpoint listens", port=served, path="/scaling")
        yield served
