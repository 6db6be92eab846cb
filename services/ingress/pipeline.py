"""The story of one video: its bytes, its frames, their embeddings, what they show; each stage while the one before it
is still at work, at most a few chunks ahead."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import structlog

from services.ingress.admission.byte_budget import ByteBudget
from services.ingress.admission.caller import Caller
from services.ingress.admission.deadline import Deadline
from services.ingress.admission.demand import Demand, VideoDemand
from services.ingress.admission.fair_queue import Share
from services.ingress.admission.slots import Admission
from services.ingress.answer.summary import Summary
from services.ingress.answer.timeline import Part, Timeline, Trace
from services.ingress.dispatch.decoders import Decoders
from services.ingress.dispatch.encoders import EncodedChunk, Encoders
from services.ingress.dispatch.label_embeddings import LabelEmbeddings
from services.ingress.dispatch.replicas import Gone
from services.ingress.job import AnalysisJob
from services.ingress.resume.state import ResumeState
from services.ingress.resume.token import RequestTokens, Resumption, refused
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.plan import SampledChunk
from services.ingress.sampling.pool import SampledVideo, SamplingPool, SamplingSpec, VideoEnd
from services.ingress.sources import Source
from videoanalysis import tensors
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, ServiceError, Unavailable
from videoanalysis.v1.analysis_pb2 import (
    PRIORITY_BATCH,
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    Scene,
    Usage,
)
from videoanalysis.v1.decoder_pb2 import (
    DecodeChunkRequest,
    DecodeChunkResponse,
    LabelSet,
    RankingSpec,
    SceneChange,
    SceneState,
    TextBankInfo,
)
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()

_SECONDS_BETWEEN_ESTIMATES = 1.0
_LACKS_BANK = {ErrorReason.BANK_NOT_READY, ErrorReason.BANK_MODEL_MISMATCH}


class Observer(Protocol):
    """Hears what happens, in order. What it raises ends the analysis."""

    async def opened(self, claimed_duration_seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        """Before anything is encoded; again if the video starts once more, and then forget its chunks so far.

        The duration is the container's claim, 0 if it makes none. The bank is empty where there is none.
        """

    async def progress(self, progress: Progress) -> None: ...

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        """A chunk, the scenes that end in it, and the token to go on behind it, empty if there is none."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What every chunk of a video is compared with, from its first to its last."""

    model: ModelInfo
    text_bank: TextBankInfo
    ranking: RankingSpec


@dataclass(frozen=True, slots=True)
class _ChunkUnderWay:
    sampled: SampledChunk
    encoding: asyncio.Task[EncodedChunk]
    trace: Trace


class Pipeline:
    def __init__(
        self,
        *,
        demand: Demand,
        admission: Admission,
        sampling: SamplingPool,
        frame_budget: ByteBudget,
        encoders: Encoders,
        decoders: Decoders,
        image_size: int,
        chunks_ahead: int,
    ) -> None:
        self.sampling = sampling
        self.frame_budget = frame_budget
        self.encoders = encoders
        self.decoders = decoders
        self.image_size = image_size
        self.chunks_ahead = chunks_ahead
        self._demand = demand
        self._admission = admission
        self._labels = LabelEmbeddings(encoders, demand)
        self._numbers = itertools.count()

    async def analyze(
        self,
        source: Source,
        analysis: AnalysisJob,
        caller: Caller,
        deadline: Deadline,
        observer: Observer,
        tokens: RequestTokens | None = None,
        start: Resumption | None = None,
    ) -> AnalyzeVideoResponse:
        """The whole-video answer, without the chunks: the observer has had them.

        With `start` it goes on there, if object, model and bank are as they were; then scene changes and scenes are
        those from there on. Raises the ServiceErrors of every stage.
        """
        try:
            async with asyncio.timeout(deadline.remaining()):
                return await self._admitted(source, analysis, caller, deadline, observer, tokens, start)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the video was analysed") from error
        except BaseExceptionGroup as group:
            raise _first_cause(group) from group

    async def _admitted(
        self,
        source: Source,
        analysis: AnalysisJob,
        caller: Caller,
        deadline: Deadline,
        observer: Observer,
        tokens: RequestTokens | None,
        start: Resumption | None,
    ) -> AnalyzeVideoResponse:
        timeline = Timeline()
        trace = timeline.trace(Part.DOWNLOAD_QUEUE)
        share = Share(caller.queue, next(self._numbers), analysis.priority == PRIORITY_BATCH)
        await observer.progress(
            Progress(stage=STAGE_WAITING, estimated_wait_seconds=self._admission.expected_wait(share))
        )

        async def downloaded(done: int, of: int) -> None:
            await observer.progress(Progress(stage=STAGE_DOWNLOADING, downloaded_bytes=done, total_bytes=of))

        def check_version(version: str) -> None:
            if start is not None and not start.is_of(version):
                raise refused(ErrorReason.OBJECT_CHANGED, "the object has been replaced since")

        checkpoint = start.checkpoint if start is not None else None
        async with AsyncExitStack() as stack:
            stack.enter_context(self._demand.request())
            await stack.enter_async_context(self._admission.admit(share, deadline))
            demand = stack.enter_context(self._demand.video())
            trace.enter(Part.DOWNLOAD_COMPUTE)
            async with asyncio.TaskGroup() as tasks:
                pinning = tasks.create_task(self._pin(analysis, deadline, checkpoint))
                tasks.create_task(self._tell_of_cold_start(pinning, observer))
                media = await stack.enter_async_context(source.open(downloaded, check_version))
                trace.enter(Part.ENCODE_QUEUE)
            pinned = pinning.result()
            issue = partial(tokens.issue, object_version=media.version) if tokens is not None else None
            usage = Usage(bytes_read=os.fstat(media.fd).st_size)
            try:
                return await VideoRun(
                    self, analysis, share, pinned, deadline, observer, timeline, usage, demand, issue, checkpoint
                ).run(media.fd, trace)
            except* Gone:
                _log.warning(
                    "model or text bank is gone, the video starts once more",
                    model_digest=pinned.model.digest,
                    text_bank_digest=pinned.text_bank.digest,
                )
            demand.begin()
            trace = timeline.trace(Part.ENCODE_QUEUE)
            pinned = await self._pin(analysis, deadline)
            return await VideoRun(
                self, analysis, share, pinned, deadline, observer, timeline, usage, demand, issue
            ).run(media.fd, trace)

    async def _tell_of_cold_start(self, pinning: asyncio.Task[Pinned], observer: Observer) -> None:
        """While there is no encoder, how long that may last."""
        while not pinning.done():
            if (cold_start := self.encoders.cold_start).is_under_way:
                wait_seconds = cold_start.remaining()
                await observer.progress(Progress(stage=STAGE_WAITING, estimated_wait_seconds=wait_seconds))
            await asyncio.wait([pinning], timeout=_SECONDS_BETWEEN_ESTIMATES)

    async def _pin(self, analysis: AnalysisJob, deadline: Deadline, start: ResumeState | None = None) -> Pinned:
        """Pinned to a model that has the bank, if there is one: while a model is replaced, the new one may lack it.

        With `start`, to what it was pinned before.
        """
        if start is not None:
            return await self._pin_again(analysis, deadline, start)
        without_bank: dict[str, ServiceError] = {}
        while True:
            try:
                model = await self.encoders.model(deadline, without_bank)
            except Gone:
                raise next(reversed(without_bank.values())) from None
            try:
                return await self._pin_to(model, analysis, deadline)
            except (Unavailable, FailedPrecondition) as error:
                if error.reason not in _LACKS_BANK:
                    raise
                without_bank[model.digest] = error

    async def _pin_again(self, analysis: AnalysisJob, deadline: Deadline, start: ResumeState) -> Pinned:
        try:
            model = await self.encoders.model_again(start.model_digest, deadline)
        except Gone as error:
            raise refused(
                ErrorReason.MODEL_CHANGED, "no encoder serves the model any more that it began with"
            ) from error
        try:
            pinned = await self._pin_to(model, analysis, deadline)
        except FailedPrecondition as error:
            if error.reason not in _LACKS_BANK:
                raise
            raise refused(ErrorReason.TEXT_BANK_CHANGED, "the text bank of its model has gone since") from error
        if pinned.text_bank.digest != start.text_bank_digest:
            raise refused(ErrorReason.TEXT_BANK_CHANGED, "the text bank has been replaced since")
        return pinned

    async def _pin_to(self, model: ModelInfo, analysis: AnalysisJob, deadline: Deadline) -> Pinned:
        ranking = RankingSpec(
            text_bank=analysis.text_bank,
            model_digest=model.digest,
            top_k_tags=analysis.top_k_tags,
            min_probability=analysis.min_probability,
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
        )
        if not analysis.labels:
            text_bank = await self.decoders.text_bank(analysis.text_bank, model.digest, deadline)
            ranking.text_bank_digest = text_bank.digest
            return Pinned(model, text_bank, ranking)
        embeddings = await self._labels.of(analysis.labels, model.digest, deadline)
        ranking.labels.CopyFrom(LabelSet(texts=analysis.labels, embeddings=tensors.to_proto(embeddings)))
        try:
            text_bank = await self.decoders.text_bank(analysis.text_bank, model.digest, deadline)
        except Unavailable as error:
            if error.reason != ErrorReason.BANK_NOT_READY:
                raise
            # Decoders that are to have no bank do with labels alone; others say so themselves.
            text_bank = TextBankInfo()
        ranking.text_bank_digest = text_bank.digest
        return Pinned(model, text_bank, ranking)


class VideoRun:
    """One pass through a video, on one model."""

    def __init__(
        self,
        rooms: Pipeline,
        analysis: AnalysisJob,
        share: Share,
        pinned: Pinned,
        deadline: Deadline,
        observer: Observer,
        timeline: Timeline,
        usage: Usage,
        demand: VideoDemand,
        issue: Callable[[ResumeState], bytes] | None,
        start: ResumeState | None = None,
    ) -> None:
        self._rooms = rooms
        self._analysis = analysis
        self._share = share
        self._pinned = pinned
        self._deadline = deadline
        self._observer = observer
        self._timeline = timeline
        self._usage = usage
        self._demand = demand
        self._issue = issue
        self._first_chunk = start.next_chunk if start else 0
        self._spec = SamplingSpec(
            analysis.frames_per_chunk,
            analysis.chunk_duration,
            rooms.image_size,
            # One chunk more, only for what lies between its last frame and our first.
            first_chunk=max(0, self._first_chunk - 1),
            frames_searched=start.frames_searched if start else 0,
            decode_failures=start.decode_failures if start else 0,
            decode_all=start is not None and start.decode_all,
        )
        # Chunks in order, and last the trace of the end of the video.
        self._under_way: asyncio.Queue[_ChunkUnderWay | Trace] = asyncio.Queue(rooms.chunks_ahead)
        self._summary = Summary(rooms.decoders, pinned.ranking, start.summary if start else None)
        self._state: SceneState | None = start.scene_state if start else None
        if start:
            usage.accelerator_seconds = start.accelerator_seconds

    async def run(self, media_fd: int, trace: Trace) -> AnalyzeVideoResponse:
        trace.enter(Part.SAMPLE_QUEUE)
        async with self._rooms.sampling.sample(media_fd, self._spec) as video:
            await video.open()
            claimed = video.claimed_duration_seconds or 0.0
            await self._observer.opened(claimed, self._pinned.model, self._pinned.text_bank)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sample(video, trace, tasks))
                while isinstance(item := await self._under_way.get(), _ChunkUnderWay):
                    await self._deliver(item, video)
            assert video.end is not None
            self._usage.frames_decoded += video.frames_decoded
            return await self._answer(item, video.end)

    async def _sample(self, video: SampledVideo, trace: Trace, tasks: asyncio.TaskGroup) -> None:
        """Put every chunk on its way as soon as there is memory for it."""
        while True:
            buffer = await FrameBuffer.allocate(self._spec.chunk_bytes, self._rooms.frame_budget)
            try:
                trace.enter(Part.SAMPLE_COMPUTE)
                sampled = await video.next_chunk(buffer)
            except BaseException:
                buffer.close()
                raise
            if sampled is None:
                buffer.close()
                await self._under_way.put(trace)
                return
            if sampled.index < self._first_chunk:
                buffer.close()
                continue
            encoding = tasks.create_task(self._encode(buffer, sampled, trace))
            # Not in the task itself: one that is cancelled before its first step never runs.
            encoding.add_done_callback(partial(_close, buffer))
            await self._under_way.put(_ChunkUnderWay(sampled, encoding, trace))
            trace = self._timeline.trace(Part.SAMPLE_QUEUE)

    async def _encode(self, buffer: FrameBuffer, sampled: SampledChunk, trace: Trace) -> EncodedChunk:
        trace.enter(Part.ENCODE_QUEUE)
        with self._demand.chunk():
            encoded = await self._rooms.encoders.encode(
                buffer,
                self._analysis.frames_per_chunk,
                f"{self._analysis.stream_id}/{sampled.index}",
                self._pinned.model.digest,
                self._deadline,
                self._share,
            )
        trace.enter(Part.ENCODE_COMPUTE, ago=encoded.compute_seconds)
        trace.enter(Part.DECODE_QUEUE)
        return encoded

    async def _deliver(self, chunk: _ChunkUnderWay, video: SampledVideo) -> None:
        encoded = await chunk.encoding
        decoded = await self._decode(chunk, encoded)
        await self._locate_cuts(decoded.scene_changes, chunk, video)
        sampled = chunk.sampled
        scenes = await self._summary.add(sampled.index, sampled.duration, encoded.embeddings, decoded, self._deadline)
        self._usage.accelerator_seconds += encoded.compute_seconds
        self._timeline.delivered(chunk.trace)
        result = _chunk_result(sampled, encoded, decoded, self._analysis)
        await self._observer.chunk(result, scenes, self._token(sampled, video))
        await self._observer.progress(
            Progress(
                stage=STAGE_ANALYZING,
                analyzed_seconds=float(chunk.sampled.start + chunk.sampled.duration),
                claimed_duration_seconds=video.claimed_duration_seconds or 0.0,
            )
        )

    def _token(self, chunk: SampledChunk, video: SampledVideo) -> bytes:
        if self._issue is None or self._state is None:
            return b""
        return self._issue(
            ResumeState(
                next_chunk=chunk.index + 1,
                model_digest=self._pinned.model.digest,
                text_bank_digest=self._pinned.text_bank.digest,
                scene_state=self._state,
                summary=self._summary.state(),
                accelerator_seconds=self._usage.accelerator_seconds,
                decode_failures=video.decode_failures,
                frames_searched=video.frames_searched,
                decode_all=chunk.all_decoded,
            )
        )

    async def _decode(self, chunk: _ChunkUnderWay, encoded: EncodedChunk) -> DecodeChunkResponse:
        request = DecodeChunkRequest(
            embeddings=tensors.to_proto(encoded.embeddings),
            frame_times_seconds=[float(time) for time in chunk.sampled.frame_times],
            chunk_index=chunk.sampled.index,
            ranking=self._pinned.ranking,
            scene=self._analysis.scene,
            ema_state=self._state,
        )
        decoded = await self._rooms.decoders.decode(request, self._deadline)
        self._state = decoded.ema_state
        chunk.trace.enter(Part.DECODE_COMPUTE, ago=decoded.compute.ToNanoseconds() / 1e9)
        return decoded

    async def _locate_cuts(self, changes: Iterable[SceneChange], chunk: _ChunkUnderWay, video: SampledVideo) -> None:
        """Two sampled frames tell of a change; the sampling process has seen where between them the picture changes."""
        for change in changes:
            change.cut_seconds = change.timestamp_seconds
            if (cut := chunk.sampled.cuts[change.frame_index]) is not None:
                if not cut.exact:
                    chunk.trace.enter(Part.SAMPLE_COMPUTE)
                    cut = await video.narrow(cut)
                change.cut_seconds, change.cut_confidence = float(cut.at), cut.confidence

    async def _answer(self, trace: Trace, end: VideoEnd) -> AnalyzeVideoResponse:
        trace.enter(Part.DECODE_COMPUTE)
        answer = await self._summary.answer(self._deadline)
        self._timeline.delivered(trace)
        answer.stream_id = self._analysis.stream_id
        answer.decode_failures = end.decode_failures
        answer.usage.CopyFrom(self._usage)
        answer.model.CopyFrom(self._pinned.model)
        answer.text_bank.CopyFrom(self._pinned.text_bank)
        answer.timing.CopyFrom(self._timeline.timing())
        return answer


def _close(buffer: FrameBuffer, _: object) -> None:
    buffer.close()


def _chunk_result(
    sampled: SampledChunk, encoded: EncodedChunk, decoded: DecodeChunkResponse, analysis: AnalysisJob
) -> ChunkResult:
    result = ChunkResult(
        chunk_index=sampled.index,
        start_seconds=float(sampled.start),
        duration_seconds=float(sampled.duration),
        frame_times_seconds=[float(time) for time in sampled.frame_times],
        tags=decoded.tags,
        caption=decoded.caption if decoded.HasField("caption") else None,
        scene_changes=decoded.scene_changes,
    )
    if analysis.include_scene_scores:
        result.scene_scores.extend(decoded.scene_scores)
    if analysis.include_embeddings:
        result.embeddings.CopyFrom(tensors.to_proto(encoded.embeddings.astype(np.float16)))
    return result


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the first task that failed; its siblings were cancelled because of it."""
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause
