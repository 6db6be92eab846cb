"""KEDA 2.20's metrics-api trigger in aggregate mode, configured by a rendered ScaledObject."""

import math
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.scraping import as_keda_reads


class TriggerError(Exception):
    """The ScaledObject is not Ready, and replicas stay as they are or fall back."""


def read(metadata: Mapping[str, str], slices: Iterable[Mapping[str, Any]]) -> float:
    """The value that the trigger gives for the EndpointSlices of the cluster.

    The host of the URL names the Service; its path is requested, its query is dropped. Its port is used if the
    EndpointSlices have it, otherwise the scheme's default. Addresses that do not answer with the value are omitted; it
    is an error if none answers.
    """
    assert metadata["aggregateFromKubeServiceEndpoints"] == "true"
    assert metadata["format"] == "prometheus"
    url = urlsplit(metadata["url"])
    service, namespace, *_ = (url.hostname or "").split(".")
    addresses = [
        (address, url.port if url.port in [port["port"] for port in item["ports"]] else 80)
        for item in slices
        if item["metadata"]["namespace"] == namespace
        and item["metadata"]["labels"]["kubernetes.io/service-name"] == service
        for endpoint in item["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    ]
    if not addresses:
        raise TriggerError("no endpoints URLs were given for the service name")
    values = []
    for address, port in addresses:
        try:
            with urllib.request.urlopen(f"{url.scheme}://{address}:{port}{url.path}", timeout=2) as answer:
                values.append(as_keda_reads(answer.read().decode(), metadata["valueLocation"]))
        except (OSError, KeyError):
            continue
    if not values:
        raise TriggerError(f"could not get any metric successfully from the {len(addresses)} provided endpoints")
    aggregate: dict[str, Callable[[list[float]], float]] = {
        "average": lambda values: sum(values) / len(values),
        "max": max,
        "min": min,
        "sum": sum,
    }
    return aggregate[metadata.get("aggregationType", "average")](values)


def replicas(value: float, spec: Mapping[str, Any]) -> int:
    """The replicas that KEDA's HPA wants, without stabilization, policies or limits."""
    (trigger,) = spec["triggers"]
    wanted = math.ceil(value / float(trigger["metadata"]["targetValue"]))
    return int(min(max(wanted, spec["minReplicaCount"]), spec["maxReplicaCount"]))


def endpoint_slice(
    service: Mapping[str, Any], pods: Iterable[tuple[str, bool]], template: Mapping[str, Any]
) -> dict[str, Any]:
    """What the control plane makes of a Service and its pods, each an address and whether it is ready."""
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    all_ready = service["spec"].get("publishNotReadyAddresses", False)
    return {
        "metadata": {
            "namespace": service["metadata"]["namespace"],
            "labels": {"kubernetes.io/service-name": service["metadata"]["name"]},
        },
        "ports": [
            {"name": port["name"], "port": named.get(port["targetPort"], port["targetPort"])}
            for port in service["spec"]["ports"]
        ],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready or all_ready}} for address, ready in pods],
    }
