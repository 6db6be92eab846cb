"""The caller of a request: requests queue fairly by caller, and a resume token is valid for its caller alone."""

from dataclasses import dataclass

from services.ingress.admission.policy import Permissions
from videoanalysis.call_log import host_of

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
