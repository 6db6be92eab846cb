"""The life cycle of one video: it waits for a slot, is downloaded, pinned to one model, and analysed chunk by chunk."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import structlog

from services.ingress.admission import Admission, Deadline, Demand, Share, Slot
from services.ingress.answer import Observer, Part, Timeline
from services.ingress.dispatch import NoLongerServed
from services.ingress.job import AnalysisJob
from services.ingress.pinned_model import ModelPinning, PinnedModel
from services.ingress.resume import RequestTokens, Resumption, stale_token
from services.ingress.stored_video import StoredJob, StoredVideoRun
from services.ingress.video_run import AdmittedVideo, Resources, VideoRun
from videoanalysis import call_log
from videoanalysis.errors import DeadlineExceeded, Unavailable
from videoanalysis.v1.analysis_pb2 import (
    PRIORITY_BATCH,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    Scene,
    Usage,
)
from videoanalysis.v1.decoder_pb2 import TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()

_SECONDS_BETWEEN_ESTIMATES = 1.0


class Pipeline:
    """Analyses videos, as many at a time as `admission` has slots."""

    def __init__(self, resources: Resources, admission: Admission, demand: Demand) -> None:
        self._resources = resources
        self._admission = admission
        self._demand = demand
        self._models = ModelPinning(resources.encoders, resources.decoders, demand)
        self._video_numbers = itertools.count()

    async def analyze(
        self,
        job: AnalysisJob,
        observer: Observer,
        tokens: RequestTokens | None = None,
        start: Resumption | None = None,
    ) -> AnalyzeVideoResponse:
        """The whole-video answer; the observer receives the chunks, and the answer does not repeat their fields.

        `start` continues after the chunk of a resume token if object, model and text bank are unchanged. Raises the
        ServiceErrors of every stage.
        """
        try:
            async with asyncio.timeout(job.deadline.remaining()):
                return await self._analyze(job, observer, tokens, start)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the video was analysed") from error
        except BaseExceptionGroup as group:
            raise _first_cause(group) from group

    async def redecode(self, job: StoredJob, observer: Observer) -> AnalyzeVideoResponse:
        """The summary for a video whose embeddings are stored; the observer receives the chunks."""
        try:
            async with asyncio.timeout(job.deadline.remaining()):
                with self._demand.request():
                    async with self._admission.admit(self._share(job), job.deadline, redecodes=True) as slot:
                        pinned = await self._models.pin_stored(job.request, job.model, job.deadline)
                        run = StoredVideoRun(
                            self._resources.decoders,
                            replace(job, chunks=_arriving(job.chunks, slot)),
                            _SlotHolder(slot, observer, 0.0),
                            pinned,
                            self._resources.max_video_seconds,
                        )
                        return await run.run()
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the video was decoded again") from error
        except NoLongerServed as error:
            raise Unavailable("the text bank was replaced during the call; call again") from error

    async def text_banks(self, deadline: Deadline) -> list[TextBankInfo]:
        return await self._resources.decoders.text_banks(deadline)

    def _share(self, job: AnalysisJob | StoredJob) -> Share:
        permissions = job.caller.permissions
        return Share(
            job.caller.queue,
            next(self._video_numbers),
            job.request.priority == PRIORITY_BATCH,
            permissions.max_videos,
            permissions.max_waiting,
        )

    async def _analyze(
        self, job: AnalysisJob, observer: Observer, tokens: RequestTokens | None, start: Resumption | None
    ) -> AnalyzeVideoResponse:
        timeline = Timeline()
        call_log.note(stage_seconds=timeline.so_far)
        trace = timeline.trace(Part.DOWNLOAD_QUEUE)
        share = self._share(job)

        async def on_download(done: int, total: int) -> None:
            await holder.progress(Progress(stage=STAGE_DOWNLOADING, downloaded_bytes=done, total_bytes=total))

        def check_version(version: str) -> None:
            if start is not None and not start.is_of(version):
                raise stale_token(ErrorReason.OBJECT_CHANGED, "the object has been replaced since")

        async with AsyncExitStack() as stack:
            stack.callback(timeline.close)
            stack.enter_context(self._demand.request())
            with self._admission.arrival(share):
                wait_seconds = self._admission.expected_wait(share)
                await observer.progress(Progress(stage=STAGE_WAITING, estimated_wait_seconds=wait_seconds))
            slot = await stack.enter_async_context(self._admission.admit(share, job.deadline))
            skipped = start.state.next_chunk * job.request.chunk_duration if start else 0
            holder = _SlotHolder(slot, observer, float(skipped))
            demand = stack.enter_context(self._demand.video())
            trace.enter(Part.DOWNLOAD_COMPUTE)
            async with asyncio.TaskGroup() as tasks:
                pinning = tasks.create_task(self._pin(job, start))
                tasks.create_task(self._report_cold_start(pinning, holder))
                media = await stack.enter_async_context(job.source.open(on_download, check_version))
                trace.enter(Part.ENCODE_QUEUE)
            video = AdmittedVideo(
                job=job,
                observer=holder,
                share=share,
                demand=demand,
                timeline=timeline,
                usage=Usage(),
                media=media,
                issue_token=partial(tokens.issue, object_version=media.version) if tokens is not None else None,
            )
            pinned = pinning.result()
            try:
                return await VideoRun(self._resources, video, pinned, start.state if start else None).run(trace)
            except* NoLongerServed:
                _log.warning(
                    "model or text bank no longer served, the video restarts",
                    model_digest=pinned.model.digest,
                    text_bank_digest=pinned.text_bank.digest,
                )
            demand.begin()
            trace = timeline.trace(Part.ENCODE_QUEUE)
            pinned = await self._models.pin(job.request, job.deadline)
            return await VideoRun(self._resources, video, pinned).run(trace)

    async def _pin(self, job: AnalysisJob, start: Resumption | None) -> PinnedModel:
        if start is None:
            return await self._models.pin(job.request, job.deadline)
        return await self._models.pin_again(job.request, job.deadline, start.state)

    async def _report_cold_start(self, pinning: asyncio.Task[PinnedModel], observer: Observer) -> None:
        """Reports the expected wait for the first encoder until the model is pinned."""
        while not pinning.done():
            if (cold_start := self._resources.encoders.cold_start).is_under_way:
                wait_seconds = cold_start.remaining()
                await observer.progress(Progress(stage=STAGE_WAITING, estimated_wait_seconds=wait_seconds))
            await asyncio.wait([pinning], timeout=_SECONDS_BETWEEN_ESTIMATES)


class _SlotHolder:
    """Passes events to the caller's observer; raises DeadlineExceeded if the caller reads too slowly to keep its slot.

    The first `skipped_seconds` of the video were analysed in an earlier call.
    """

    def __init__(self, slot: Slot, observer: Observer, skipped_seconds: float) -> None:
        self._slot = slot
        self._observer = observer
        self._skipped_seconds = skipped_seconds

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self._slot.video_seconds = max(0.0, seconds - self._skipped_seconds)
        async with self._slot.waiting_for_caller():
            await self._observer.opened(seconds, model, text_bank)

    async def progress(self, progress: Progress) -> None:
        async with self._slot.waiting_for_caller():
            await self._observer.progress(progress)

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        analysed = result.start_seconds + result.duration_seconds - self._skipped_seconds
        self._slot.video_seconds = max(self._slot.video_seconds, analysed)
        async with self._slot.waiting_for_caller():
            await self._observer.chunk(result, finished_scenes, resume_token)


async def _arriving(chunks: AsyncIterator[ChunkResult], slot: Slot) -> AsyncIterator[ChunkResult]:
    """`chunks` as the caller sends them; raises DeadlineExceeded if it sends too slowly to keep its slot."""
    while True:
        async with slot.waiting_for_caller():
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of the first task that failed; its siblings were cancelled because of it."""
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause
