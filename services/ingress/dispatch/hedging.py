"""Hedged requests: work is offered to several replicas, and the first that admits it gets it.

An offer is a call without its payload. The replica parks it until it has a permit; then it is admitted, the payload is
uploaded, and the other offers are cancelled. So work waits at several replicas and is bound to one as late as possible.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Generic, Protocol, TypeVar

import grpc

from services.ingress.admission import Deadline
from services.ingress.dispatch.failures import FailedAttempt, from_attempt
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.placement import OfferSchedule
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas
from services.ingress.dispatch.retry import Retry
from videoanalysis.errors import DeadlineExceeded, Overloaded, ServiceError, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Offer(Protocol[T_co]):
    """Work offered to one replica. Both coroutines raise ServiceError or grpc.RpcError.

    Set with the result: `seconds`, the time of the work alone, and `other_chunks_in_flight` at the replica.
    """

    seconds: float
    other_chunks_in_flight: int

    async def admitted(self) -> None:
        """Returns once the replica admits the work; raises Unresponsive if the replica hangs."""

    async def result(self) -> T_co:
        """Once admitted: uploads the work and returns its result."""

    def cancel(self) -> None:
        """At any time; after the result it does nothing."""


async def place(
    replicas: Replicas,
    offer: Callable[[Replica], Offer[T]],
    deadline: Deadline,
    *,
    needs: str,
    service_time: LatencyEstimator,
    units: float = 1,
    on_admitted: Callable[[], None] = lambda: None,
) -> T:
    """The result of work of size `units`; `on_admitted` is called when a replica admits it.

    Raises as `retry.call` does, and DeadlineExceeded before the upload if the time left is too short, so that no
    accelerator time is spent on an answer that is too late.
    """
    retry = Retry(replicas, deadline, needs)
    while True:
        check_deadline_feasible(service_time, deadline, units)
        while (admitted := await _first_admitted(replicas, retry, offer, service_time.mean(units))) is not None:
            on_admitted()
            try:
                check_deadline_feasible(service_time, deadline, units)
                result = await _result(admitted, deadline, service_time, units)
            except _Failed as failed:
                failure = failed.error
            else:
                retry.succeeded(admitted.replica)
                return result
            finally:
                await admitted.close()
            await retry.failed(admitted.replica, failure)
        await retry.back_off()


def check_deadline_feasible(service_time: LatencyEstimator, deadline: Deadline, units: float) -> None:
    """Raises DeadlineExceeded if work of this size would not be done by the deadline."""
    if service_time.exceeds_deadline(deadline.remaining(), units):
        raise DeadlineExceeded("the time left until the deadline is too short", reason=ErrorReason.DEADLINE_INFEASIBLE)


async def _first_admitted(
    replicas: Replicas, retry: Retry, offer: Callable[[Replica], Offer[T]], service_seconds: float
) -> "_OpenOffer[T] | None":
    """The offer that is admitted first, the others cancelled; None if no replica is left to try in this round."""
    schedule = OfferSchedule(service_seconds)
    offers: dict[asyncio.Task[Any], _OpenOffer[T]] = {}
    admitted: _OpenOffer[T] | None = None
    replica_added = asyncio.create_task(replicas.added.wait())
    try:
        while True:
            while len(offers) < schedule.wanted:
                if (replica := retry.next_offer(len(offers))) is None:
                    schedule.none_chosen()
                    break
                opened = _OpenOffer(replica, offer(replica))
                offers[opened.admission] = opened
            if not offers:
                return None
            done, _ = await asyncio.wait(
                {*offers, replica_added}, timeout=schedule.delay, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                schedule.waited(len(offers))
            elif replica_added in done:
                done.remove(replica_added)
                replica_added = asyncio.create_task(replicas.added.wait())
                schedule.replica_added(len(offers))
            else:
                schedule.refused(len(offers))
            for task in done:
                if (error := offers[task].refusal()) is None:
                    admitted = offers.pop(task)
                    return admitted
                refused = offers.pop(task)
                await refused.close()
                await retry.failed(refused.replica, error)
    finally:
        replica_added.cancel()
        try:
            # Closes all of them, even if this task is cancelled meanwhile.
            async with AsyncExitStack() as closing:
                for unwanted in offers.values():
                    closing.push_async_callback(unwanted.close)
        except asyncio.CancelledError:
            if admitted is not None:
                await admitted.close()
            raise


async def _result(admitted: "_OpenOffer[T]", deadline: Deadline, service_time: LatencyEstimator, units: float) -> T:
    replica, offer = admitted.replica, admitted.offer
    started = time.monotonic()
    replica.admitted(started, units)
    timeout = service_time.attempt_timeout(units)
    try:
        async with asyncio.timeout(min(timeout, deadline.remaining())):
            result = await offer.result()
    except TimeoutError as error:
        if deadline.remaining() > 0:
            service_time.on_timeout()
        raise _Failed(FailedAttempt(f"no result within {timeout:.1f} s", timed_out=True)) from error
    except grpc.RpcError as error:
        raise _Failed(_after_admission(from_attempt(error))) from error
    except ServiceError as error:
        raise _Failed(_after_admission(error)) from error
    replica.done(time.monotonic(), offer.seconds, units, offer.other_chunks_in_flight)
    service_time.observe(time.monotonic() - started, units)
    return result


def _after_admission(error: ServiceError) -> ServiceError:
    """A replica that is unavailable or overloaded once it has admitted the work has failed at it."""
    if isinstance(error, Overloaded | Unavailable) and not isinstance(error, FailedAttempt):
        return FailedAttempt(error.message)
    return error


class _Failed(Exception):
    """An attempt failed with `error`, which the replica caused and not the deadline."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.message)
        self.error = error


class _OpenOffer(Generic[T]):
    """An offer that waits at a replica, until it is closed."""

    def __init__(self, replica: Replica, offer: Offer[T]) -> None:
        self.replica = replica
        self.offer = offer
        self.admission = asyncio.create_task(self._wait())
        replica.begin()

    async def _wait(self) -> None:
        try:
            await self.offer.admitted()
        except grpc.RpcError as error:
            raise from_attempt(error) from error

    def refusal(self) -> ServiceError | None:
        """Why it was not admitted, None if it was. Only when `admission` is done."""
        error = self.admission.exception()
        if error is not None and not isinstance(error, ServiceError):
            raise error
        return error

    async def close(self) -> None:
        self.admission.cancel()
        self.offer.cancel()
        try:
            await asyncio.wait([self.admission])
            if not self.admission.cancelled():
                self.admission.exception()
        finally:
            await self.replica.end()
