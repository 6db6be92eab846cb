"""One pass through the stored embeddings of a video: its chunks are decoded and delivered in order, one at a time."""

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission import Caller, Deadline
from services.ingress.answer import (
    LargestSizes,
    Observer,
    Part,
    SceneEnd,
    Shots,
    Summary,
    Timeline,
    check_event,
    ends_at_changes,
)
from services.ingress.dispatch import Decoders
from services.ingress.job import AnalysisRequest
from services.ingress.pinned_model import PinnedModel
from videoanalysis import call_log, tensors
from videoanalysis.embeddings import UNIT_TOLERANCE
from videoanalysis.errors import InvalidInput
from videoanalysis.limits import MAX_EMBEDDING_DIM, MAX_FRAMES_PER_CHUNK
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Cut
from videoanalysis.v1.decoder_pb2 import DecodeChunkRequest, DecodeChunkResponse, SceneChange, SceneState
from videoanalysis.v1.encoder_pb2 import ModelInfo

_MAX_GAP_SECONDS = 1e-3  # between the end of a chunk and the start of the next one
_MAX_CHUNK_SECONDS = 601
# Durations are multiples of time bases: ratios of whole numbers with at most this denominator.
_MAX_DENOMINATOR = 1_000_000


@dataclass(frozen=True, slots=True)
class StoredJob:
    """The job of decoding the stored embeddings of one video again; `model` made them."""

    request: AnalysisRequest
    model: ModelInfo
    chunks: AsyncIterator[ChunkResult]
    caller: Caller
    deadline: Deadline


def check_model(model: ModelInfo) -> None:
    """Raises InvalidInput naming the field."""
    _require(0 < len(model.digest) <= 200, "header.model.digest", "is required, at most 200 characters")
    dimensions = model.embedding_dim
    _require(
        1 <= dimensions <= MAX_EMBEDDING_DIM,
        "header.model.embedding_dim",
        f"{dimensions}, must be 1 to {MAX_EMBEDDING_DIM}",
    )
    scale, bias = model.logit_scale, model.logit_bias
    _require(0 < scale < math.inf, "header.model.logit_scale", f"{scale}, must be above 0 and finite")
    _require(math.isfinite(bias), "header.model.logit_bias", f"{bias}, must be finite")


class StoredVideoRun:
    """Decodes the chunks of `job` one after the other; a video over `max_seconds` is refused."""

    def __init__(
        self, decoders: Decoders, job: StoredJob, observer: Observer, pinned: PinnedModel, max_seconds: float
    ) -> None:
        self._decoders = decoders
        self._job = job
        self._observer = observer
        self._pinned = pinned
        self._max_seconds = max_seconds
        self._timeline = Timeline()
        call_log.note(stage_seconds=self._timeline.so_far)
        self._shots = Shots()

    async def run(self) -> AnalyzeVideoResponse:
        """The summary; the observer receives the chunks."""
        await self._observer.opened(0.0, self._job.model, self._pinned.text_bank)
        summary: Summary | None = None
        scene_state: SceneState | None = None
        end = Fraction(0)
        index = 0
        cuts: list[Cut] = []
        trace = self._timeline.trace(Part.DOWNLOAD_QUEUE)
        async for stored in self._job.chunks:
            duration = _ratio(stored.duration_seconds)
            if summary is None:
                end = _ratio(stored.start_seconds)
                summary = Summary(
                    self._decoders,
                    self._pinned.ranking,
                    start=end,
                    min_scene_seconds=self._job.request.min_scene_seconds,
                )
            self._check_place(stored, index, end, last_frame=scene_state.last_frame_seconds if scene_state else 0.0)
            frames = _frames(stored, self._job.model.embedding_dim)
            self._check_size(stored)
            trace.enter(Part.DECODE_QUEUE)
            decoded = await self._decode(stored, frames, scene_state)
            trace.enter(Part.DECODE_COMPUTE, ago=decoded.compute.ToNanoseconds() / 1e9)
            scene_state = decoded.ema_state
            _take_over_cuts(stored, [*cuts, *stored.cuts], decoded.scene_changes)
            cuts = list(stored.cuts)
            scenes = await summary.add(
                duration, frames, decoded, self._scene_ends(stored, decoded.scene_changes), self._job.deadline
            )
            self._timeline.delivered(trace)
            await self._observer.chunk(self._result(stored, decoded), scenes, b"")
            trace = self._timeline.trace(Part.DOWNLOAD_QUEUE)
            end += duration
            index += 1
        if summary is None:
            raise InvalidInput("chunk: there is none; all requests after the header are chunks", field="chunk")
        trace.enter(Part.DECODE_COMPUTE)
        answer = await summary.answer(self._job.deadline)
        self._timeline.delivered(trace)
        answer.stream_id = self._job.request.stream_id
        answer.model.CopyFrom(self._job.model)
        answer.text_bank.CopyFrom(self._pinned.text_bank)
        answer.timing.CopyFrom(self._timeline.timing())
        return answer

    def _check_place(self, chunk: ChunkResult, index: int, end: Fraction, last_frame: float) -> None:
        """Raises InvalidInput unless the chunk follows those before it, which end at `end`."""
        _require(chunk.chunk_index == index, "chunk.chunk_index", f"{chunk.chunk_index}, must be {index}")
        _require(
            abs(chunk.start_seconds - float(end)) <= _MAX_GAP_SECONDS,
            "chunk.start_seconds",
            f"{chunk.start_seconds}, but the chunk before it ends at {float(end):g}",
        )
        _require(
            chunk.start_seconds + chunk.duration_seconds <= self._max_seconds,
            "chunk.duration_seconds",
            f"the video is longer than {self._max_seconds:g} s",
        )
        times = chunk.frame_times_seconds
        _require(
            all(before <= after < math.inf for before, after in zip([last_frame, *times], times, strict=False)),
            "chunk.frame_times_seconds",
            "must ascend over all chunks",
        )

    def _check_size(self, chunk: ChunkResult) -> None:
        """Raises InvalidInput if the answer for the chunk might not fit into one message."""
        request = replace(
            self._job.request,
            frames_per_chunk=len(chunk.frame_times_seconds),
            chunk_duration=Fraction(chunk.duration_seconds),
            include_embeddings=False,
        )
        largest = LargestSizes(request, self._job.model, self._pinned.text_bank)
        check_event(max(largest.event(), largest.ranking()))

    async def _decode(
        self, chunk: ChunkResult, frames: NDArray[np.float32], scene_state: SceneState | None
    ) -> DecodeChunkResponse:
        request = DecodeChunkRequest(
            embeddings=tensors.to_proto(frames),
            frame_times_seconds=chunk.frame_times_seconds,
            chunk_index=chunk.chunk_index,
            ranking=self._pinned.ranking,
            scene=self._job.request.scene,
            ema_state=scene_state,
        )
        return await self._decoders.decode(request, self._job.deadline)

    def _scene_ends(self, chunk: ChunkResult, changes: Iterable[SceneChange]) -> list[SceneEnd]:
        if self._job.request.scenes_by_cuts:
            return self._shots.scene_ends(chunk.frame_times_seconds, [cut.time_seconds for cut in chunk.cuts])
        return ends_at_changes(changes)

    def _result(self, stored: ChunkResult, decoded: DecodeChunkResponse) -> ChunkResult:
        """`stored` with the results of `decoded` in place of the earlier ones, and without embeddings."""
        result = ChunkResult()
        result.CopyFrom(stored)
        for field in ("embeddings", "tags", "caption", "scene_changes", "scene_scores"):
            result.ClearField(field)
        result.tags.extend(decoded.tags)
        if decoded.HasField("caption"):
            result.caption.CopyFrom(decoded.caption)
        result.scene_changes.extend(decoded.scene_changes)
        if self._job.request.include_scene_scores:
            result.scene_scores.extend(decoded.scene_scores)
        return result


def _ratio(seconds: float) -> Fraction:
    """The exact number of seconds that was stored as a float; what is above 0 stays so."""
    _require(0 <= seconds < math.inf, "chunk", f"a start or duration of {seconds} s")
    ratio = Fraction(seconds).limit_denominator(_MAX_DENOMINATOR)
    return ratio if ratio or not seconds else Fraction(1, _MAX_DENOMINATOR)


def _frames(chunk: ChunkResult, dimensions: int) -> NDArray[np.float32]:
    """float32 [frames, dimensions], unit rows."""
    count = len(chunk.frame_times_seconds)
    _require(
        1 <= count <= MAX_FRAMES_PER_CHUNK,
        "chunk.frame_times_seconds",
        f"{count}, must be 1 to {MAX_FRAMES_PER_CHUNK}",
    )
    seconds = chunk.duration_seconds
    _require(
        0 < seconds <= _MAX_CHUNK_SECONDS,
        "chunk.duration_seconds",
        f"{seconds}, must be above 0, at most {_MAX_CHUNK_SECONDS}",
    )
    field = "chunk.embeddings"
    _require(chunk.HasField("embeddings"), field, "is missing: the analysis needs include_embeddings")
    stored = tensors.from_proto(chunk.embeddings, field)
    _require(
        stored.shape == (count, dimensions) and stored.dtype in (np.float16, np.float32),
        field,
        f"{stored.dtype} {list(stored.shape)}, must be float16 or float32 {[count, dimensions]}",
    )
    frames = stored.astype(np.float32)
    lengths = np.linalg.norm(frames.astype(np.float64), axis=1)
    _require(bool((np.abs(lengths - 1) <= UNIT_TOLERANCE).all()), field, "a row has no unit length")
    return frames


def _take_over_cuts(stored: ChunkResult, cuts: Sequence[Cut], changes: Iterable[SceneChange]) -> None:
    """Sets the cut of each of `changes`: the stored one if the analysis found the change, otherwise the last of `cuts`
    between its two sampled frames, otherwise none."""
    known = {change.frame_index: change for change in stored.scene_changes}
    for change in changes:
        earliest, latest = change.previous_timestamp_seconds, change.timestamp_seconds
        between = [cut.time_seconds for cut in cuts if earliest < cut.time_seconds <= latest]
        before = known.get(change.frame_index)
        if before is not None and earliest <= before.cut_seconds <= latest:
            change.cut_seconds, change.cut_confidence = before.cut_seconds, before.cut_confidence
        elif between:
            change.cut_seconds, change.cut_confidence = between[-1], 1.0
        else:
            change.cut_seconds = latest


def _require(condition: bool, field: str, problem: str) -> None:
    if not condition:
        raise InvalidInput(f"{field}: {problem}", field=field)
