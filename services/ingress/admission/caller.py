"""The caller of a request: requests queue fairly by caller, and a resume token is valid for its caller alone."""

from dataclasses import dataclass
from urllib.parse import unquote

from services.ingress.admission.policy import Permissions

_ALL = Permissions()


@dataclass(frozen=True, slots=True)
class Caller:
    """`identity` is the name that authentication gives, empty without it; `queue` is the queue to wait in."""

    identity: str
    queue: str
    permissions: Permissions = _ALL

    @classmethod
    def of(cls, identity: str, peer: str, permissions: Permissions = _ALL) -> "Caller":
        """Callers without an identity queue by the host in `peer`, gRPC's name of the other end."""
        return cls(identity, identity or host_of(peer), permissions)


def host_of(peer: str) -> str:
    """The host in gRPC's "ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000" or "unix:/path"."""
    address = unquote(peer).partition(":")[2]
    return address.rpartition(":")[0] or address
