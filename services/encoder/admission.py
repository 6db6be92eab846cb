"""Admission to the accelerator: a fixed number of permits, each owning a buffer, and a bounded queue in front."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from services.encoder.engine import Encoded
from services.encoder.parking import ParkedHeaders
from services.encoder.upload_lead import UploadLead
from videoanalysis.errors import DeadlineExceeded, InvalidInput, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Buffer = NDArray[np.uint8]
T = TypeVar("T")

_log = structlog.get_logger()

# Within this time a GPU finishes one of the chunks in flight.
_RETRY_AFTER_SECONDS = 0.1
# Time after an upload that was too slow in which its ingress is served after the others.
_SLOW_SECONDS = 30.0


class Admission:
    """Grants one permit for each of `buffers`, round robin by ingress; used on one event loop.

    A permit is freed when its holder leaves, but not while its work runs on a thread: that cannot be stopped, and the
    buffer is being read. So no more chunks than permits are uploaded or computed at a time. While a chunk is in
    flight, the next permit is granted just in time for its upload (see `upload_lead`).

    An ingress whose upload was too slow gets a permit only while no other ingress waits, and never the last one.
    """

    def __init__(
        self,
        buffers: list[Buffer],
        *,
        max_parked: int,
        max_parked_per_ingress: int | None = None,
        piece_seconds: float = 1.0,
        upload_seconds: float = 5.0,
    ) -> None:
        self._free = list(buffers)
        per_ingress = max_parked_per_ingress or max_parked
        self._parked: ParkedHeaders[PermitRequest] = ParkedHeaders(max_parked, per_ingress)
        self._parked_slow: ParkedHeaders[PermitRequest] = ParkedHeaders(max_parked, per_ingress)
        self._max_slow = max_parked
        self._slow_until: OrderedDict[str, float] = OrderedDict()  # by ingress
        self._max_in_flight = len(buffers)
        self.pause_seconds = min(piece_seconds, upload_seconds)
        self.upload_seconds = upload_seconds
        self.threads = ThreadPoolExecutor(self._max_in_flight, thread_name_prefix="engine")
        self.lead = UploadLead()
        self._holders: set[Permit] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        return self._max_in_flight - len(self._free)

    @property
    def parked(self) -> int:
        return len(self._parked) + len(self._parked_slow)

    @asynccontextmanager
    async def request(
        self, frames: int = 1, *, ingress: str = "", waited_seconds: float = 0.0
    ) -> AsyncGenerator["PermitRequest"]:
        """A request for a permit for a chunk of `frames` frames, which `ingress` first offered `waited_seconds` ago.

        It waits as long as the context is open; raises Overloaded only if too many requests wait.
        """
        request = PermitRequest(self, frames, ingress)
        parked = self._parked_slow if self._is_slow(ingress) else self._parked
        parked.add(ingress, request.arrived_at - waited_seconds, request)
        self.hand_out()
        if (excess := parked.pop_excess(ingress)) is not None:
            excess.refuse(self._busy())
        try:
            yield request
        finally:
            self._parked.discard(ingress, request)
            self._parked_slow.discard(ingress, request)
            request.close()

    @asynccontextmanager
    async def permit(self, frames: int = 1) -> AsyncGenerator["Permit"]:
        """A permit, waited for without limit; raises Overloaded while too many wait."""
        async with self.request(frames) as request:
            yield await request.granted()

    async def warm_up(self, work: Callable[[], Encoded]) -> None:
        """Run `work` on every thread on which permits will run theirs. The fastest run predicts the first chunks."""
        loop = asyncio.get_running_loop()
        runs = await asyncio.gather(*(loop.run_in_executor(self.threads, work) for _ in range(self._max_in_flight)))
        fastest = min(runs, key=lambda run: run.compute_seconds / len(run.embeddings))
        self.lead.expect(fastest.compute_seconds, len(fastest.embeddings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.threads.shutdown(wait=False)

    def hand_out(self) -> None:
        """Grants free permits that are due to parked requests, and sets a timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and (parked := self._next_in_line()):
            if (seconds := self._seconds_until_next()) > 0:
                self._timer = asyncio.get_running_loop().call_later(seconds, self.hand_out)
                return
            self._holders.add(parked.pop().grant(self._free.pop()))

    def _next_in_line(self) -> "ParkedHeaders[PermitRequest] | None":
        if self._parked:
            return self._parked
        slow = sum(self._is_slow(permit.ingress) for permit in self._holders)
        return self._parked_slow if self._parked_slow and slow < max(1, self._max_in_flight - 1) else None

    def upload_was_slow(self, ingress: str) -> None:
        self._slow_until[ingress] = asyncio.get_running_loop().time() + _SLOW_SECONDS
        self._slow_until.move_to_end(ingress)
        if len(self._slow_until) > self._max_slow:
            self._slow_until.popitem(last=False)
        for since, request in self._parked.pop_all(ingress):
            self._parked_slow.add(ingress, since, request)
            if (excess := self._parked_slow.pop_excess(ingress)) is not None:
                excess.refuse(self._busy())

    def _is_slow(self, ingress: str) -> bool:
        return self._slow_until.get(ingress, 0.0) > asyncio.get_running_loop().time()

    def _seconds_until_next(self) -> float:
        """Seconds until a free permit is due; 0 or less if it is due now."""
        if not self._holders:
            return 0.0
        times = [self.lead.next_at(one.admitted_at, one.uploaded_at, one.frames) for one in self._holders]
        return min(times) - asyncio.get_running_loop().time()

    def take_back(self, permit: "Permit", buffer: Buffer) -> None:
        self._holders.discard(permit)
        self._free.append(buffer)
        self.hand_out()

    def _busy(self) -> Overloaded:
        return Overloaded(
            f"all {self._max_in_flight} permits of this encoder are in use and too many requests wait",
            reason=ErrorReason.ENCODER_BUSY,
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )


class PermitRequest:
    """A parked request for a permit, and then the granted permit, until it is closed."""

    def __init__(self, admission: Admission, frames: int, ingress: str) -> None:
        loop = asyncio.get_running_loop()
        self.arrived_at = loop.time()
        self._admission = admission
        self._frames = frames
        self._ingress = ingress
        self._answer: asyncio.Future[Permit] = loop.create_future()

    async def granted(self) -> "Permit":
        """Raises Overloaded if the request is refused."""
        await asyncio.wait([self._answer])
        return self._answer.result()

    async def granted_within(self, seconds: float) -> "Permit | None":
        """The permit, None if it is not granted within `seconds`. Raises Overloaded if the request is refused."""
        await asyncio.wait([self._answer], timeout=seconds)
        return self._answer.result() if self._answer.done() else None

    def grant(self, buffer: Buffer) -> "Permit":
        permit = Permit(self._admission, buffer, self._frames, self._ingress, self.arrived_at)
        self._answer.set_result(permit)
        return permit

    def refuse(self, error: Overloaded) -> None:
        self._answer.set_exception(error)

    def close(self) -> None:
        """Frees the permit, if there is one, once no work of it runs."""
        if not self._answer.done():
            self._answer.cancel()
        elif self._answer.exception() is None:
            self._answer.result().free_when_idle()


class Permit:
    """The right to use the accelerator, and the buffer that goes with it. Times are those of the event loop."""

    def __init__(self, admission: Admission, buffer: Buffer, frames: int, ingress: str, arrived_at: float) -> None:
        self.frames = frames
        self.ingress = ingress
        self.admitted_at = asyncio.get_running_loop().time()
        self.parked_seconds = self.admitted_at - arrived_at
        self.uploaded_at: float | None = None
        self._admission = admission
        self._buffer = buffer
        self._work: asyncio.Future[Any] | None = None

    async def announce(self, write: Awaitable[None]) -> None:
        """Awaits `write`, which sends *admitted* to the caller; raises DeadlineExceeded if it takes too long."""
        async with self._upload_limit(lambda: "the caller has not read that it is admitted"):
            await write

    async def receive(self, pieces: AsyncIterator[bytes | memoryview], nbytes: int) -> Buffer:
        """Copy all pieces into the buffer; its first `nbytes` bytes, valid until the permit is given back.

        Raises InvalidInput if there are more or fewer bytes than that, DeadlineExceeded if no piece arrives for the
        admission's `piece_seconds`, or if they come at a pace at which all would take longer than its `upload_seconds`.
        """
        loop = asyncio.get_running_loop()
        pause, upload_seconds = self._admission.pause_seconds, self._admission.upload_seconds
        filled = 0
        async with self._upload_limit(lambda: f"{filled} of {nbytes} bytes arrived") as limit:
            async for piece in pieces:
                if filled + len(piece) > nbytes:
                    raise InvalidInput(f"piece: more than the {nbytes} bytes of the header", field="piece")
                self._buffer[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
                # The limit grows with the bytes received, from piece_seconds for none to upload_seconds for all.
                gained = (upload_seconds - pause) * filled / nbytes
                limit.reschedule(min(loop.time(), self.admitted_at + gained) + pause)
        if filled < nbytes:
            raise InvalidInput(f"piece: {filled} bytes, not the {nbytes} of the header", field="piece")
        self.uploaded_at = loop.time()
        self._admission.lead.uploaded(self.uploaded_at - self.admitted_at, self.frames)
        self._admission.hand_out()
        return self._buffer[:nbytes]

    @asynccontextmanager
    async def _upload_limit(self, progress: Callable[[], str]) -> AsyncGenerator[asyncio.Timeout]:
        """Limits the upload. The first limit is `piece_seconds` after the admission: others wait for the permit."""
        admission = self._admission
        try:
            async with asyncio.timeout_at(self.admitted_at + admission.pause_seconds) as timeout:
                yield timeout
        except TimeoutError as error:
            admission.upload_was_slow(self.ingress)
            raise DeadlineExceeded(
                f"upload: {progress()}; a pause may last {admission.pause_seconds:g} s and the upload "
                f"{admission.upload_seconds:g} s",
                reason=ErrorReason.UPLOAD_TOO_SLOW,
            ) from error

    def computed(self, seconds: float) -> None:
        """Records how many seconds the accelerator took."""
        self._admission.lead.computed(seconds, self.frames, asyncio.get_running_loop().time())

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)` on a thread. It runs to its end even if the caller is cancelled."""
        self._work = asyncio.get_running_loop().run_in_executor(self._admission.threads, work, *arguments)
        result: T = await asyncio.shield(self._work)
        return result

    def free_when_idle(self) -> None:
        """Free the permit: now, or when its work ends."""
        if self._work is None or self._work.done():
            self._admission.take_back(self, self._buffer)
            return

        def end_alone(work: asyncio.Future[Any]) -> None:
            self._admission.take_back(self, self._buffer)
            if not work.cancelled() and work.exception() is not None:
                _log.error("work failed after its caller left", exc_info=work.exception())

        self._work.add_done_callback(end_alone)
