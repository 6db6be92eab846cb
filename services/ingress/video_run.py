"""One pass through a video on one model: its chunks are sampled, encoded, decoded and delivered, each in order.

The stages overlap: while chunk k is decoded, chunk k + 1 is encoded and chunk k + 2 is sampled, and so on up to
`chunks_ahead`.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np

from services.ingress.admission import ByteBudget, Share, VideoDemand
from services.ingress.answer import (
    LargestSizes,
    Observer,
    Part,
    Shots,
    Summary,
    Timeline,
    Trace,
    check_event,
    ends_at_changes,
    nearest_cut,
)
from services.ingress.dispatch import Decoders, EncodedChunk, Encoders
from services.ingress.job import AnalysisJob
from services.ingress.pinned_model import PinnedModel
from services.ingress.resume import ResumeState
from services.ingress.sampling import (
    CONTEXT_SECONDS,
    Cut,
    FrameBuffer,
    Media,
    SampledChunk,
    SampledVideo,
    SamplingPool,
    SamplingSpec,
    VideoEnd,
)
from services.ingress.timed_media import TimedMedia
from videoanalysis import tensors, tracing
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    Stage,
    Usage,
)
from videoanalysis.v1.decoder_pb2 import DecodeChunkRequest, DecodeChunkResponse, SceneChange, SceneState
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_SECONDS_BETWEEN_REPORTS = 0.5  # of the download


@dataclass(frozen=True, slots=True)
class Resources:
    """What all videos share."""

    sampling: SamplingPool
    frame_budget: ByteBudget
    encoders: Encoders
    decoders: Decoders
    image_size: int
    chunks_ahead: int
    max_encoded_frames: int  # of one request
    max_video_seconds: float


@dataclass(frozen=True, slots=True)
class AdmittedVideo:
    """A video that holds a slot: its job, and the counts of it that continue across a restart."""

    job: AnalysisJob
    observer: Observer
    share: Share
    demand: VideoDemand
    timeline: Timeline
    usage: Usage
    media: Media
    issue_token: Callable[[ResumeState], bytes] | None


@dataclass(frozen=True, slots=True)
class _ChunkInFlight:
    sampled: SampledChunk
    encoding: asyncio.Task[EncodedChunk]
    trace: Trace
    cuts: tuple[Cut, ...]  # of this chunk and the one before


class VideoRun:
    """Starts at the first chunk, or after the last one of `start`."""

    def __init__(
        self, resources: Resources, video: AdmittedVideo, pinned: PinnedModel, start: ResumeState | None = None
    ) -> None:
        self._resources = resources
        self._video = video
        self._media = TimedMedia(video.media)
        self._request = video.job.request
        self._pinned = pinned
        self._frames_to_encode = 0
        self._first_chunk = start.next_chunk if start else 0
        self._spec = SamplingSpec(
            self._request.frames_per_chunk,
            self._request.chunk_duration,
            resources.image_size,
            tolerance=self._request.sampling_tolerance,
            reuse_difference=self._request.reuse_difference,
            # Chunks before the first one delivered are sampled again: cuts and scene changes there depend on them.
            first_chunk=max(0, self._first_chunk - self._chunks_of_context()),
            frames_searched=start.frames_searched if start else 0,
            decode_failures=start.decode_failures if start else 0,
            decode_all=start is not None and start.decode_all,
            start=self._request.start,
            end=self._request.end,
            detect_cuts=self._request.detect_cuts,
        )
        # Chunks in order, then the trace of the end of the video.
        self._in_flight: asyncio.Queue[_ChunkInFlight | Trace] = asyncio.Queue(resources.chunks_ahead)
        self._summary = Summary(
            resources.decoders,
            pinned.ranking,
            start.summary if start else None,
            start=self._request.start,
            min_scene_seconds=self._request.min_scene_seconds,
        )
        self._shots = Shots(start.shots if start else None)
        self._scene_state: SceneState | None = start.scene_state if start else None
        self._is_analyzing = asyncio.Event()
        if start:
            video.usage.accelerator_seconds = start.accelerator_seconds

    def _chunks_of_context(self) -> int:
        """How many chunks before the first one delivered are sampled again."""
        return ceil(CONTEXT_SECONDS / self._request.chunk_duration) if self._request.detect_cuts else 1

    async def run(self, trace: Trace) -> AnalyzeVideoResponse:
        """The whole-video answer, without the chunks, which the observer receives. `trace` is that of the first one."""
        largest = LargestSizes(self._request, self._pinned.model, self._pinned.text_bank)
        check_event(max(largest.event(), largest.ranking()))
        trace.enter(Part.SAMPLE_QUEUE)
        self._media.trace = trace
        async with self._resources.sampling.sample(self._media, self._spec) as sampled:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report_download())
                await sampled.open()
                analysed = self._request.analysed_seconds(sampled.claimed_duration_seconds or 0.0)
                await self._video.observer.opened(analysed, self._pinned.model, self._pinned.text_bank)
                tasks.create_task(self._sample(sampled, trace, tasks))
                while isinstance(item := await self._in_flight.get(), _ChunkInFlight):
                    await self._deliver(item, sampled)
                self._is_analyzing.set()
            assert sampled.end is not None
            self._video.usage.frames_decoded += sampled.frames_decoded
            return await self._answer(item, sampled.end, sampled.claimed_duration_seconds)

    async def _report_download(self) -> None:
        """Reports the bytes that have arrived, until the first chunk is analysed."""
        while not (self._is_analyzing.is_set() or self._media.complete):
            await self._video.observer.progress(self._progress(STAGE_DOWNLOADING))
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_BETWEEN_REPORTS):
                    await self._is_analyzing.wait()

    def _progress(self, stage: Stage, **more: float) -> Progress:
        return Progress(stage=stage, downloaded_bytes=self._media.bytes_fetched, total_bytes=self._media.size, **more)

    async def _sample(self, sampled: SampledVideo, trace: Trace, tasks: asyncio.TaskGroup) -> None:
        """Samples the chunks in order, each once the budget has memory for its frames, and starts to encode them."""
        cuts: tuple[Cut, ...] = ()  # of the chunk before
        while True:
            buffer = await FrameBuffer.allocate(self._spec.chunk_bytes, self._resources.frame_budget)
            try:
                trace.enter(Part.SAMPLE_COMPUTE)
                self._media.trace = trace
                chunk = await sampled.next_chunk(buffer)
            except BaseException:
                buffer.close()
                raise
            if chunk is None:
                buffer.close()
                await self._in_flight.put(trace)
                return
            cuts_so_far, cuts = cuts + chunk.cuts, chunk.cuts
            if chunk.index < self._first_chunk:
                buffer.close()
                continue
            try:
                self._check_cost(chunk)
            except InvalidInput:
                buffer.close()
                raise
            encoding = tasks.create_task(self._encode(buffer, chunk, trace))
            # Not in the task itself, which never runs if it is cancelled before its first step.
            encoding.add_done_callback(partial(_close, buffer))
            await self._in_flight.put(_ChunkInFlight(chunk, encoding, trace, cuts_so_far))
            trace = self._video.timeline.trace(Part.SAMPLE_QUEUE)

    def _check_cost(self, chunk: SampledChunk) -> None:
        """Counts the frames of `chunk` before they are sent to an encoder; raises InvalidInput over the limit."""
        self._frames_to_encode += chunk.frame_count
        if self._frames_to_encode > self._resources.max_encoded_frames:
            raise InvalidInput(
                f"frames_per_chunk: the first {float(chunk.start):.0f} s of the video already have "
                f"{self._frames_to_encode} frames to encode, {self._resources.max_encoded_frames} are allowed "
                "(INGRESS_MAX_ENCODED_FRAMES); lower frames_per_chunk or raise chunk_duration_seconds",
                reason=ErrorReason.VIDEO_OVER_LIMIT,
                field="frames_per_chunk",
            )

    async def _encode(self, buffer: FrameBuffer, chunk: SampledChunk, trace: Trace) -> EncodedChunk:
        trace.enter(Part.ENCODE_QUEUE)
        with self._video.demand.chunk(), tracing.use(trace.span):
            encoded = await self._resources.encoders.encode(
                buffer,
                chunk.frame_count,
                chunk_key(self._request.stream_id, chunk.index),
                self._pinned.model,
                self._video.job.deadline,
                self._video.share,
            )
        trace.enter(Part.ENCODE_COMPUTE, ago=encoded.compute_seconds)
        trace.enter(Part.DECODE_QUEUE)
        return replace(encoded, embeddings=encoded.embeddings[list(chunk.frame_indices)])

    async def _deliver(self, chunk: _ChunkInFlight, video: SampledVideo) -> None:
        encoded = await chunk.encoding
        with tracing.use(chunk.trace.span):
            decoded = await self._decode(chunk, encoded)
        await self._locate_cuts(decoded.scene_changes, chunk, video)
        sampled = chunk.sampled
        cuts, transitions = self._shots.add(sampled)
        if self._request.scenes_by_cuts:
            scene_ends = self._shots.scene_ends(
                map(float, sampled.frame_times), [float(cut.time) for cut in sampled.cuts]
            )
        else:
            scene_ends = ends_at_changes(decoded.scene_changes)
        scenes = await self._summary.add(
            sampled.duration, encoded.embeddings, decoded, scene_ends, self._video.job.deadline
        )
        self._video.usage.accelerator_seconds += encoded.compute_seconds
        self._video.usage.frames_encoded += sampled.frame_count
        self._video.timeline.delivered(chunk.trace)
        result = self._chunk_result(sampled, encoded, decoded)
        result.cuts.extend(cuts)
        result.transitions.extend(transitions)
        self._is_analyzing.set()
        await self._video.observer.chunk(result, scenes, self._token(sampled, video))
        await self._video.observer.progress(
            self._progress(
                STAGE_ANALYZING,
                analyzed_seconds=float(sampled.start + sampled.duration),
                claimed_duration_seconds=video.claimed_duration_seconds or 0.0,
            )
        )

    async def _decode(self, chunk: _ChunkInFlight, encoded: EncodedChunk) -> DecodeChunkResponse:
        request = DecodeChunkRequest(
            embeddings=tensors.to_proto(encoded.embeddings),
            frame_times_seconds=[float(time) for time in chunk.sampled.frame_times],
            chunk_index=chunk.sampled.index,
            ranking=self._pinned.ranking,
            scene=self._request.scene,
            ema_state=self._scene_state,
        )
        decoded = await self._resources.decoders.decode(request, self._video.job.deadline)
        self._scene_state = decoded.ema_state
        chunk.trace.enter(Part.DECODE_COMPUTE, ago=decoded.compute.ToNanoseconds() / 1e9)
        return decoded

    async def _locate_cuts(self, changes: Iterable[SceneChange], chunk: _ChunkInFlight, video: SampledVideo) -> None:
        """Sets where each change lies between its two sampled frames: at a cut, or else where the picture changes most.

        The sampling process has recorded the largest change between neighbouring frames, or decodes them to find it.
        """
        for change in changes:
            change.cut_seconds = change.timestamp_seconds
            largest = chunk.sampled.largest_changes[change.frame_index]
            near = float(largest.at) if largest is not None else change.timestamp_seconds
            if (cut := nearest_cut(change, near, chunk.cuts)) is not None:
                change.cut_seconds, change.cut_confidence = float(cut.time), 1.0
            elif largest is not None:
                if not largest.exact:
                    chunk.trace.enter(Part.SAMPLE_COMPUTE)
                    largest = await video.refine(largest)
                change.cut_seconds, change.cut_confidence = float(largest.at), largest.confidence

    def _token(self, chunk: SampledChunk, video: SampledVideo) -> bytes:
        if self._video.issue_token is None or self._scene_state is None:
            return b""
        return self._video.issue_token(
            ResumeState(
                next_chunk=chunk.index + 1,
                model_digest=self._pinned.model.digest,
                text_bank_digest=self._pinned.text_bank.digest,
                scene_state=self._scene_state,
                summary=self._summary.state(),
                accelerator_seconds=self._video.usage.accelerator_seconds,
                decode_failures=video.decode_failures,
                frames_searched=video.frames_searched,
                decode_all=chunk.all_decoded,
                shots=self._shots.state(),
            )
        )

    def _chunk_result(self, sampled: SampledChunk, encoded: EncodedChunk, decoded: DecodeChunkResponse) -> ChunkResult:
        result = ChunkResult(
            chunk_index=sampled.index,
            start_seconds=float(sampled.start),
            duration_seconds=float(sampled.duration),
            frame_times_seconds=[float(time) for time in sampled.frame_times],
            tags=decoded.tags,
            caption=decoded.caption if decoded.HasField("caption") else None,
            scene_changes=decoded.scene_changes,
        )
        if self._request.include_scene_scores:
            result.scene_scores.extend(decoded.scene_scores)
        if self._request.include_embeddings:
            result.embeddings.CopyFrom(tensors.to_proto(encoded.embeddings.astype(np.float16)))
        return result

    async def _answer(
        self, trace: Trace, end: VideoEnd, claimed_duration_seconds: float | None
    ) -> AnalyzeVideoResponse:
        trace.enter(Part.DECODE_COMPUTE)
        answer = await self._summary.answer(self._video.job.deadline)
        self._video.timeline.delivered(trace)
        answer.stream_id = self._request.stream_id
        answer.trace_id = tracing.trace_id()
        answer.decode_failures = end.decode_failures
        answer.frames_dropped = end.frames_dropped
        if self._request.end is None:
            answer.claimed_duration_seconds = claimed_duration_seconds or 0.0
        self._video.usage.bytes_read = self._media.bytes_fetched
        answer.usage.CopyFrom(self._video.usage)
        answer.model.CopyFrom(self._pinned.model)
        answer.text_bank.CopyFrom(self._pinned.text_bank)
        answer.timing.CopyFrom(self._video.timeline.timing())
        return answer


def chunk_key(stream_id: str, index: int) -> str:
    """At most 200 characters."""
    suffix = f"/{index}"
    return stream_id[: 200 - len(suffix)] + suffix


def _close(buffer: FrameBuffer, _: object) -> None:
    buffer.close()
