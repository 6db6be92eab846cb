"""Who may use the accelerator: a fixed number of permits, each owning a buffer, and a short queue in front."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from services.encoder.engine import Encoded
from services.encoder.lead import Lead
from videoanalysis.errors import DeadlineExceeded, InvalidInput, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Buffer = NDArray[np.uint8]
T = TypeVar("T")

_log = structlog.get_logger()

# By then one of the chunks in flight on a GPU is done.
_RETRY_AFTER_SECONDS = 0.1
# With so many in line there is always one whose upload is in time: no reason to hold back a place.
_CROWD = 4


class Admission:
    """Hands out `max_in_flight` permits, first come first served, to be used on one event loop.

    A permit comes back when its holder leaves, but not while its work runs on a thread: that cannot be stopped, and the
    buffer is being read. So there are never more than `max_in_flight` chunks on the way to or on the accelerator. While
    one is, a further permit is held back until it is time to upload the next, unless many wait.
    """

    def __init__(
        self,
        buffers: list[Buffer],
        *,
        max_parked: int,
        park_seconds: float,
        piece_seconds: float = 1.0,
        upload_seconds: float = 5.0,
    ) -> None:
        self._free = list(buffers)
        self._parked: deque[asyncio.Future[Buffer]] = deque()
        self._max_in_flight = len(buffers)
        self._max_parked = max_parked
        self._park_seconds = park_seconds
        self.piece_seconds = piece_seconds
        self.upload_seconds = upload_seconds
        self.threads = ThreadPoolExecutor(self._max_in_flight, thread_name_prefix="engine")
        self.lead = Lead()
        self._holders: set[Permit] = set()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        return self._max_in_flight - len(self._free)

    @property
    def parked(self) -> int:
        return len(self._parked)

    @asynccontextmanager
    async def permit(self, frames: int = 1) -> AsyncGenerator["Permit"]:
        """A permit for a chunk of so many frames.

        It is waited for at most `park_seconds`; raises Overloaded where that, or the queue, is not enough.
        """
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        buffer = await self._take()
        permit = Permit(self, buffer, frames, loop.time() - arrived, loop.time())
        self._holders.add(permit)
        try:
            yield permit
        finally:
            permit.when_idle(lambda: self._end(permit, buffer))

    async def warm_up(self, work: Callable[[], Encoded]) -> None:
        """Run `work` on every thread on which permits will run theirs. The fastest run tells what to expect of them."""
        loop = asyncio.get_running_loop()
        runs = await asyncio.gather(*(loop.run_in_executor(self.threads, work) for _ in range(self._max_in_flight)))
        fastest = min(runs, key=lambda run: run.compute_seconds / len(run.embeddings))
        self.lead.expect(fastest.compute_seconds, len(fastest.embeddings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self.threads.shutdown(wait=False)

    async def _take(self) -> Buffer:
        if self._free and not self._parked and self._seconds_until_next() <= 0:
            return self._free.pop()
        if len(self._parked) >= self._max_parked:
            if self._free and not self._max_parked:
                return self._free.pop()
            raise self._busy("as many wait")
        place: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        self._parked.append(place)
        self.hand_out()
        try:
            await asyncio.wait([place], timeout=self._park_seconds)
            if place.done():
                return place.result()
            if self._free:
                # Held back for somebody later, while we cannot wait any longer.
                return self._free.pop()
            raise self._busy(f"none became free within {self._park_seconds:g} s")
        except asyncio.CancelledError:
            if place.done():
                # The caller left in the instant in which it was let in.
                self._give_back(place.result())
            raise
        finally:
            if not place.done():
                self._parked.remove(place)

    def hand_out(self) -> None:
        """Give what is free to those who wait, as far as it is time; and come back when it is."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._free and self._parked:
            if (seconds := self._seconds_until_next()) > 0:
                self._alarm = asyncio.get_running_loop().call_later(seconds, self.hand_out)
                return
            self._parked.popleft().set_result(self._free.pop())

    def _seconds_until_next(self) -> float:
        """Until a free permit is to be given away, 0 or less for now."""
        if self.in_flight == 0 or len(self._parked) >= _CROWD or not self._holders:
            return 0.0
        times = [self.lead.next_at(one.admitted_at, one.uploaded_at, one.frames) for one in self._holders]
        return min(times) - asyncio.get_running_loop().time()

    def _end(self, permit: "Permit", buffer: Buffer) -> None:
        self._holders.discard(permit)
        self._give_back(buffer)

    def _give_back(self, buffer: Buffer) -> None:
        self._free.append(buffer)
        self.hand_out()

    def _busy(self, why: str) -> Overloaded:
        return Overloaded(
            f"all {self._max_in_flight} places of this encoder are taken and {why}",
            reason=ErrorReason.ENCODER_BUSY,
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )


class Permit:
    """A place on the accelerator and the buffer that goes with it. `parked_seconds` is how long it was waited for.

    The times are those of the event loop.
    """

    def __init__(
        self, admission: Admission, buffer: Buffer, frames: int, parked_seconds: float, admitted_at: float
    ) -> None:
        self.frames = frames
        self.parked_seconds = parked_seconds
        self.admitted_at = admitted_at
        self.uploaded_at: float | None = None
        self._admission = admission
        self._buffer = buffer
        self._work: asyncio.Future[Any] | None = None

    async def receive(self, pieces: AsyncIterator[bytes], nbytes: int) -> Buffer:
        """Copy all pieces into the buffer; its first `nbytes` bytes, valid until the permit is given back.

        Raises InvalidInput if there are more or fewer bytes than that, DeadlineExceeded if the caller is silent for
        the admission's `piece_seconds` or not done after its `upload_seconds`.
        """
        loop = asyncio.get_running_loop()
        piece_seconds, upload_seconds = self._admission.piece_seconds, self._admission.upload_seconds
        latest = loop.time() + upload_seconds
        filled = 0
        try:
            async with asyncio.timeout_at(min(latest, loop.time() + piece_seconds)) as limit:
                async for piece in pieces:
                    if filled + len(piece) > nbytes:
                        raise InvalidInput(f"piece: more than the {nbytes} bytes of the header", field="piece")
                    self._buffer[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                    filled += len(piece)
                    limit.reschedule(min(latest, loop.time() + piece_seconds))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"upload: {filled} of {nbytes} bytes came; at most {piece_seconds:g} s between pieces and "
                f"{upload_seconds:g} s in all are given",
                reason=ErrorReason.UPLOAD_TOO_SLOW,
            ) from error
        if filled < nbytes:
            raise InvalidInput(f"piece: {filled} bytes, not the {nbytes} of the header", field="piece")
        self.uploaded_at = loop.time()
        self._admission.lead.uploaded(self.uploaded_at - self.admitted_at, self.frames)
        self._admission.hand_out()
        return self._buffer[:nbytes]

    def computed(self, seconds: float) -> None:
        """Tell how long the accelerator took."""
        self._admission.lead.computed(seconds, self.frames)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)` on a thread. It goes on to its end even if the caller is cancelled."""
        self._work = asyncio.get_running_loop().run_in_executor(self._admission.threads, work, *arguments)
        result: T = await asyncio.shield(self._work)
        return result

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call `then` once no work of this permit runs: now, or when it ends."""
        if self._work is None or self._work.done():
            then()
            return

        def end_alone(work: asyncio.Future[Any]) -> None:
            then()
            if not work.cancelled() and work.exception() is not None:
                _log.error("work failed after its caller left", exc_info=work.exception())

        self._work.add_done_callback(end_alone)
