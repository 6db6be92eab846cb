"""One encoder or decoder: its channel, and what this process has learnt of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from services.ingress.dispatch.placement import ReplicaState
from videoanalysis import channels
from videoanalysis.reloaded_files import ReloadedFiles

# A replica that failed is tried last for so long, twice as long each time until it succeeds.
_AVOID_SECONDS, _MAX_AVOID_SECONDS = 1.0, 30.0
# For so long a replica that lacks a model or bank is not asked for it again, while another one may have it.
_MISSING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaTls:
    """TLS to the replicas of a service: addresses are those of pods, so the certificates are for `peer_name`."""

    credentials: ReloadedFiles[grpc.ChannelCredentials]
    peer_name: str


class Replica(ReplicaState):
    """One address with a channel of its own, so that a call goes where we send it."""

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
        """Close the channel once the attempts in flight are over."""
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
        """It failed at work that it had accepted, or did not answer in time; another try may cost as much again.

        Several failures of one moment count once.
        """
        now = self._clock()
        if self._avoided_until <= now:
            self._avoided_until = now + self._avoid_seconds
            self._avoid_seconds = min(2 * self._avoid_seconds, _MAX_AVOID_SECONDS)
        if hung:
            self._hung_until = self._avoided_until

    def is_avoided(self, now: float) -> bool:
        """Whether it failed lately, or is known to be unavailable or draining."""
        return self._avoided_until > now or self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def is_hung(self, now: float) -> bool:
        """Whether it timed out lately."""
        return self._hung_until > now

    def remember_missing(self, digest: str) -> None:
        now = self._clock()
        self._missing_until = {missing: until for missing, until in self._missing_until.items() if until > now}
        self._missing_until[digest] = now + _MISSING_SECONDS

    def is_missing(self, digest: str) -> bool:
        """Whether it lately reported that it has no such model or version of a text bank."""
        return self._missing_until.get(digest, 0.0) > self._clock()
