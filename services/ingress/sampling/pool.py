"""Sampling in child processes, one video each at a time: media is never opened in this one."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Self

import structlog

from services.ingress.admission import ByteBudget
from services.ingress.sampling.media import Media
from services.ingress.sampling.sampled_video import SampledVideo, SamplingSpec, WorkerLimits
from services.ingress.sampling.worker_process import WorkerDied, WorkerProcess
from videoanalysis.cores import cores
from videoanalysis.errors import Unavailable

_log = structlog.get_logger()

_MODULE = "services.ingress.sampling.worker"
_KILL_SECONDS = 5  # only a process that the kernel cannot interrupt takes longer
_CLOSE_SECONDS = 5
_MOST_THREADS = 6  # of a decoder; more gain little
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.1, 10.0


class SamplingPool:
    """`size` workers: started on entering, replaced whenever they end, killed on leaving.

    Enter it before the gRPC server starts, so that the workers are ready for the first call.
    """

    def __init__(self, size: int, limits: WorkerLimits) -> None:
        self._size = size
        self._limits = limits
        self._memory = ByteBudget(limits.memory_bytes)
        self._workers: set[WorkerProcess] = set()
        self._idle: deque[WorkerProcess] = deque()
        self._idle_or_closed = asyncio.Event()
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

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
        self._tasks = {asyncio.create_task(self._supervise(worker)) for worker in workers}
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._idle_or_closed.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                for worker in workers:
                    await self._end(worker)

    @property
    def sandbox(self) -> frozenset[str]:
        """Which of the sandbox's measures are in force in every worker."""
        return frozenset.intersection(*(worker.sandbox for worker in self._workers))

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of all workers, those that are being started included."""
        return [worker.pid for worker in self._workers]

    @property
    def cores_per_video(self) -> int:
        """How many cores each video has now, if they are shared evenly; one at least."""
        videos = max(1, self._size - len(self._idle))
        return max(1, min(_MOST_THREADS, cores() // videos))

    @asynccontextmanager
    async def sample(self, media: Media, spec: SamplingSpec) -> AsyncIterator[SampledVideo]:
        """The video in `media`, which stays the caller's to close."""
        video = SampledVideo(self, self._memory, media, spec, self._limits)
        try:
            yield video
        finally:
            video.close()

    async def acquire(self) -> WorkerProcess:
        """A worker without a video, as soon as there is one; it must be released."""
        while True:
            while self._idle:
                worker = self._idle.popleft()
                if worker.usable:
                    return worker
            if self._closed:
                raise Unavailable("the service is shutting down")
            self._idle_or_closed.clear()
            await self._idle_or_closed.wait()

    def release(self, worker: WorkerProcess) -> None:
        """Offer `worker` to the next video; one that was left in the middle of a request is replaced."""
        if worker.usable and not self._closed:
            recycling = asyncio.create_task(self._recycle(worker))
            self._tasks.add(recycling)
            recycling.add_done_callback(self._tasks.discard)
        else:
            worker.kill()

    async def _recycle(self, worker: WorkerProcess) -> None:
        """Close the video in `worker`; one that has not returned to its state at the start is replaced."""
        with suppress(WorkerDied):
            await worker.request({"close": True}, None, _CLOSE_SECONDS)
            if worker.is_as_new:
                self._offer(worker)
            else:
                worker.kill()

    def _offer(self, worker: WorkerProcess) -> None:
        self._idle.append(worker)
        self._idle_or_closed.set()

    async def _supervise(self, worker: WorkerProcess) -> None:
        """Offer `worker`, and another whenever the last has ended."""
        while True:
            self._offer(worker)
            await worker.exited()
            if worker in self._idle:
                self._idle.remove(worker)
            await self._end(worker)
            worker = await self._replacement()

    async def _replacement(self) -> WorkerProcess:
        backoff = _FIRST_BACKOFF_SECONDS
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
                _log.error("sampling process did not start", error=str(error), retry_in_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)

    def _start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(_MODULE, [json.dumps(asdict(self._limits))])
        self._workers.add(worker)
        return worker

    async def _end(self, worker: WorkerProcess) -> None:
        worker.kill()
        await worker.exited()
        worker.close()
        self._workers.discard(worker)
