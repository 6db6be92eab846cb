"""The chunks of one video, requested one by one from a worker; a second worker takes over if the first one ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

import structlog

from services.ingress.admission import ByteBudget
from services.ingress.sampling import messages as sampling_messages
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.media import Media
from services.ingress.sampling.messages import Message
from services.ingress.sampling.sampled_chunk import LargestChange, SampledChunk
from services.ingress.sampling.worker_process import (
    NEAR_LIMIT,
    WorkerDied,
    WorkerOutOfCpuTime,
    WorkerOutOfMemory,
    WorkerProcess,
    WorkerTooSlow,
)
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()
_T = TypeVar("_T")

WORKER_BYTES = 256 << 20
MAX_WORKER_RESTARTS = 1  # for one video
_SMALL_MEDIA_BYTES = 1 << 20  # in less, starting more threads takes longer than they gain
_SUSPICIOUS_SHARE = 0.5  # of a worker's memory; a picture more may have been too much
_REASONS = {
    ErrorReason.NOT_A_VIDEO,
    ErrorReason.NO_VIDEO_STREAM,
    ErrorReason.TOO_MANY_DECODE_FAILURES,
    ErrorReason.VIDEO_OVER_LIMIT,
    ErrorReason.RANGE_BEYOND_END,
}


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What workers may use, and which videos they accept."""

    memory_bytes: int  # of all videos together, beyond `worker_bytes` of each
    cpu_seconds: int  # CPU time for a video, and wall time for a chunk
    stall_seconds: float  # wall time without progress
    max_pixels: int  # of a frame
    max_video_seconds: float
    max_packets: int
    worker_bytes: int = WORKER_BYTES  # memory of each worker beyond what it has when idle


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    frames_per_chunk: int
    chunk_duration: Fraction  # seconds
    image_size: int
    tolerance: Fraction = Fraction(0)  # seconds from a wanted time to the frame taken for it
    reuse_difference: float = 0.0  # below it a frame is handed out as the one before it
    first_chunk: int = 0  # those before it are passed over, at little cost
    frames_searched: int = 0  # decoded before, in search of the cuts of those chunks
    decode_failures: int = 0  # known from before
    decode_all: bool = False  # as those chunks had to
    start: Fraction = Fraction(0)  # seconds; of the first chunk
    end: Fraction | None = None  # of the last one; None: that of the video
    detect_cuts: bool = False

    @property
    def chunk_bytes(self) -> int:
        return self.frames_per_chunk * self.image_size**2 * 3


@dataclass(frozen=True, slots=True)
class VideoEnd:
    duration: Fraction  # seconds, measured
    decode_failures: int  # packets that the decoder was given and refused
    frames_decoded: int
    frames_dropped: int = 0  # decoded, but without a place on the timeline


class Workers(Protocol):
    async def acquire(self) -> WorkerProcess: ...

    def release(self, worker: WorkerProcess) -> None: ...

    @property
    def cores_per_video(self) -> int: ...


class SampledVideo:
    """Chunks in order. `memory` is the budget for what a video takes beyond `limits.worker_bytes`."""

    def __init__(
        self, workers: Workers, memory: ByteBudget, media: Media, spec: SamplingSpec, limits: WorkerLimits
    ) -> None:
        self._workers = workers
        self._memory = memory
        self._media = media
        self._spec = spec
        self._limits = limits
        self._worker: WorkerProcess | None = None
        self._next_index = spec.first_chunk
        self._decode_all = spec.decode_all
        self._restarts = 0
        self._worker_bytes = limits.worker_bytes
        self._most_bytes = limits.worker_bytes + limits.memory_bytes
        self._reserved_bytes = 0
        self._request_lock = asyncio.Lock()  # a worker answers one request at a time
        self.claimed_duration_seconds: float | None = None
        """What the container says, right or wrong; known once it is open, None if it says nothing."""
        self.end: VideoEnd | None = None
        """Known once `next_chunk` has returned None."""
        self.frames_decoded = 0
        """So far, by the worker that has the video now; up to date after the end and after each `refine`."""
        self.frames_searched = spec.frames_searched
        """Decoded in search of cuts so far."""
        self.decode_failures = spec.decode_failures
        """At least; the exact number is known at the end."""

    async def open(self) -> None:
        """Wait for a worker; raises InvalidInput if it finds no video that it can sample."""
        await self._with_restarts(self._opened)

    async def next_chunk(self, buffer: FrameBuffer) -> SampledChunk | None:
        """Fill `buffer`, uint8 [frames_per_chunk, image_size, image_size, 3] in RGB, with the chunk's frames.

        None after the last chunk.

        Raises InvalidInput, and the errors of the media's source.
        """
        if buffer.size != self._spec.chunk_bytes:
            raise ValueError(f"the buffer has {buffer.size} bytes, a chunk {self._spec.chunk_bytes}")
        if self.end is not None:
            return None

        async def attempt() -> tuple[SampledChunk | VideoEnd, int]:
            worker = await self._opened()
            answer = await self._request(worker, {"next": True}, buffer.fd, self._chunk_or_end)
            if answer[1] > self.decode_failures:
                self._suspect_memory(worker)
            return answer

        async with self._request_lock:
            chunk, failures = await self._with_restarts(attempt)
        self.decode_failures = max(self.decode_failures, failures)
        if isinstance(chunk, VideoEnd):
            self.end = chunk
            self.frames_decoded = chunk.frames_decoded
            return None
        self._next_index += 1
        self._decode_all = chunk.all_decoded
        return chunk

    def _chunk_or_end(self, answer: Message) -> tuple[SampledChunk | VideoEnd, int]:
        """With the number of packets that could not be decoded so far."""
        if "end" in answer:
            # A sampler that meets a refused packet reads the video again from its start and counts all of them, those
            # in chunks passed over too; one that meets none counts only those that were met before.
            end = _video_end(answer["end"], at_least_failures=self.decode_failures)
            return end, end.decode_failures
        chunk = sampling_messages.to_chunk(answer["chunk"], self._next_index, self._spec.frames_per_chunk)
        return chunk, sampling_messages.to_count(answer["decode_failures"])

    async def refine(self, cut: LargestChange) -> LargestChange:
        """The cut between two neighbouring frames, where that can be found at little cost; may wait for a chunk."""
        if cut.exact:
            return cut
        async with self._request_lock:
            if self._worker is None:
                return cut
            message = {"refine": sampling_messages.from_change(cut)}
            try:
                return await self._request(self._worker, message, None, self._narrowed)
            except InvalidInput:
                return cut
            except WorkerDied as death:
                self._count_restart(death)
                return cut

    def _narrowed(self, answer: Message) -> LargestChange:
        cut = sampling_messages.to_change(answer["refined"])
        self.frames_decoded = sampling_messages.to_count(answer["frames_decoded"])
        self.frames_searched = sampling_messages.to_count(answer["frames_searched"])
        return cut

    def close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._workers.release(worker)
        self._memory.release(self._reserved_bytes)
        self._reserved_bytes = 0

    async def _opened(self) -> WorkerProcess:
        if self._worker is not None:
            return self._worker
        await self._reserve(self._worker_bytes)
        self._worker = await self._workers.acquire()
        await self._worker.limit_memory(self._worker_bytes)
        await self._worker.limit_cpu(self._limits.cpu_seconds)
        spec = {
            "media_bytes": self._media.size,
            "media_complete": self._media.complete,
            "frames_per_chunk": self._spec.frames_per_chunk,
            "chunk_duration": self._spec.chunk_duration.as_integer_ratio(),
            "image_size": self._spec.image_size,
            "tolerance": self._spec.tolerance.as_integer_ratio(),
            "reuse_difference": self._spec.reuse_difference,
            "first_chunk": self._next_index,
            "frames_searched": self.frames_searched,
            "decode_all": self._decode_all,
            "detect_cuts": self._spec.detect_cuts,
            "threads": 1 if self._media.size < _SMALL_MEDIA_BYTES else self._workers.cores_per_video,
            "start": self._spec.start.as_integer_ratio(),
            "end": self._spec.end and self._spec.end.as_integer_ratio(),
        }
        opened = await self._request(
            self._worker, {"open": spec}, self._media.fd, lambda answer: sampling_messages.to_opened(answer["opened"])
        )
        self.claimed_duration_seconds = opened.claimed_duration_seconds
        if (needed := opened.memory_bytes) > self._worker_bytes:
            # An opened video holds little of what it will need, so it does not wait with its reservation in hand.
            await self._reserve(needed)
            self._worker_bytes = needed
            await self._worker.limit_memory(needed)
        return self._worker

    async def _reserve(self, worker_bytes: int) -> None:
        """Reserve what `worker_bytes` are beyond the usual, in place of what is reserved; may wait."""
        self._memory.release(self._reserved_bytes)
        self._reserved_bytes = 0
        extra = max(0, worker_bytes - self._limits.worker_bytes)
        if worker_bytes > self._most_bytes:
            needed, allowed = worker_bytes >> 20, self._most_bytes >> 20
            raise _refused(
                ErrorReason.VIDEO_OVER_LIMIT,
                f"Decoding the video takes about {needed} MiB of memory, over the {allowed} MiB allowed.",
            )
        await self._memory.acquire(extra)
        self._reserved_bytes = extra

    async def _request(
        self, worker: WorkerProcess, message: Message, fd: int | None, read: Callable[[Message], _T]
    ) -> _T:
        """What `read` makes of the answer; an answer that it cannot read ends the worker."""
        answer = await worker.request(
            message, fd, self._limits.stall_seconds, self._media.fetch, max_seconds=self._limits.cpu_seconds
        )
        try:
            if "error" not in answer:
                return read(answer)
            reason, problem = answer["error"]["reason"], str(answer["error"]["message"])
            refusal = _refused(reason if reason in _REASONS else ErrorReason.NOT_A_VIDEO, problem)
        except sampling_messages.MALFORMED as error:
            worker.kill()
            raise WorkerDied("a malformed answer") from error
        self._suspect_memory(worker)
        raise refusal

    def _suspect_memory(self, worker: WorkerProcess) -> None:
        """Raise WorkerOutOfMemory if a failure may be one: decoders report failed allocations as damage, too."""
        if worker.peak_share > (NEAR_LIMIT if self._restarts else _SUSPICIOUS_SHARE):
            worker.kill()
            raise WorkerOutOfMemory("decoding failed, perhaps for lack of memory")

    def _count_restart(self, death: WorkerDied) -> None:
        self.close()
        self._restarts += 1
        _log.warning("sampling process ended", cause=str(death), chunk=self._next_index)

    async def _with_restarts(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """`attempt`, repeated in another worker if its worker ends and that is likely to help."""
        while True:
            try:
                return await attempt()
            except WorkerDied as death:
                self._count_restart(death)
                if isinstance(death, WorkerOutOfCpuTime) or self._restarts > MAX_WORKER_RESTARTS:
                    raise self._refusal(death) from death
                if isinstance(death, WorkerOutOfMemory):
                    # The worker's earlier videos may have left too little, or later pictures are larger.
                    self._worker_bytes = min(2 * self._worker_bytes, self._most_bytes)

    def _refusal(self, death: WorkerDied) -> InvalidInput:
        match death:
            case WorkerOutOfCpuTime():
                message = f"Sampling the video takes more than the {self._limits.cpu_seconds} s of CPU time allowed."
            case WorkerOutOfMemory():
                message = "Sampling the video takes more memory than allowed."
            case WorkerTooSlow():
                message = f"Sampling the video takes too long: {death}."
            case _:
                return _refused(ErrorReason.DECODER_CRASHED, "Decoding the video crashed twice.")
        return _refused(ErrorReason.VIDEO_OVER_LIMIT, message)


def _refused(reason: ErrorReason, message: str) -> InvalidInput:
    field = "start_seconds" if reason == ErrorReason.RANGE_BEYOND_END else "video_uri"
    return InvalidInput(message, reason=reason, field=field)


def _video_end(answer: Message, at_least_failures: int) -> VideoEnd:
    return VideoEnd(
        duration=sampling_messages.to_fraction(answer["duration"]),
        decode_failures=max(sampling_messages.to_count(answer["decode_failures"]), at_least_failures),
        frames_decoded=sampling_messages.to_count(answer["frames_decoded"]),
        frames_dropped=sampling_messages.to_count(answer["frames_dropped"]),
    )
