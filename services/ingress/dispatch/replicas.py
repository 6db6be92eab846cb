"""Replicas of one service, and work that any of them can do."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Generic, Protocol, Self, TypeVar

import grpc
import structlog

from services.ingress.admission.deadline import Deadline
from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.dispatch.discovery import Discovery
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.retry_budget import RetryBudget
from services.ingress.metrics import ATTEMPTS
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, Overloaded, ServiceError, Unavailable
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
# So long the first calls are held back until somebody is known.
_FIRST_LOOK_SECONDS = 0.5
# Work that takes down whatever does it must not go round for ever.
_MAX_LOST = 3
# No work was lost, and nobody is to blame but this process, which stood still: so fare many calls at once.
_OWN_FAULT = ErrorReason.UPLOAD_TOO_SLOW
_UNAVAILABLE = {"encoder": ErrorReason.ENCODER_UNAVAILABLE, "decoder": ErrorReason.DECODER_UNAVAILABLE}
# A replica that says so may be passed over for one that has what is asked for.
_LACKS = {ErrorReason.MODEL_MISMATCH, ErrorReason.TEXT_BANK_REPLACED}
# All replicas say the same in the end, so waiting does not help within one call.
_FINAL = {ErrorReason.BANK_NOT_READY, ErrorReason.IMAGE_SIZE_MISMATCH}

# Work waits at so many replicas, and the first that has room gets it. Simulated at 90 % load with 20 ingresses and 10
# encoders, one of them slow, the p95 is then 1.3 times that of one line for all; with one replica it is 3.5 times.
_OFFERS = 3
# The others are asked only if the first has no room at once: each would keep a place free for the same work.
_NEXT_OFFERS_SECONDS = 0.002
# Then one more at a time, up to so many, where we have nothing under way: it may be idle, and nobody tells us. As an
# offer costs the same for long work as for short, the next waits for this share of what the work usually takes. The
# p95 is then 1.1 times that of one line.
_MOST_OFFERS = 16
_GAP = 1 / 32
# So many refusals are enough to know that the service is full; asking everybody would only add to its load.
_MAX_REFUSALS = 4
# A replica answers an offer within its parking time, 1 s; one that does not hangs.
_HANGS_SECONDS = 3.0

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Lost(Unavailable):
    """The replica went away, or failed, after it had taken up the work."""


class Gone(FailedPrecondition):
    """No replica that answers has the model, or the version of a text bank, that is asked for."""

    default_reason = ErrorReason.MODEL_MISMATCH


class Offer(Protocol[T_co]):
    """Work offered to one replica, which takes it up when it has room. Raises ServiceError or grpc.RpcError.

    With the result there is what the replica says of itself: `seconds` is what the work alone took it, `others` how
    much other work it had then.
    """

    seconds: float
    other_chunks_in_flight: int

    async def admitted(self) -> None:
        """Until the replica takes it up."""

    async def result(self) -> T_co:
        """Once admitted: hand over the work and wait for what comes of it."""

    def withdraw(self) -> None:
        """At any time; after the result it does nothing."""


class Replicas:
    """The replicas of the service `name`, as they come and go.

    What is done through them must be pure: it is repeated elsewhere. An attempt in progress at a replica that goes is
    left to end there. `attempt_seconds` is the longest time limit of one attempt, `wait_seconds` how long we wait for
    replicas while none answers, and `cold_start_seconds`, if that is more, while there are none.
    """

    def __init__(
        self,
        name: str,
        discovery: Discovery,
        *,
        attempt_seconds: float,
        wait_seconds: float,
        cold_start_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.attempt_seconds = attempt_seconds
        self.wait_seconds = wait_seconds
        self.cold_start_seconds = max(cold_start_seconds, wait_seconds)
        self.cold_start = ColdStart()
        self.by_address: dict[str, Replica] = {}
        self.retries = RetryBudget()
        self._discovery = discovery
        self.added = asyncio.Event()

    async def __aenter__(self) -> Self:
        added = self.added
        self._following = asyncio.create_task(self._follow())
        await _wait(added, _FIRST_LOOK_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._following.cancel()
        await asyncio.wait([self._following])
        await asyncio.gather(*(replica.channel.close() for replica in self.by_address.values()))

    async def _follow(self) -> None:
        try:
            async with aclosing(self._discovery.watch()) as changes:
                async for addresses in changes:
                    await self._become(addresses)
        except Exception as error:
            _log.error("bug", service=self.name, exc_info=error)

    async def _become(self, addresses: frozenset[str]) -> None:
        gone, new = self.by_address.keys() - addresses, addresses - self.by_address.keys()
        _log.info("replicas", service=self.name, count=len(addresses), new=sorted(new), gone=sorted(gone))
        retired = [self.by_address.pop(address) for address in gone]
        self.by_address.update((address, Replica(address)) for address in new)
        if new:
            self.cold_start.end()
            self.added.set()
            self.added = asyncio.Event()
        for replica in retired:
            await replica.retire()

    async def call(
        self,
        attempt: Callable[[Replica, float], Awaitable[T]],
        deadline: Deadline,
        *,
        needs: str = "",
        service_time: LatencyEstimator | None = None,
    ) -> T:
        """`attempt(replica, seconds)` at one replica after another until one succeeds.

        A refusal or failure moves on to the next; when all were tried there is a pause, which a new replica ends.
        `needs` is the digest of what the attempt asks for and not every replica may have, if any; `service_time` what
        such attempts usually take. Raises what the caller must change (InvalidInput and its like) at once, Unavailable
        when replicas stay away, Gone, DeadlineExceeded.
        """
        search = _Search(self, deadline, needs)
        while True:
            while (replica := search.pick()) is not None:
                limit = self.attempt_seconds if service_time is None else service_time.limit()
                try:
                    return await self._attempt(replica, attempt, min(limit, deadline.remaining()), service_time)
                except ServiceError as error:
                    if isinstance(error, DeadlineExceeded) and service_time is not None:
                        service_time.ran_out()
                    await search.failed(replica, error)
            await search.rest()

    async def _attempt(
        self,
        replica: Replica,
        attempt: Callable[[Replica, float], Awaitable[T]],
        seconds: float,
        service_time: LatencyEstimator | None,
    ) -> T:
        started = _now()
        replica.begin()
        try:
            result = await attempt(replica, seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            await replica.end()
        self._succeeded(replica, started, service_time)
        return result

    async def place(
        self,
        offer: Callable[[Replica], Offer[T]],
        deadline: Deadline,
        *,
        needs: str,
        service_time: LatencyEstimator,
        units: float = 1,
        on_admitted: Callable[[], None] = lambda: None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> T:
        """The result of work that is offered to a few replicas at a time and done by the first that has room for it.

        `on_admitted` hears that one has taken it up, `on_refused` that those asked are so full that they let nobody
        wait. `units` is how much work it is, for `service_time`. Raises as `call` does; DeadlineExceeded also as soon
        as the time left is too short, before anything is handed over: no GPU works for nobody.
        """
        search = _Search(self, deadline, needs)
        while True:
            _check_hope(service_time, deadline, units)
            gap = max(_NEXT_OFFERS_SECONDS, _GAP * service_time.usual(units))
            while (accepted := await self._accepted(search, offer, gap, on_refused)) is not None:
                on_admitted()
                try:
                    try:
                        return await self._result(accepted, deadline, service_time, units)
                    finally:
                        await accepted.close()
                except ServiceError as error:
                    await search.failed(accepted.replica, error)
            await search.rest()

    async def _accepted(
        self, search: "_Search", offer: Callable[[Replica], Offer[T]], gap: float, on_refused: Callable[[], None]
    ) -> "_OpenOffer[T] | None":
        """The offer that was admitted first, the others withdrawn; None if nobody is left to ask in this round.

        `gap` is the seconds between the offers beyond the usual few.
        """
        waiting: dict[asyncio.Task[None], _OpenOffer[T]] = {}
        accepted: _OpenOffer[T] | None = None
        wanted = 1
        patience = _NEXT_OFFERS_SECONDS
        try:
            while True:
                while len(waiting) < wanted and (picked := search.pick_for_offer(len(waiting))) is not None:
                    opened = _OpenOffer(picked, offer(picked))
                    waiting[opened.admission] = opened
                if not waiting:
                    return None
                if len(waiting) < wanted:
                    # Nobody to ask for now, and the more often that is so, the less will it change.
                    gap *= 2
                done, _ = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                wanted, patience = max(_OFFERS, len(waiting) + (not done)), gap
                for task in done:
                    if (error := waiting[task].refusal()) is None:
                        accepted = waiting.pop(task)
                        return accepted
                    refused = waiting.pop(task)
                    await refused.close()
                    if isinstance(error, Overloaded):
                        on_refused()
                    await search.failed(refused.replica, error)
        finally:
            try:
                # All of them, even if we are cancelled at one.
                async with AsyncExitStack() as closing:
                    for unwanted in waiting.values():
                        closing.push_async_callback(unwanted.close)
            except asyncio.CancelledError:
                if accepted is not None:
                    await accepted.close()
                raise

    async def _result(
        self, accepted: "_OpenOffer[T]", deadline: Deadline, service_time: LatencyEstimator, units: float
    ) -> T:
        _check_hope(service_time, deadline, units)
        accepted.replica.admitted(units)
        started = _now()
        limit = service_time.limit(units)
        try:
            async with asyncio.timeout(min(limit, deadline.remaining())):
                result = await accepted.offer.result()
        except TimeoutError as error:
            if deadline.remaining() > 0:
                service_time.ran_out()
            raise Lost(f"no result within {limit:.1f} s", reason=ErrorReason.NO_RESPONSE) from error
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            if isinstance(failure, Overloaded | Unavailable):
                raise Lost(failure.message, reason=failure.reason) from error
            raise failure from error
        accepted.replica.done(accepted.offer.seconds, units, accepted.offer.other_chunks_in_flight)
        self._succeeded(accepted.replica, started, service_time, units)
        return result

    def _succeeded(
        self, replica: Replica, started: float, service_time: LatencyEstimator | None, units: float = 1
    ) -> None:
        ATTEMPTS.labels(self.name, "succeeded").inc()
        replica.succeeded()
        self.retries.succeeded()
        if service_time is not None:
            service_time.observe(_now() - started, units)

    def away(self) -> Unavailable:
        return Unavailable(
            f"no {self.name} could do this in time; see the service's log, or try again later",
            reason=_UNAVAILABLE[self.name],
        )


class _OpenOffer(Generic[T]):
    """An offer that waits at a replica, until it is closed."""

    def __init__(self, replica: Replica, offer: Offer[T]) -> None:
        self.replica = replica
        self.offer = offer
        self.admission = asyncio.create_task(self._wait())
        replica.begin()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_HANGS_SECONDS):
                await self.offer.admitted()
        except TimeoutError as error:
            raise Unavailable(f"it said nothing within {_HANGS_SECONDS:g} s", reason=ErrorReason.NO_RESPONSE) from error
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def refusal(self) -> ServiceError | None:
        """Why it was not admitted, None if it was. Only when `admission` is done."""
        error = self.admission.exception()
        if error is not None and not isinstance(error, ServiceError):
            raise error
        return error

    async def close(self) -> None:
        self.admission.cancel()
        self.offer.withdraw()
        try:
            await asyncio.wait([self.admission])
            if not self.admission.cancelled():
                self.admission.exception()
        finally:
            await self.replica.end()


class _Search:
    """The search for a replica that does one piece of work: rounds through those there are, with pauses between."""

    def __init__(self, replicas: Replicas, deadline: Deadline, needs: str) -> None:
        self._replicas = replicas
        self._deadline = deadline
        self._needs = needs
        self._away_since = _now()
        self._lost = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self._begin_round()

    def _begin_round(self) -> None:
        self._added = self._replicas.added
        self._said: list[ServiceError] = []
        self._tried: set[Replica] = set()

    def pick(self) -> Replica | None:
        """The one not tried in this round that does least for us; those that are full or failed lately come last.

        One that lately said that it lacks what is needed is asked only if nobody else can be, to learn whether that is
        gone.
        """
        # Of equals a random one: nothing would tell us that others keep to the same.
        return self._try(self._willing(), lambda one: (one.is_avoided(), one.is_full(), one.in_flight))

    def pick_for_offer(self, waiting: int) -> Replica | None:
        """The one that should have room soonest, where so many offers are waiting already.

        None once some have said that they are full, and of those that failed only the last hope: an offer to one that
        hangs would keep the work from going back to those that answer. Beyond a few offers none where we have work.
        """
        refusals = sum(isinstance(error, Overloaded) for error in self._said)
        if refusals >= _MAX_REFUSALS or waiting >= _MOST_OFFERS:
            return None
        willing = self._willing()
        if waiting or refusals:
            willing = [one for one in willing if not one.is_avoided()]
        if waiting >= _OFFERS:
            willing = [one for one in willing if not one.in_flight and not one.is_full()]
        fastest = min((one.usual_seconds for one in self._replicas.by_address.values() if one.usual_seconds), default=0)
        return self._try(willing, lambda one: (one.is_avoided(), one.is_full(), *one.busy_until(fastest)))

    def _willing(self) -> list[Replica]:
        untried = [replica for replica in self._replicas.by_address.values() if replica not in self._tried]
        willing = [replica for replica in untried if not replica.lacks(self._needs)]
        if not willing and all(replica.lacks(self._needs) for replica in self._tried):
            return untried
        return willing

    def _try(self, willing: list[Replica], order: Callable[[Replica], tuple[float, ...]]) -> Replica | None:
        random.shuffle(willing)
        best = min(willing, key=order, default=None)
        if best is not None:
            self._tried.add(best)
        return best

    async def failed(self, replica: Replica, error: ServiceError) -> None:
        """Take note of what came of an attempt; raises it if trying further is of no use."""
        if isinstance(error, DeadlineExceeded) and (
            error.reason == ErrorReason.DEADLINE_INFEASIBLE or not self._deadline.remaining()
        ):
            raise error
        name = self._replicas.name
        match error:
            case DeadlineExceeded() if error.reason == _OWN_FAULT:
                _log.warning("we were too slow", service=name, address=replica.address, error=error.message)
            case Overloaded():
                replica.was_full(error.retry_after_seconds)
            case FailedPrecondition() if error.reason in _LACKS:
                replica.remember_lack(self._needs)
            case Unavailable() | DeadlineExceeded():
                if error.reason not in _FINAL:
                    hangs = isinstance(error, DeadlineExceeded) or error.reason == ErrorReason.NO_RESPONSE
                    (replica.hung if hangs else replica.failed)()
                    _log.warning("attempt failed", service=name, address=replica.address, error=error.message)
            case _:
                raise error
        self._said.append(error)
        took_it_up = isinstance(error, Lost | DeadlineExceeded) and error.reason != _OWN_FAULT
        took_it_up |= error.reason == ErrorReason.INTERNAL
        is_away = isinstance(error, Unavailable) and error.reason not in _FINAL
        ATTEMPTS.labels(name, "failed" if took_it_up else "unavailable" if is_away else "refused").inc()
        if took_it_up:
            self._lost += 1
            if self._lost >= _MAX_LOST:
                raise self._replicas.away() from error
            await self._replicas.retries.take(self._deadline)

    def _patience(self) -> float:
        if self._replicas.by_address:
            return self._replicas.wait_seconds
        self._replicas.cold_start.begin()
        return self._replicas.cold_start_seconds

    async def rest(self) -> None:
        """Between rounds; raises if another one is of no use."""
        said = self._said
        cause = said[-1] if said else None
        refusals = [error.retry_after_seconds for error in said if isinstance(error, Overloaded)]
        if refusals:
            self._away_since = _now()
        elif said and all(isinstance(error, FailedPrecondition) for error in said):
            raise Gone(said[-1].message, reason=said[-1].reason) from cause
        elif said and all(error.reason in _FINAL for error in said):
            raise said[-1]
        elif _now() - self._away_since >= self._patience():
            if any(replica.lacks(self._needs) for replica in self._replicas.by_address.values()):
                raise Gone(f"no {self._replicas.name} that answers has {self._needs}") from cause
            raise self._replicas.away() from cause
        pause = max(self._pause, min(refusals, default=0.0))
        if pause >= self._deadline.remaining():
            raise DeadlineExceeded(f"the deadline passed while waiting for the {self._replicas.name}s") from cause
        await _wait(self._added, pause * random.uniform(0.5, 1.5))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._begin_round()


def _check_hope(service_time: LatencyEstimator, deadline: Deadline, units: float) -> None:
    if service_time.is_hopeless(deadline.remaining(), units):
        raise DeadlineExceeded("the time left until the deadline is too short", reason=ErrorReason.DEADLINE_INFEASIBLE)


async def _wait(event: asyncio.Event, at_most_seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_seconds):
            await event.wait()


def _now() -> float:
    return time.monotonic()
