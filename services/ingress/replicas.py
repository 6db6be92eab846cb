"""Replicas of one service, and calls that any of them can serve."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Self, TypeVar

import grpc
import structlog

from services.ingress.deadline import Deadline
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
        self.channel = channels.connect(address)
        self.in_flight = 0
        self.avoided_until = 0.0


class Replicas:
    """The replicas of the service `name`. Calls made through them must be pure: they are repeated elsewhere."""

    def __init__(self, name: str, addresses: Iterable[str], *, attempt_seconds: float, wait_seconds: float) -> None:
        self._name = name
        self._addresses = list(addresses)
        self._replicas: list[Replica] = []
        self._attempt_seconds = attempt_seconds
        self._wait_seconds = wait_seconds

    async def __aenter__(self) -> Self:
        self._replicas = [Replica(address) for address in self._addresses]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(replica.channel.close() for replica in self._replicas))

    async def call(self, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline) -> T:
        """`attempt(replica, seconds)` at one replica after another until one succeeds.

        A refusal or failure moves on to the next; when all were tried there is a pause. Raises what the caller must
        change (InvalidInput and its like) at once, Unavailable when replicas stay away, ModelGone, DeadlineExceeded.
        """
        away_since = time.monotonic()
        lost = 0
        pause = _FIRST_PAUSE_SECONDS
        while True:
            said: list[ServiceError] = []
            tried: set[Replica] = set()
            while (replica := self._pick(tried)) is not None:
                tried.add(replica)
                try:
                    return await self._attempt(replica, attempt, deadline)
                except (Overloaded, Unavailable, DeadlineExceeded) as error:
                    said.append(error)
                    lost += isinstance(error, Lost) or error.reason == "INTERNAL"
                except FailedPrecondition as error:
                    if error.reason != ModelGone.default_reason:
                        raise
                    said.append(error)
                if lost >= _MAX_LOST:
                    raise self._away() from said[-1]
            if any(isinstance(error, Overloaded) for error in said):
                away_since = time.monotonic()
            elif all(isinstance(error, FailedPrecondition) for error in said):
                raise ModelGone(said[-1].message) from said[-1]
            elif all(error.reason in _FINAL for error in said):
                raise said[-1]
            elif time.monotonic() - away_since >= self._wait_seconds:
                raise self._away() from said[-1]
            if pause >= deadline.remaining():
                raise DeadlineExceeded(f"the deadline passed while waiting for the {self._name}s") from said[-1]
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _pick(self, tried: set[Replica]) -> Replica | None:
        """The least busy one not tried in this round; those that failed lately come last."""
        now = time.monotonic()
        untried = [replica for replica in self._replicas if replica not in tried]
        random.shuffle(untried)
        return min(untried, key=lambda replica: (replica.avoided_until > now, replica.in_flight), default=None)

    async def _attempt(
        self, replica: Replica, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline
    ) -> T:
        replica.in_flight += 1
        try:
            return await attempt(replica, min(self._attempt_seconds, deadline.remaining()))
        except grpc.RpcError as error:
            raise self._noted(replica, from_rpc_error(error)) from error
        except ServiceError as error:
            self._noted(replica, error)
            raise
        finally:
            replica.in_flight -= 1

    def _noted(self, replica: Replica, error: ServiceError) -> ServiceError:
        if isinstance(error, Unavailable | DeadlineExceeded) and error.reason not in _FINAL:
            replica.avoided_until = time.monotonic() + _AVOID_SECONDS
            _log.warning("attempt failed", service=self._name, address=replica.address, error=error.message)
        return error

    def _away(self) -> Unavailable:
        return Unavailable(
            f"no {self._name} could do this in time; see the service's log, or try again later",
            reason=f"{self._name.upper()}_UNAVAILABLE",
        )
