"""Replicas of one service, and calls that any of them can serve."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Self, TypeVar

import grpc
import structlog

from services.ingress.deadline import Deadline
from services.ingress.discovery import Discovery
from videoanalysis import channels
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Overloaded,
    ServiceError,
    Unavailable,
    from_rpc_error,
)

_log = structlog.get_logger()

# A replica that failed is asked last for so long.
_AVOID_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
# A replica that refused a model is not asked for it again for so long, while another one may serve it.
_REMEMBER_REFUSAL_SECONDS = 2.0
# So long the first calls are held back until somebody is known.
_FIRST_LOOK_SECONDS = 0.5
# Work that takes down whatever does it must not go round for ever.
_MAX_LOST = 3
# All replicas say the same in the end, so waiting does not help within one call.
_FINAL = {"BANK_NOT_READY", "IMAGE_SIZE_MISMATCH"}

T = TypeVar("T")


class Lost(Unavailable):
    """The replica went away, or failed, after it had taken up the work."""


class ModelGone(FailedPrecondition):
    """Every replica that answers serves another model than the one that is asked for."""

    default_reason = "MODEL_MISMATCH"


class Replica:
    """One address with a channel of its own, so that a call goes where we send it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = channels.connect(address, while_ready=True)
        self.in_flight = 0
        self._avoided_until = 0.0
        self._refused_until: dict[str, float] = {}  # By model digest.
        self._retired = False

    @asynccontextmanager
    async def occupied(self) -> AsyncGenerator[None]:
        """Around every attempt: it counts as in flight, and the channel stays open for it."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            await self._close_if_done()

    async def retire(self) -> None:
        """Close the channel once the attempts in flight are over."""
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self.in_flight:
            await self.channel.close()

    def avoid(self) -> None:
        self._avoided_until = time.monotonic() + _AVOID_SECONDS

    def is_avoided(self) -> bool:
        """Whether it failed lately, or is known to be away or draining."""
        away = self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        return away or self._avoided_until > time.monotonic()

    def remember_refusal(self, model_digest: str) -> None:
        now = time.monotonic()
        self._refused_until = {digest: until for digest, until in self._refused_until.items() if until > now}
        self._refused_until[model_digest] = now + _REMEMBER_REFUSAL_SECONDS

    def refused(self, model_digest: str) -> bool:
        """Whether it said a moment ago that it serves another model."""
        return self._refused_until.get(model_digest, 0.0) > time.monotonic()


class Replicas:
    """The replicas of the service `name`, as they come and go.

    Calls made through them must be pure: they are repeated elsewhere. One that is in progress at a replica that goes is
    left to end there.
    """

    def __init__(self, name: str, discovery: Discovery, *, attempt_seconds: float, wait_seconds: float) -> None:
        self._name = name
        self._discovery = discovery
        self._replicas: dict[str, Replica] = {}
        self._attempt_seconds = attempt_seconds
        self._wait_seconds = wait_seconds
        self._added = asyncio.Event()

    async def __aenter__(self) -> Self:
        added = self._added
        self._following = asyncio.create_task(self._follow())
        await _wait(added, _FIRST_LOOK_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])
        await asyncio.gather(*(replica.channel.close() for replica in self._replicas.values()))

    async def _follow(self) -> None:
        try:
            async with aclosing(self._discovery.watch()) as changes:
                async for addresses in changes:
                    await self._become(addresses)
        except Exception as error:
            _log.error("bug", service=self._name, exc_info=error)

    async def _become(self, addresses: frozenset[str]) -> None:
        gone, new = self._replicas.keys() - addresses, addresses - self._replicas.keys()
        _log.info("replicas", service=self._name, count=len(addresses), new=sorted(new), gone=sorted(gone))
        retired = [self._replicas.pop(address) for address in gone]
        self._replicas.update((address, Replica(address)) for address in new)
        if new:
            self._added.set()
            self._added = asyncio.Event()
        for replica in retired:
            await replica.retire()

    async def call(
        self, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline, *, model_digest: str = ""
    ) -> T:
        """`attempt(replica, seconds)` at one replica after another until one succeeds.

        A refusal or failure moves on to the next; when all were tried there is a pause, which a new replica ends.
        `model_digest` is the model that the attempt asks for, if any. Raises what the caller must change (InvalidInput
        and its like) at once, Unavailable when replicas stay away, ModelGone, DeadlineExceeded.
        """
        away_since = time.monotonic()
        lost = 0
        pause = _FIRST_PAUSE_SECONDS
        while True:
            added = self._added
            said: list[ServiceError] = []
            tried: set[Replica] = set()
            while (replica := self._pick(tried, model_digest)) is not None:
                tried.add(replica)
                try:
                    return await self._attempt(replica, attempt, deadline)
                except (Overloaded, Unavailable, DeadlineExceeded) as error:
                    said.append(error)
                    lost += isinstance(error, Lost) or error.reason == "INTERNAL"
                except FailedPrecondition as error:
                    if error.reason != ModelGone.default_reason:
                        raise
                    replica.remember_refusal(model_digest)
                    said.append(error)
                if lost >= _MAX_LOST:
                    raise self._away() from said[-1]
            cause = said[-1] if said else None
            if any(isinstance(error, Overloaded) for error in said):
                away_since = time.monotonic()
            elif said and all(isinstance(error, FailedPrecondition) for error in said):
                raise ModelGone(said[-1].message) from cause
            elif said and all(error.reason in _FINAL for error in said):
                raise said[-1]
            elif time.monotonic() - away_since >= self._wait_seconds:
                if any(replica.refused(model_digest) for replica in self._replicas.values()):
                    raise ModelGone(f"the {self._name}s that answer serve another model") from cause
                raise self._away() from cause
            if pause >= deadline.remaining():
                raise DeadlineExceeded(f"the deadline passed while waiting for the {self._name}s") from cause
            await _wait(added, pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _pick(self, tried: set[Replica], model_digest: str) -> Replica | None:
        """The least busy one not tried in this round; those that failed lately come last.

        One that lately refused the model is asked only if nobody else can be, to learn whether the model is gone.
        """
        untried = [replica for replica in self._replicas.values() if replica not in tried]
        willing = [replica for replica in untried if not replica.refused(model_digest)]
        if not willing and all(replica.refused(model_digest) for replica in tried):
            willing = untried
        random.shuffle(willing)
        return min(willing, key=lambda replica: (replica.is_avoided(), replica.in_flight), default=None)

    async def _attempt(
        self, replica: Replica, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline
    ) -> T:
        async with replica.occupied():
            try:
                return await attempt(replica, min(self._attempt_seconds, deadline.remaining()))
            except grpc.RpcError as error:
                raise self._noted(replica, from_rpc_error(error)) from error
            except ServiceError as error:
                self._noted(replica, error)
                raise

    def _noted(self, replica: Replica, error: ServiceError) -> ServiceError:
        if isinstance(error, Unavailable | DeadlineExceeded) and error.reason not in _FINAL:
            replica.avoid()
            _log.warning("attempt failed", service=self._name, address=replica.address, error=error.message)
        return error

    def _away(self) -> Unavailable:
        return Unavailable(
            f"no {self._name} could do this in time; see the service's log, or try again later",
            reason=f"{self._name.upper()}_UNAVAILABLE",
        )


async def _wait(event: asyncio.Event, at_most_seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_seconds):
            await event.wait()
