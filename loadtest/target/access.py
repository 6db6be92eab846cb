"""How a service admits a load test: TLS, a bearer token, the name of the caller."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Access:
    """Plaintext without `credentials`. `token` is asked before every call, since tokens expire during long runs."""

    credentials: grpc.ChannelCredentials | None = None
    token: Callable[[], str] | None = None
    caller: str | None = None

    def metadata(self) -> list[tuple[str, str]]:
        """Of a call."""
        pairs = [("x-caller-id", self.caller)] if self.caller else []
        return [*pairs, ("authorization", f"Bearer {self.token()}")] if self.token else pairs
