"""Where a service is: the value of INGRESS_ENCODERS and of INGRESS_DECODERS."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator

_FORMS = (
    'a JSON list of addresses such as ["encoder-0:50052"], dns://name:port, or kubernetes://namespace/service:port '
    "(without a namespace, kubernetes:///service:port, it is the pod's own)"
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class DnsName:
    """A name with an address record for each replica, as that of a headless Service."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class KubernetesService:
    """A Service whose EndpointSlices are watched; `port` is the name of a port of it, or the number on the pods.

    `namespace` is None for the pod's own.
    """

    namespace: str | None
    name: str
    port: str | int


def parse(value: Any) -> list[str] | DnsName | KubernetesService:
    """Raises ValueError with the forms that are understood; it does not repeat the value."""
    if isinstance(value, DnsName | KubernetesService):
        return value
    if isinstance(value, list | tuple):
        return _addresses(list(value))
    if not isinstance(value, str):
        raise ValueError(f"must be {_FORMS}")
    uri = urlsplit(value)
    if uri.scheme == "dns":
        return _dns_name(uri)
    if uri.scheme == "kubernetes":
        return _kubernetes_service(uri)
    raise ValueError(f"must be {_FORMS}")


Location: TypeAlias = Annotated[list[str] | DnsName | KubernetesService, PlainValidator(parse)]


def _addresses(addresses: list[Any]) -> list[str]:
    if not addresses:
        raise ValueError(f"names no address; must be {_FORMS}")
    for index, address in enumerate(addresses):
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or "/" in address or _port_number(port) is None:
            raise ValueError(f"item {index} is no address such as encoder-0:50052")
    return addresses


def _dns_name(uri: SplitResult) -> DnsName:
    host, _, port = uri.netloc.rpartition(":")
    number = _port_number(port)
    if not host or number is None or uri.path.strip("/") or uri.query or uri.fragment:
        raise ValueError("dns:// takes a name and a port, as in dns://encoder.namespace.svc:50052")
    return DnsName(host, number)


def _kubernetes_service(uri: SplitResult) -> KubernetesService:
    namespace, (name, _, port) = uri.netloc, uri.path.strip("/").partition(":")
    number = _port_number(port)
    well_formed = _NAME.fullmatch(name) and (number or _NAME.fullmatch(port)) and _NAME.fullmatch(namespace or "own")
    if not well_formed or port.isdigit() > bool(number) or uri.query or uri.fragment:
        raise ValueError(
            "kubernetes:// takes a namespace, a service and a port by name or number, as in "
            "kubernetes://namespace/encoder:grpc"
        )
    return KubernetesService(namespace or None, name, number or port)


def _port_number(text: str) -> int | None:
    return int(text) if _PORT.fullmatch(text) and 0 < int(text) < 65536 else None
