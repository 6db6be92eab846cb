"""One encoder or decoder: its channel, and its state as this process observed it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from services.ingress.dispatch.placement import ReplicaState
from videoanalysis import channels
from videoanalysis.reloaded_files import ReloadedFiles

# How long a replica that failed is tried last; doubles with each failure until it succeeds.
_AVOID_SECONDS, _MAX_AVOID_SECONDS = 1.0, 30.0
# How long a replica that reported a model or bank as missing is not called for it again, while another may have it.
_MISSING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaTls:
    """TLS to the replicas of a service: addresses are those of pods, so the certificates are for `peer_name`."""

    credentials: ReloadedFiles[grpc.ChannelCredentials]
    peer_name: str


class Replica(ReplicaState):
    """One address with a channel of its own, so that the caller chooses the replica of each call."""

    def __init__(
        self, address: str, clock: Callable[[], float] = time.monotonic, tls: ReplicaTls | None = None
    ) -> None:
        super().__init__()
        self.address = address
        self.channel = channels.connect(
            address,
            while_ready=True,
            credentials=tls.credentials.get() if tls else None,
            peer_name=tls.peer_name if tls else None,
        )
        self._clock = clock
        self._avoided_until = 0.0
        self._hung_until = 0.0
        self._avoid_seconds = _AVOID_SECONDS
        self._missing_until: dict[str, float] = {}  # by digest
        self._is_retired = False

    def begin(self) -> None:
        """An attempt begins: it counts as in flight, and the channel stays open for it until its `end`."""
        self.in_flight += 1

    async def end(self) -> None:
        self.in_flight -= 1
        await self._close_if_unused()

    async def retire(self) -> None:
        """Closes the channel once the attempts in flight have ended."""
        self._is_retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._is_retired and not self.in_flight:
            await self.channel.close()

    def succeeded(self) -> None:
        self._avoid_seconds = _AVOID_SECONDS

    def unavailable(self) -> None:
        """It could not be reached, or is draining."""
        self._avoided_until = max(self._avoided_until, self._clock() + _AVOID_SECONDS)

    def failed(self, *, hung: bool) -> None:
        """It failed at work that it had accepted, or timed out; another attempt may cost as much time.

        Failures at the same time count once.
        """
        now = self._clock()
        if self._avoided_until <= now:
            self._avoided_until = now + self._avoid_seconds
            self._avoid_seconds = min(2 * self._avoid_seconds, _MAX_AVOID_SECONDS)
        if hung:
            self._hung_until = self._avoided_until

    def is_avoided(self, now: float) -> bool:
        """Whether it failed recently, cannot be reached or is draining."""
        return self._avoided_until > now or self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def is_hung(self, now: float) -> bool:
        """Whether it timed out recently."""
        return self._hung_until > now

    def remember_missing(self, digest: str) -> None:
        now = self._clock()
        self._missing_until = {missing: until for missing, until in self._missing_until.items() if until > now}
        self._missing_until[digest] = now + _MISSING_SECONDS

    def is_missing(self, digest: str) -> bool:
        """Whether it recently reported that it has no such model or version of a text bank."""
        return self._missing_until.get(digest, 0.0) > self._clock()
