"""Sampling in child processes, one video each at a time: media is never opened in this one."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self, TypeVar

import structlog

from services.ingress.sampling import messages as sampling_messages
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.plan import Cut, SampledChunk
from services.ingress.sampling.worker_process import WorkerDied, WorkerOutOfCpuTime, WorkerProcess, WorkerTooSlow
from videoanalysis.errors import InvalidInput, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()
_T = TypeVar("_T")

_MODULE = "services.ingress.sampling.worker"
_REASONS = {
    ErrorReason.NOT_A_VIDEO,
    ErrorReason.NO_VIDEO_STREAM,
    ErrorReason.TOO_MANY_DECODE_FAILURES,
    ErrorReason.VIDEO_OVER_LIMIT,
}
_DEATHS_BORNE = 1  # of workers, by one video
_KILL_SECONDS = 5  # only a process that the kernel cannot interrupt takes longer
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may use, and which videos it accepts."""

    memory_bytes: int  # of address space
    cpu_seconds: int  # CPU time for a video
    chunk_seconds: float  # wall time for a chunk
    max_pixels: int  # of a frame
    max_video_seconds: float
    max_packets: int


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    frames_per_chunk: int
    chunk_duration: Fraction  # seconds
    image_size: int
    first_chunk: int = 0  # those before it are passed over, at little cost
    frames_searched: int = 0  # decoded before, in search of the cuts of those chunks
    decode_failures: int = 0  # known from before
    decode_all: bool = False  # as those chunks had to

    @property
    def chunk_bytes(self) -> int:
        return self.frames_per_chunk * self.image_size**2 * 3


@dataclass(frozen=True, slots=True)
class VideoEnd:
    duration: Fraction  # seconds, measured
    decode_failures: int  # packets that the decoder was given and refused
    frames_decoded: int


class SamplingPool:
    """`size` workers: there on entering, replaced whenever they die, killed on leaving.

    Enter it before the gRPC server starts, so that the workers are there when the first call is.
    """

    def __init__(self, size: int, limits: WorkerLimits) -> None:
        self._size = size
        self._limits = limits
        self._workers: set[WorkerProcess] = set()
        self._idle: deque[WorkerProcess] = deque()
        self._someone_idle = asyncio.Event()
        self._closed = False
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            workers = [self._start_worker() for _ in range(self._size)]
            for worker in workers:
                await worker.ready()
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, WorkerDied):
                raise Unavailable(f"a sampling process did not start: {error}") from error
            raise
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._someone_idle.set()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                for worker in workers:
                    await self._end(worker)

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of all workers, those that are being started included."""
        return [worker.pid for worker in self._workers]

    @asynccontextmanager
    async def sample(self, media_fd: int, spec: SamplingSpec) -> AsyncIterator["SampledVideo"]:
        """The video in the file `media_fd`, which stays the caller's."""
        video = SampledVideo(self, media_fd, spec, self._limits)
        try:
            yield video
        finally:
            video.close()

    async def take(self) -> WorkerProcess:
        """A worker without a video, as soon as there is one. Whoever takes it gives it back."""
        while True:
            while self._idle:
                worker = self._idle.popleft()
                if worker.usable:
                    return worker
            if self._closed:
                raise Unavailable("the service is shutting down")
            self._someone_idle.clear()
            await self._someone_idle.wait()

    def give_back(self, worker: WorkerProcess) -> None:
        """A worker that was left in the middle of a request is replaced."""
        if worker.usable:
            worker.tell({"close": True})
            self._offer(worker)
        else:
            worker.kill()

    def _offer(self, worker: WorkerProcess) -> None:
        self._idle.append(worker)
        self._someone_idle.set()

    async def _keep(self, worker: WorkerProcess) -> None:
        """Offer `worker`, and another whenever the last has died."""
        while True:
            self._offer(worker)
            await worker.exited()
            if worker in self._idle:
                self._idle.remove(worker)
            await self._end(worker)
            worker = await self._replacement()

    async def _replacement(self) -> WorkerProcess:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                worker = self._start_worker()
                try:
                    await worker.ready()
                    return worker
                except WorkerDied:
                    await self._end(worker)
                    raise
            except (OSError, WorkerDied) as error:
                _log.error("sampling process did not start", error=str(error), retry_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(_MODULE, [json.dumps(asdict(self._limits))])
        self._workers.add(worker)
        return worker

    async def _end(self, worker: WorkerProcess) -> None:
        worker.kill()
        await worker.exited()
        worker.close()
        self._workers.discard(worker)


class SampledVideo:
    """The chunks of one video, in order. If its worker dies, another goes on where that one stopped, once."""

    def __init__(self, pool: SamplingPool, media_fd: int, spec: SamplingSpec, limits: WorkerLimits) -> None:
        self._pool = pool
        self._media_fd = media_fd
        self._spec = spec
        self._limits = limits
        self._worker: WorkerProcess | None = None
        self._next_index = spec.first_chunk
        self._decode_all = spec.decode_all
        self._deaths = 0
        self._patience = 0.0  # seconds for the next answer
        self._turn = asyncio.Lock()  # a worker answers one request at a time
        self.claimed_duration_seconds: float | None = None
        """What the container says, right or wrong; known once it is open, None if it says nothing."""
        self.end: VideoEnd | None = None
        """Known once `next_chunk` has returned None."""
        self.frames_decoded = 0
        """So far, by the worker that has the video now; up to date after the end and after each `narrow`."""
        self.frames_searched = spec.frames_searched
        """Decoded in search of cuts so far."""
        self.decode_failures = spec.decode_failures
        """At least; the whole truth is known at the end."""

    async def open(self) -> None:
        """Wait for a worker; raises InvalidInput if it finds no video that it can sample."""
        await self._surviving_a_death(self._opened)

    async def next_chunk(self, buffer: FrameBuffer) -> SampledChunk | None:
        """Fill `buffer` with uint8 [frames_per_chunk, image_size, image_size, 3] in RGB; None after the last chunk.

        Raises InvalidInput.
        """
        if buffer.size != self._spec.chunk_bytes:
            raise ValueError(f"the buffer has {buffer.size} bytes, a chunk {self._spec.chunk_bytes}")
        if self.end is not None:
            return None

        async def attempt() -> dict[str, Any]:
            worker = await self._opened()
            return await self._ask(worker, {"next": True}, buffer.fd)

        async with self._turn:
            answer = await self._surviving_a_death(attempt)
        self._patience = self._limits.chunk_seconds
        if "end" in answer:
            # Whoever meets a packet that is refused reads the video again from its start and counts them all, those
            # in chunks passed over too; whoever meets none knows only of those that were met before.
            self.end = _video_end(answer["end"], at_least_failures=self.decode_failures)
            self.frames_decoded = self.end.frames_decoded
            return None
        self.decode_failures = max(self.decode_failures, int(answer["decode_failures"]))
        self._next_index += 1
        chunk = sampling_messages.to_chunk(answer["chunk"])
        self._decode_all = chunk.all_decoded
        return chunk

    async def narrow(self, cut: Cut) -> Cut:
        """The cut between two neighbouring frames, where that can be found at little cost; may wait for a chunk."""
        if cut.exact:
            return cut
        async with self._turn:
            if self._worker is None:
                return cut
            try:
                answer = await self._worker.ask({"narrow": sampling_messages.from_cut(cut)}, None, self._patience)
            except WorkerDied as death:
                self._bear(death)
                return cut
        if "narrowed" not in answer:
            return cut
        self.frames_decoded = int(answer["frames_decoded"])
        self.frames_searched = int(answer["frames_searched"])
        return sampling_messages.to_cut(answer["narrowed"])

    def close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._pool.give_back(worker)

    async def _opened(self) -> WorkerProcess:
        if self._worker is not None:
            return self._worker
        self._worker = await self._pool.take()
        spec = {
            "frames_per_chunk": self._spec.frames_per_chunk,
            "chunk_duration": self._spec.chunk_duration.as_integer_ratio(),
            "image_size": self._spec.image_size,
            "first_chunk": self._next_index,
            "frames_searched": self.frames_searched,
            "decode_all": self._decode_all,
        }
        # Before the first chunk come those passed over, each of which may take as long.
        self._patience = self._limits.chunk_seconds * (1 + self._next_index)
        answer = await self._ask(self._worker, {"open": spec}, self._media_fd)
        self.claimed_duration_seconds = answer["opened"]["claimed_duration_seconds"]
        return self._worker

    async def _ask(self, worker: WorkerProcess, request: dict[str, Any], fd: int) -> dict[str, Any]:
        answer = await worker.ask(request, fd, self._patience)
        if "error" in answer:
            reason = answer["error"]["reason"]
            raise _refused(reason if reason in _REASONS else ErrorReason.NOT_A_VIDEO, str(answer["error"]["message"]))
        return answer

    def _bear(self, death: WorkerDied) -> None:
        self.close()
        self._deaths += 1
        _log.warning("sampling process died", cause=str(death), chunk=self._next_index)

    async def _surviving_a_death(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                return await attempt()
            except WorkerDied as death:
                self._bear(death)
                if isinstance(death, WorkerOutOfCpuTime):
                    allowed = f"{self._limits.cpu_seconds} s of CPU time allowed"
                    raise _refused(
                        ErrorReason.VIDEO_OVER_LIMIT, f"Sampling the video takes more than the {allowed}."
                    ) from death
                if self._deaths <= _DEATHS_BORNE:
                    continue
                if isinstance(death, WorkerTooSlow):
                    allowed = f"{self._limits.chunk_seconds:g} s allowed"
                    raise _refused(
                        ErrorReason.VIDEO_OVER_LIMIT, f"Sampling a chunk takes more than the {allowed}."
                    ) from death
                raise _refused(ErrorReason.NOT_A_VIDEO, "Decoding the video crashed twice.") from death


def _refused(reason: ErrorReason, message: str) -> InvalidInput:
    return InvalidInput(message, reason=reason, field="video_uri")


def _video_end(answer: dict[str, Any], at_least_failures: int) -> VideoEnd:
    return VideoEnd(
        duration=sampling_messages.to_fraction(answer["duration"]),
        decode_failures=max(int(answer["decode_failures"]), at_least_failures),
        frames_decoded=int(answer["frames_decoded"]),
    )
