"""The result of an analysis as plain values, converted from the messages of `videoanalysis.v1.analysis`.

Times are seconds from the first frame of the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from videoanalysis.v1 import analysis_pb2, decoder_pb2, encoder_pb2

if TYPE_CHECKING:
    # Slow to import, and few callers request embeddings.
    import numpy as np
    from numpy.typing import NDArray

Stage = Literal["waiting", "downloading", "analyzing"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the service; totals are 0 while unknown."""

    stage: Stage
    downloaded_bytes: int
    total_bytes: int
    analyzed_seconds: float
    # The duration in the container's header, which may be wrong.
    claimed_duration_seconds: float
    # In the stage `waiting`: time until a slot is free, 0 if unknown.
    estimated_wait_seconds: float = 0.0

    @classmethod
    def from_message(cls, message: analysis_pb2.Progress) -> Self:
        return cls(
            stage=_STAGES.get(message.stage, "waiting"),
            downloaded_bytes=message.downloaded_bytes,
            total_bytes=message.total_bytes,
            analyzed_seconds=message.analyzed_seconds,
            claimed_duration_seconds=message.claimed_duration_seconds,
            estimated_wait_seconds=message.estimated_wait_seconds,
        )


_STAGES: dict[analysis_pb2.Stage, Stage] = {
    analysis_pb2.STAGE_WAITING: "waiting",
    analysis_pb2.STAGE_DOWNLOADING: "downloading",
    analysis_pb2.STAGE_ANALYZING: "analyzing",
}


@dataclass(frozen=True, slots=True)
class Tag:
    """A text with its `score`, the cosine, and its `probability` by the model's calibration.

    For the whole video `probability` is the share of its time that shows the text, too low by at most `uncertainty`.
    For the whole video only: `max_probability`, the highest in any scene, and `peak_seconds`, the middle of that scene;
    None if the text was not among the best of any scene, which happens with large banks only.
    """

    text: str
    score: float
    probability: float
    max_probability: float | None = None
    peak_seconds: float | None = None
    uncertainty: float = 0.0


@dataclass(frozen=True, slots=True)
class Caption:
    """A description of the text bank; fields as in Tag."""

    text: str
    score: float
    probability: float
    max_probability: float | None = None
    peak_seconds: float | None = None
    uncertainty: float = 0.0


@dataclass(frozen=True, slots=True)
class SceneChange:
    """A cut, between the sampled frames at `previous_timestamp_seconds` and `timestamp_seconds`.

    `cut_seconds` is the best estimate of the first frame of the new scene: `cut_confidence` is near 1 for a hard cut,
    and 0 where the estimate is `timestamp_seconds`.
    """

    timestamp_seconds: float
    previous_timestamp_seconds: float
    cut_seconds: float
    cut_confidence: float
    score: float
    chunk_index: int
    frame_index: int

    @classmethod
    def from_message(cls, message: decoder_pb2.SceneChange) -> Self:
        return cls(
            timestamp_seconds=message.timestamp_seconds,
            previous_timestamp_seconds=message.previous_timestamp_seconds,
            cut_seconds=message.cut_seconds or message.timestamp_seconds,
            cut_confidence=message.cut_confidence,
            score=message.score,
            chunk_index=message.chunk_index,
            frame_index=message.frame_index,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """A new shot begins with the frame at `time_seconds`; the one before it is at `previous_frame_seconds`.

    If it is `coarse`, frames between the two were not decoded. `strength`, 0 to 1, is how much the two differ.
    """

    time_seconds: float
    previous_frame_seconds: float
    strength: float
    coarse: bool

    @classmethod
    def from_message(cls, message: analysis_pb2.Cut) -> Self:
        return cls(message.time_seconds, message.previous_frame_seconds, message.strength, message.coarse)


@dataclass(frozen=True, slots=True)
class Transition:
    """One shot turns gradually into the next, or into black or out of it."""

    start_seconds: float
    end_seconds: float
    kind: Literal["fade", "dissolve"]

    @classmethod
    def from_message(cls, message: analysis_pb2.Transition) -> Self:
        kind: Literal["fade", "dissolve"] = "fade" if message.kind == message.KIND_FADE else "dissolve"
        return cls(message.start_seconds, message.end_seconds, kind)


@dataclass(frozen=True, slots=True)
class Scene:
    """The time between two scene changes, or between two cuts if scenes end at cuts."""

    start_seconds: float
    end_seconds: float
    tags: tuple[Tag, ...]
    caption: Caption | None

    @classmethod
    def from_message(cls, message: analysis_pb2.Scene) -> Self:
        return cls(message.start_seconds, message.end_seconds, _tags(message.tags), _caption(message.caption))


@dataclass(frozen=True, slots=True)
class Chunk:
    """The result of one chunk. `frame_times_seconds` are the presentation times of the sampled frames.

    `scene_scores`, one per frame, and `embeddings`, float16 [frames, embedding_dim], are present on request.
    """

    chunk_index: int
    start_seconds: float
    duration_seconds: float
    frame_times_seconds: tuple[float, ...]
    tags: tuple[Tag, ...]
    caption: Caption | None
    scene_changes: tuple[SceneChange, ...]
    scene_scores: tuple[float, ...] = ()
    cuts: tuple[Cut, ...] = ()
    transitions: tuple[Transition, ...] = ()
    embeddings: "NDArray[np.floating] | None" = field(default=None, compare=False)

    @classmethod
    def from_message(cls, message: analysis_pb2.ChunkResult) -> Self:
        return cls(
            chunk_index=message.chunk_index,
            start_seconds=message.start_seconds,
            duration_seconds=message.duration_seconds,
            frame_times_seconds=tuple(message.frame_times_seconds),
            tags=_tags(message.tags),
            caption=_caption(message.caption),
            scene_changes=tuple(map(SceneChange.from_message, message.scene_changes)),
            scene_scores=tuple(message.scene_scores),
            cuts=tuple(map(Cut.from_message, message.cuts)),
            transitions=tuple(map(Transition.from_message, message.transitions)),
            embeddings=_embeddings(message),
        )


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Time in the queue of a stage, and time of its work."""

    queue_seconds: float
    compute_seconds: float

    @classmethod
    def from_message(cls, message: analysis_pb2.StageTiming) -> Self:
        return cls(message.queue_seconds, message.compute_seconds)


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of each stage in the service; the parts add up to the total."""

    download: StageTiming
    sample: StageTiming
    encode: StageTiming
    decode: StageTiming
    unattributed_seconds: float
    total_seconds: float

    @classmethod
    def from_message(cls, message: analysis_pb2.Timing) -> Self:
        return cls(
            download=StageTiming.from_message(message.download),
            sample=StageTiming.from_message(message.sample),
            encode=StageTiming.from_message(message.encode),
            decode=StageTiming.from_message(message.decode),
            unattributed_seconds=message.unattributed_seconds,
            total_seconds=message.total_seconds,
        )

    def stages(self) -> tuple[tuple[str, StageTiming], ...]:
        """The stages by name, in the order of processing."""
        names = ("download", "sample", "encode", "decode")
        return tuple((name, getattr(self, name)) for name in names)


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources used: bytes of the file, frames of the video, time on the encoders' accelerators."""

    bytes_read: int
    frames_decoded: int
    accelerator_seconds: float
    frames_encoded: int

    @classmethod
    def from_message(cls, message: analysis_pb2.Usage) -> Self:
        return cls(message.bytes_read, message.frames_decoded, message.accelerator_seconds, message.frames_encoded)


@dataclass(frozen=True, slots=True)
class Model:
    """The model of the embeddings; fields are documented at ModelInfo."""

    model_id: str
    revision: str
    digest: str
    embedding_dim: int
    image_size: int
    logit_scale: float
    logit_bias: float
    precision: str
    device: str
    engine: str

    @classmethod
    def from_message(cls, message: encoder_pb2.ModelInfo) -> Self:
        return cls(
            model_id=message.model_id,
            revision=message.revision,
            digest=message.digest,
            embedding_dim=message.embedding_dim,
            image_size=message.image_size,
            logit_scale=message.logit_scale,
            logit_bias=message.logit_bias,
            precision=message.precision,
            device=message.device,
            engine=message.engine,
        )


@dataclass(frozen=True, slots=True)
class TextBank:
    """The text bank of the ranking; fields are documented at TextBankInfo."""

    name: str
    digest: str
    model_digest: str
    template: str
    created_at: str
    tag_count: int
    description_count: int

    @classmethod
    def from_message(cls, message: decoder_pb2.TextBankInfo) -> Self:
        return cls(
            name=message.name,
            digest=message.digest,
            model_digest=message.model_digest,
            template=message.template,
            created_at=message.created_at,
            tag_count=message.tags,
            description_count=message.descriptions,
        )


@dataclass(frozen=True, slots=True)
class VideoAnalysis:
    """The result for a whole video; `caption` and `text_bank` are None if the service has no bank.

    `claimed_duration_seconds` is that of the container's header, 0 where it is unknown; `trace_id` that of the W3C
    trace, empty where there is none. `message` is the response that it was converted from.
    """

    stream_id: str
    tags: tuple[Tag, ...]
    caption: Caption | None
    scene_changes: tuple[SceneChange, ...]
    cuts: tuple[Cut, ...]
    transitions: tuple[Transition, ...]
    scenes: tuple[Scene, ...]
    chunks: tuple[Chunk, ...]
    video_duration_seconds: float
    claimed_duration_seconds: float
    decode_failures: int
    frames_dropped: int
    timing: Timing
    usage: Usage
    model: Model
    text_bank: TextBank | None
    trace_id: str
    message: analysis_pb2.AnalyzeVideoResponse = field(compare=False, repr=False)

    @classmethod
    def from_message(cls, message: analysis_pb2.AnalyzeVideoResponse) -> Self:
        """Raises InvalidInput if embeddings do not fill their shape."""
        return cls(
            stream_id=message.stream_id,
            tags=_tags(message.tags, of_video=True),
            caption=_caption(message.caption, of_video=True),
            scene_changes=tuple(map(SceneChange.from_message, message.scene_changes)),
            cuts=tuple(map(Cut.from_message, message.cuts)),
            transitions=tuple(map(Transition.from_message, message.transitions)),
            scenes=tuple(map(Scene.from_message, message.scenes)),
            chunks=tuple(map(Chunk.from_message, message.chunks)),
            video_duration_seconds=message.video_duration_seconds,
            claimed_duration_seconds=message.claimed_duration_seconds,
            decode_failures=message.decode_failures,
            frames_dropped=message.frames_dropped,
            timing=Timing.from_message(message.timing),
            usage=Usage.from_message(message.usage),
            model=Model.from_message(message.model),
            text_bank=TextBank.from_message(message.text_bank) if message.text_bank.name else None,
            trace_id=message.trace_id,
            message=message,
        )

    @property
    def ends_early(self) -> bool:
        """Whether much of what the container claims is missing: the file was cut short, or its header is wrong."""
        return self.claimed_duration_seconds > 1.02 * self.video_duration_seconds + 1

    def scene_at(self, seconds: float) -> Scene | None:
        """The scene that is shown then; None outside of the video."""
        return next((scene for scene in self.scenes if scene.start_seconds <= seconds < scene.end_seconds), None)


def _tags(messages: Sequence[decoder_pb2.TagScore], *, of_video: bool = False) -> tuple[Tag, ...]:
    return tuple(
        Tag(message.text, message.score, message.probability, *_peak(message, of_video)) for message in messages
    )


def _caption(message: decoder_pb2.CaptionScore, *, of_video: bool = False) -> Caption | None:
    if not message.text:
        return None
    return Caption(message.text, message.score, message.probability, *_peak(message, of_video))


def _peak(
    message: decoder_pb2.TagScore | decoder_pb2.CaptionScore, of_video: bool
) -> tuple[float | None, float | None, float]:
    """max_probability, peak_seconds and uncertainty."""
    if of_video and message.max_probability:
        return message.max_probability, message.peak_seconds, message.uncertainty
    return None, None, message.uncertainty


def _embeddings(message: analysis_pb2.ChunkResult) -> "NDArray[np.floating] | None":
    if not message.HasField("embeddings"):
        return None
    from videoanalysis import tensors

    return tensors.from_proto(message.embeddings, "embeddings")
