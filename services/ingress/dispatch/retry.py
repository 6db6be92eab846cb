"""Retries: work that any replica can do is attempted at one after another until the deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import grpc
import structlog

from services.ingress.admission import Deadline
from services.ingress.dispatch import placement
from services.ingress.dispatch.backoff import Backoff
from services.ingress.dispatch.failures import (
    FINAL,
    MISSING,
    FailedAttempt,
    NoLongerServed,
    Unresponsive,
    from_attempt,
)
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas
from services.ingress.metrics import ATTEMPTS
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, NotFound, Overloaded, ServiceError, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()

_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.02, 1.0
# Work that crashes a replica must not be sent to all of them.
_MAX_FAILED_ATTEMPTS = 3

T = TypeVar("T")


async def call(
    replicas: Replicas,
    attempt: Callable[[Replica, float], Awaitable[T]],
    deadline: Deadline,
    *,
    needs: str = "",
    service_time: LatencyEstimator | None = None,
) -> T:
    """`attempt(replica, seconds)` at one replica after another until one succeeds; the work must be pure.

    After a round through all replicas there is a backoff, which a new replica ends. `needs` is the digest of a model or
    text bank that not every replica may have; empty if the attempt needs none. `service_time` observes every answer.
    Raises errors that name a field of the request at once, Unavailable when no replica answers, NoLongerServed,
    DeadlineExceeded.
    """
    retry = Retry(replicas, deadline, needs)
    while True:
        while (replica := retry.next_replica()) is not None:
            timeout = replicas.attempt_seconds if service_time is None else service_time.attempt_timeout()
            started = time.monotonic()
            replica.begin()
            try:
                try:
                    result = await attempt(replica, min(timeout, deadline.remaining()))
                except grpc.RpcError as error:
                    raise from_attempt(error) from error
                finally:
                    await replica.end()
            except ServiceError as error:
                if service_time is not None:
                    if isinstance(error, FailedAttempt) and error.timed_out and deadline.remaining():
                        service_time.on_timeout()
                    elif error.reason in MISSING | FINAL:
                        service_time.observe(time.monotonic() - started)
                await retry.failed(replica, error)
                continue
            retry.succeeded(replica)
            if service_time is not None:
                service_time.observe(time.monotonic() - started)
            return result
        await retry.back_off()


class Retry:
    """The attempts at one piece of work: rounds through the replicas, with a backoff between them."""

    def __init__(self, replicas: Replicas, deadline: Deadline, needs: str) -> None:
        self._replicas = replicas
        self._deadline = deadline
        self._needs = needs
        self._unavailable_since = time.monotonic()
        self._failed_attempts = 0
        self._backoff = Backoff(_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
        self._begin_round()

    def _begin_round(self) -> None:
        self._added = self._replicas.added
        self._errors: list[ServiceError] = []
        self._tried: set[Replica] = set()

    def next_replica(self) -> Replica | None:
        """The replica to try next, None when the round is over.

        After a final answer, replicas that hang are skipped.
        """
        now = time.monotonic()
        has_answer = any(error.reason in FINAL for error in self._errors)
        candidates = [one for one in self._candidates() if not (has_answer and one.is_hung(now))]
        # These calls are short: replicas are ranked by calls in flight alone.
        return self._try(placement.choose(candidates, now, fastest=0.0))

    def next_offer(self, open_offers: int) -> Replica | None:
        """The replica to offer the work to next, None if there should be no further offer now."""
        return self._try(
            placement.choose(
                self._candidates(),
                time.monotonic(),
                fastest=placement.fastest_unit(self._replicas.by_address.values()),
                open_offers=open_offers,
                refusals=sum(isinstance(error, Overloaded) for error in self._errors),
            )
        )

    def _candidates(self) -> list[Replica]:
        """Those not tried in this round; one that recently reported `needs` as missing only if there is no other."""
        untried = [replica for replica in self._replicas.by_address.values() if replica not in self._tried]
        candidates = [replica for replica in untried if not replica.is_missing(self._needs)]
        if not candidates and all(replica.is_missing(self._needs) for replica in self._tried):
            return untried
        return candidates

    def _try(self, chosen: Replica | None) -> Replica | None:
        if chosen is not None:
            self._tried.add(chosen)
        return chosen

    def succeeded(self, replica: Replica) -> None:
        self._count("succeeded")
        replica.succeeded()
        self._replicas.retry_budget.succeeded()

    async def failed(self, replica: Replica, error: ServiceError) -> None:
        """Records the failure of an attempt; raises it if no other replica can succeed."""
        if not self._deadline.remaining():
            raise DeadlineExceeded(f"the deadline passed while the {self._replicas.name} worked") from error
        match error:
            case Overloaded():
                replica.refused(time.monotonic(), error.retry_after_seconds)
                self._count("refused")
            case DeadlineExceeded():
                # This process was too slow, usually in many uploads at once: not a failure of the replica.
                _log.warning("upload too slow", address=replica.address, error=error.message)
                self._count("refused")
            case FailedPrecondition() if error.reason in MISSING:
                replica.remember_missing(self._needs)
                self._count("refused")
            case FailedAttempt():
                replica.failed(hung=error.timed_out)
                self._warn(replica, error)
                self._count("failed")
                self._failed_attempts += 1
                if self._failed_attempts >= _MAX_FAILED_ATTEMPTS:
                    raise self._replicas.unavailable() from error
                await self._replicas.retry_budget.take(self._deadline)
            case Unavailable() | NotFound() if error.reason in FINAL:
                self._count("refused")
            case Unresponsive():
                replica.failed(hung=True)
                self._warn(replica, error)
                self._count("unavailable")
            case Unavailable():
                replica.unavailable()
                self._warn(replica, error)
                self._count("unavailable")
            case _:
                raise error
        self._errors.append(error)

    async def back_off(self) -> None:
        """Waits between rounds; raises if another round cannot succeed."""
        errors = self._errors
        cause = errors[-1] if errors else None
        overloads = [error.retry_after_seconds for error in errors if isinstance(error, Overloaded)]
        missing = [error for error in errors if isinstance(error, FailedPrecondition)]
        final = [error for error in errors if error.reason in FINAL]
        if overloads:
            self._unavailable_since = time.monotonic()
        elif errors and len(missing) == len(errors):
            raise NoLongerServed(errors[-1].message, reason=errors[-1].reason) from cause
        elif final and not missing:
            # If one replica expects the bank and another does not, it may still be loaded: callers may retry.
            raise next((error for error in final if error.reason == ErrorReason.BANK_NOT_READY), final[-1])
        elif time.monotonic() - self._unavailable_since >= self._max_wait_seconds():
            if any(replica.is_missing(self._needs) for replica in self._replicas.by_address.values()):
                raise NoLongerServed(f"no {self._replicas.name} that answers has {self._needs}") from cause
            raise self._replicas.unavailable() from cause
        delay = self._backoff.next(min(overloads, default=0.0))
        if delay >= self._deadline.remaining():
            raise DeadlineExceeded(f"the deadline passed while waiting for the {self._replicas.name}s") from cause
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._added.wait()
        self._begin_round()

    def _max_wait_seconds(self) -> float:
        if self._replicas.by_address:
            return self._replicas.wait_seconds
        self._replicas.cold_start.begin()
        return self._replicas.cold_start_seconds

    def _warn(self, replica: Replica, error: ServiceError) -> None:
        _log.warning("attempt failed", service=self._replicas.name, address=replica.address, error=error.message)

    def _count(self, outcome: str) -> None:
        ATTEMPTS.labels(self._replicas.name, outcome).inc()
