from collections.abc import Iterator

import pytest

from tests.scaling import recorded
from tests.scaling.api_server import ApiServer, api_server


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A release at work: two ingress pods, of which one drains, five encoders, one decoder."""
    with api_server() as server:
        counts = {"ingress": 1, "encoder": 5, "decoder": 1}
        server.objects["Deployment"] = [recorded.deployment(service, n) for service, n in counts.items()]
        server.objects["HorizontalPodAutoscaler"] = [
            recorded.hpa("ingress", "1"),
            recorded.hpa("encoder", "1800m"),
            recorded.hpa("decoder", "2"),
        ]
        server.objects["ScaledObject"] = [recorded.scaled_object(service) for service in counts]
        server.objects["Pod"] = [
            recorded.pod("ingress", "a"),
            recorded.draining(recorded.pod("ingress", "b"), until="2026-05-04T10:08:00Z"),
            *(recorded.pod("encoder", str(index)) for index in range(5)),
            recorded.pod("decoder", "a"),
        ]
        server.scaling = {
            "va-ingress-a:9091": recorded.scaling(1, 5, 1),
            "va-ingress-b:9091": recorded.scaling(0, 4, 1),
        }
        sums = {"ingress": "1", "encoder": "9", "decoder": "2"}
        server.metrics = {f"scaledobject.keda.sh/name=va-{service}": value for service, value in sums.items()}
        yield server
