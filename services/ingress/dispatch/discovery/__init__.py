"""A location goes in, the addresses of a service's replicas come out, again whenever they change.

`Location` is how an operator writes it; `discover` follows it by EndpointSlices, DNS or a static list.
"""

from services.ingress.dispatch.discovery.endpoint_slices import EndpointSlices
from services.ingress.dispatch.discovery.headless_dns import HeadlessDns
from services.ingress.dispatch.discovery.location import DnsName, KubernetesService, Location
from services.ingress.dispatch.discovery.source import Discovery, Static

__all__ = ["Discovery", "DnsName", "EndpointSlices", "KubernetesService", "Location", "Static", "discover"]


def discover(location: list[str] | DnsName | KubernetesService, every_seconds: float) -> Discovery:
    """`every_seconds` is how often a DNS name is resolved again."""
    match location:
        case DnsName():
            return HeadlessDns(location, every_seconds)
        case KubernetesService():
            return EndpointSlices(location)
        case _:
            return Static(location)
