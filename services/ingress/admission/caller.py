"""Who calls: one tenant's load must not be another's wait, and a resume token is good for its own caller only."""

from dataclasses import dataclass
from urllib.parse import unquote

import grpc


@dataclass(frozen=True, slots=True)
class Caller:
    """`identity` is what the gateway in front says, empty without one; `queue` is whose turn a request takes."""

    identity: str
    queue: str

    @classmethod
    def of(cls, context: grpc.aio.ServicerContext, header: str) -> "Caller":
        """Read from the metadata `header`, which a gateway must set itself, and not pass on from outside.

        Callers without it are told apart by their host, but have no identity: hosts change.
        """
        metadata = dict(context.invocation_metadata() or ())
        identity = str(metadata.get(header, ""))
        return cls(identity, identity or _host(context.peer()))


def _host(peer: str) -> str:
    """The host in gRPC's "ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000" or "unix:/path"."""
    address = unquote(peer).partition(":")[2]
    return address.rpartition(":")[0] or address
