"""Child processes that sample videos, one video each at a time."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import structlog

from services.ingress.frame_buffer import FrameBuffer
from services.ingress.sampling_plan import SampledChunk
from videoanalysis.errors import InvalidInput, Unavailable

_log = structlog.get_logger()

_SOURCE_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60
_MAX_ANSWER_BYTES = 64 << 10
_REASONS = {"NOT_A_VIDEO", "NO_VIDEO_STREAM", "TOO_MANY_DECODE_FAILURES", "VIDEO_OVER_LIMIT"}


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one child may use: bytes of address space, CPU time of a video, wall time of a chunk; and what it accepts."""

    memory_bytes: int
    cpu_seconds: int
    chunk_seconds: float
    max_pixels: int
    max_video_seconds: float
    max_packets: int


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    frames_per_chunk: int
    chunk_duration: Fraction
    image_size: int

    @property
    def chunk_bytes(self) -> int:
        return self.frames_per_chunk * self.image_size**2 * 3


@dataclass(frozen=True, slots=True)
class VideoEnd:
    duration: Fraction
    decode_failures: int
    frames_decoded: int


class SamplingPool:
    """`size` workers, started on entering, replaced when they die, killed on leaving.

    Enter before the gRPC server starts, so that the children are there when the first call is.
    """

    def __init__(self, size: int, limits: WorkerLimits) -> None:
        self._size = size
        self._limits = limits
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: set[_Worker] = set()
        self._replacing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as starts:
                for _ in range(self._size):
                    starts.create_task(self._add_worker())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        for worker in self._workers:
            await worker.kill()
        self._workers.clear()

    @asynccontextmanager
    async def sample(self, media_fd: int, plan: SamplingSpec) -> AsyncIterator["SampledVideo"]:
        """The video in the file `media_fd`, which stays the caller's."""
        video = SampledVideo(self, media_fd, plan, self._limits.chunk_seconds)
        try:
            yield video
        finally:
            await video.close()

    @property
    def worker_pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    async def take(self) -> "_Worker":
        return await self._idle.get()

    async def give_back(self, worker: "_Worker") -> None:
        if worker.usable:
            self._idle.put_nowait(worker)
            return
        self._workers.discard(worker)
        replacing = asyncio.create_task(self._replace_worker())
        self._replacing.add(replacing)
        replacing.add_done_callback(self._replacing.discard)
        await worker.kill()

    async def _replace_worker(self) -> None:
        pause = 0.1
        while True:
            try:
                return await self._add_worker()
            except (OSError, Unavailable) as error:
                _log.error("sampling process did not start", error=str(error), retry_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, 10.0)

    async def _add_worker(self) -> None:
        worker = await _Worker.start(self._limits)
        self._workers.add(worker)
        self._idle.put_nowait(worker)


class SampledVideo:
    """The chunks of one video, in order. A worker that dies is replaced once, and sampling goes on where it stopped."""

    def __init__(self, pool: SamplingPool, media_fd: int, plan: SamplingSpec, chunk_seconds: float) -> None:
        self._pool = pool
        self._media_fd = media_fd
        self._plan = plan
        self._chunk_seconds = chunk_seconds
        self._worker: _Worker | None = None
        self._next_index = 0
        self._deaths = 0
        self.claimed_duration_seconds: float | None = None
        self.end: VideoEnd | None = None

    async def open(self) -> None:
        """Raises InvalidInput if it is no video that we can sample."""
        await self._ask({}, self._media_fd)

    async def next_chunk(self, buffer: FrameBuffer) -> SampledChunk | None:
        """Fills `buffer` with uint8 [frames, image_size, image_size, 3] RGB; after the last chunk None, with `end` set.

        Raises InvalidInput.
        """
        reply = await self._ask({"next": True}, buffer.fd)
        if "end" in reply:
            end = reply["end"]
            self.end = VideoEnd(Fraction(end["duration"]), int(end["decode_failures"]), int(end["frames_decoded"]))
            return None
        chunk = reply["chunk"]
        self._next_index += 1
        return SampledChunk(
            int(chunk["index"]),
            Fraction(chunk["start"]),
            Fraction(chunk["duration"]),
            tuple(Fraction(time) for time in chunk["frame_times"]),
        )

    async def close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.forget_video()
            await self._pool.give_back(worker)

    async def _ask(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        while True:
            try:
                worker = await self._opened()
                reply = await worker.ask(request, fd, self._chunk_seconds) if request else {}
            except _WorkerDied as death:
                await self.close()
                self._deaths += 1
                _log.warning("sampling process died", cause=str(death), chunk=self._next_index)
                if death.over_limit:
                    raise InvalidInput(f"video_uri: {death}", reason="VIDEO_OVER_LIMIT", field="video_uri") from death
                if self._deaths == 2:
                    raise InvalidInput(
                        "video_uri: decoding crashed twice at the same video", reason="NOT_A_VIDEO", field="video_uri"
                    ) from death
                continue
            return reply

    async def _opened(self) -> "_Worker":
        if self._worker is None:
            self._worker = await self._pool.take()
            plan = {
                "frames_per_chunk": self._plan.frames_per_chunk,
                "chunk_duration": str(self._plan.chunk_duration),
                "image_size": self._plan.image_size,
                "skip_chunks": self._next_index,
            }
            patience = self._chunk_seconds * (1 + self._next_index)
            reply = await self._worker.ask({"open": plan}, self._media_fd, patience)
            self.claimed_duration_seconds = reply["opened"]["claimed_duration_seconds"]
        return self._worker


class _WorkerDied(Exception):
    def __init__(self, message: str, over_limit: bool = False) -> None:
        super().__init__(message)
        self.over_limit = over_limit


class _Worker:
    """One child process and our end of the connection to it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        # From the first byte of a request to its answer; a worker that was left in between cannot be used again.
        self._asking = False

    @classmethod
    async def start(cls, limits: WorkerLimits) -> "_Worker":
        # Whole messages, in order, with an end of file when either side dies.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.ingress.sampling_worker",
                    str(theirs.fileno()),
                    json.dumps(asdict(limits)),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_SOURCE_ROOT,
                env={"PATH": os.defpath, "PYTHONPATH": str(_SOURCE_ROOT), "LC_ALL": "C.UTF-8"},
            )
        worker = cls(process, ours)
        try:
            async with asyncio.timeout(_START_SECONDS):
                if not await worker._receive():
                    raise Unavailable("a sampling process ended while it started")
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        return not self._asking and self._process.poll() is None

    async def ask(self, request: dict[str, Any], fd: int, seconds: float) -> dict[str, Any]:
        """The answer to `request`; raises InvalidInput for an answer that says so, _WorkerDied for none."""
        self._asking = True
        try:
            socket.send_fds(self._connection, [json.dumps(request).encode()], [fd])
            async with asyncio.timeout(seconds):
                message = await self._receive()
            reply: dict[str, Any] = json.loads(message) if message else {}
        except TimeoutError as error:
            raise _WorkerDied(f"sampling a chunk took over {seconds:.0f} s", over_limit=True) from error
        except (OSError, ValueError) as error:
            raise _WorkerDied(str(error)) from error
        if not message:
            raise await self._death()
        self._asking = False
        if "error" in reply:
            reason = reply["error"]["reason"]
            raise InvalidInput(
                str(reply["error"]["message"]),
                reason=reason if reason in _REASONS else "NOT_A_VIDEO",
                field="video_uri",
            )
        return reply

    def forget_video(self) -> None:
        """Have an idle child close its video."""
        if self.usable:
            try:
                self._connection.send(json.dumps({"close": True}).encode())
            except OSError:
                self._asking = True

    async def kill(self) -> None:
        self._connection.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def _receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._connection, _MAX_ANSWER_BYTES)

    async def _death(self) -> _WorkerDied:
        code = await asyncio.to_thread(self._process.wait, 10)
        if code == -signal.SIGXCPU:
            return _WorkerDied("sampling took more CPU time than allowed", over_limit=True)
        return _WorkerDied(f"exit code {code}")
