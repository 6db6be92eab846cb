"""Replicas of one service, and calls that any of them can serve."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import grpc
import structlog

from services.ingress.deadline import Deadline
from videoanalysis import channels
from videoanalysis.errors import DeadlineExceeded, Overloaded, ServiceError, Unavailable, from_rpc_error

_log = structlog.get_logger()

# A replica that failed is left alone this long, unless there is no other.
_AVOID_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
# Failures that are no refusal: a chunk that crashes whatever computes it must not go round for ever.
_MAX_FAILURES = 8


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

    async def call[T](self, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline) -> T:
        """`attempt(replica, timeout)` at one replica after another until one succeeds.

        A refusal or failure moves on to the next; when all were tried there is a pause. Raises what the caller must
        change (InvalidInput and its like) at once, Unavailable when replicas stay away, DeadlineExceeded.
        """
        away_since = time.monotonic()
        failures = 0
        pause = _FIRST_PAUSE_SECONDS
        tried: set[Replica] = set()
        while True:
            replica = self._pick(tried)
            try:
                return await self._attempt(replica, attempt, deadline)
            except Overloaded:
                away_since = time.monotonic()
                failures = 0
            except (Unavailable, DeadlineExceeded) as error:
                failures += 1
                replica.avoided_until = time.monotonic() + _AVOID_SECONDS
                _log.warning("attempt failed", service=self._name, address=replica.address, error=error.message)
                if deadline.remaining() == 0:
                    raise DeadlineExceeded(f"the deadline passed while waiting for the {self._name}") from error
                away = time.monotonic() - away_since
                tried_all = len(tried) + 1 >= len(self._replicas)
                if tried_all and (error.reason in _FINAL or failures >= _MAX_FAILURES or away > self._wait_seconds):
                    raise self._given_up(error) from error
            tried.add(replica)
            if len(tried) == len(self._replicas):
                tried.clear()
                if pause > deadline.remaining():
                    raise DeadlineExceeded(f"the deadline passed while waiting for the {self._name}")
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attempt[T](
        self, replica: Replica, attempt: Callable[[Replica, float], Awaitable[T]], deadline: Deadline
    ) -> T:
        replica.in_flight += 1
        try:
            return await attempt(replica, min(self._attempt_seconds, deadline.remaining()))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            replica.in_flight -= 1

    def _pick(self, tried: set[Replica]) -> Replica:
        """The least busy one not tried in this round; one that failed lately only if there is no other."""
        now = time.monotonic()
        untried = [replica for replica in self._replicas if replica not in tried]
        random.shuffle(untried)
        return min(untried, key=lambda replica: (replica.avoided_until > now, replica.in_flight))

    def _given_up(self, error: ServiceError) -> ServiceError:
        if error.reason in _FINAL:
            return error
        return Unavailable(
            f"no {self._name} could do this; see the service's log, or try again later",
            reason=f"{self._name.upper()}_UNAVAILABLE",
        )


# Said by every replica, waiting does not help within one call.
_FINAL = {"BANK_NOT_READY"}
