from videoanalysis.v1 import decoder_pb2 as _decoder_pb2
from videoanalysis.v1 import encoder_pb2 as _encoder_pb2
from videoanalysis.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CutDetection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CUT_DETECTION_UNSPECIFIED: _ClassVar[CutDetection]
    CUT_DETECTION_ON: _ClassVar[CutDetection]
    CUT_DETECTION_OFF: _ClassVar[CutDetection]

class SceneBoundaries(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCENE_BOUNDARIES_UNSPECIFIED: _ClassVar[SceneBoundaries]
    SCENE_BOUNDARIES_CHANGES: _ClassVar[SceneBoundaries]
    SCENE_BOUNDARIES_CUTS: _ClassVar[SceneBoundaries]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_WAITING: _ClassVar[Stage]
    STAGE_DOWNLOADING: _ClassVar[Stage]
    STAGE_ANALYZING: _ClassVar[Stage]
CUT_DETECTION_UNSPECIFIED: CutDetection
CUT_DETECTION_ON: CutDetection
CUT_DETECTION_OFF: CutDetection
SCENE_BOUNDARIES_UNSPECIFIED: SceneBoundaries
SCENE_BOUNDARIES_CHANGES: SceneBoundaries
SCENE_BOUNDARIES_CUTS: SceneBoundaries
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BATCH: Priority
STAGE_UNSPECIFIED: Stage
STAGE_WAITING: Stage
STAGE_DOWNLOADING: Stage
STAGE_ANALYZING: Stage

class ListBanksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBanksResponse(_message.Message):
    __slots__ = ("text_banks",)
    TEXT_BANKS_FIELD_NUMBER: _ClassVar[int]
    text_banks: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.TextBankInfo]
    def __init__(self, text_banks: _Optional[_Iterable[_Union[_decoder_pb2.TextBankInfo, _Mapping]]] = ...) -> None: ...

class AnalyzeVideoRequest(_message.Message):
    __slots__ = ("stream_id", "video_uri", "frames_per_chunk", "chunk_duration_seconds", "top_k_tags", "labels", "text_bank", "include_embeddings", "include_scene_scores", "scene_threshold", "ema_alpha", "min_probability", "output_uri", "scene_detection", "priority", "sampling_tolerance_seconds", "reuse_difference", "start_seconds", "end_seconds", "cut_detection", "scene_boundaries", "min_scene_seconds")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_URI_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHUNK_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_TAGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SCENE_SCORES_FIELD_NUMBER: _ClassVar[int]
    SCENE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EMA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_URI_FIELD_NUMBER: _ClassVar[int]
    SCENE_DETECTION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_TOLERANCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REUSE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CUT_DETECTION_FIELD_NUMBER: _ClassVar[int]
    SCENE_BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    MIN_SCENE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    video_uri: str
    frames_per_chunk: int
    chunk_duration_seconds: float
    top_k_tags: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    text_bank: str
    include_embeddings: bool
    include_scene_scores: bool
    scene_threshold: float
    ema_alpha: float
    min_probability: float
    output_uri: str
    scene_detection: _decoder_pb2.SceneDetection
    priority: Priority
    sampling_tolerance_seconds: float
    reuse_difference: float
    start_seconds: float
    end_seconds: float
    cut_detection: CutDetection
    scene_boundaries: SceneBoundaries
    min_scene_seconds: float
    def __init__(self, stream_id: _Optional[str] = ..., video_uri: _Optional[str] = ..., frames_per_chunk: _Optional[int] = ..., chunk_duration_seconds: _Optional[float] = ..., top_k_tags: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., text_bank: _Optional[str] = ..., include_embeddings: _Optional[bool] = ..., include_scene_scores: _Optional[bool] = ..., scene_threshold: _Optional[float] = ..., ema_alpha: _Optional[float] = ..., min_probability: _Optional[float] = ..., output_uri: _Optional[str] = ..., scene_detection: _Optional[_Union[_decoder_pb2.SceneDetection, str]] = ..., priority: _Optional[_Union[Priority, str]] = ..., sampling_tolerance_seconds: _Optional[float] = ..., reuse_difference: _Optional[float] = ..., start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., cut_detection: _Optional[_Union[CutDetection, str]] = ..., scene_boundaries: _Optional[_Union[SceneBoundaries, str]] = ..., min_scene_seconds: _Optional[float] = ...) -> None: ...

class AnalyzeVideoResponse(_message.Message):
    __slots__ = ("stream_id", "tags", "caption", "scene_changes", "scenes", "chunks", "video_duration_seconds", "decode_failures", "timing", "model", "text_bank", "usage", "frames_dropped", "claimed_duration_seconds", "trace_id", "cuts", "transitions")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SCENE_CHANGES_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    VIDEO_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DECODE_FAILURES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    tags: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.TagScore]
    caption: _decoder_pb2.CaptionScore
    scene_changes: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.SceneChange]
    scenes: _containers.RepeatedCompositeFieldContainer[Scene]
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkResult]
    video_duration_seconds: float
    decode_failures: int
    timing: Timing
    model: _encoder_pb2.ModelInfo
    text_bank: _decoder_pb2.TextBankInfo
    usage: Usage
    frames_dropped: int
    claimed_duration_seconds: float
    trace_id: str
    cuts: _containers.RepeatedCompositeFieldContainer[Cut]
    transitions: _containers.RepeatedCompositeFieldContainer[Transition]
    def __init__(self, stream_id: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[_decoder_pb2.TagScore, _Mapping]]] = ..., caption: _Optional[_Union[_decoder_pb2.CaptionScore, _Mapping]] = ..., scene_changes: _Optional[_Iterable[_Union[_decoder_pb2.SceneChange, _Mapping]]] = ..., scenes: _Optional[_Iterable[_Union[Scene, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[ChunkResult, _Mapping]]] = ..., video_duration_seconds: _Optional[float] = ..., decode_failures: _Optional[int] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., model: _Optional[_Union[_encoder_pb2.ModelInfo, _Mapping]] = ..., text_bank: _Optional[_Union[_decoder_pb2.TextBankInfo, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., frames_dropped: _Optional[int] = ..., claimed_duration_seconds: _Optional[float] = ..., trace_id: _Optional[str] = ..., cuts: _Optional[_Iterable[_Union[Cut, _Mapping]]] = ..., transitions: _Optional[_Iterable[_Union[Transition, _Mapping]]] = ...) -> None: ...

class Cut(_message.Message):
    __slots__ = ("time_seconds", "previous_frame_seconds", "strength", "coarse")
    TIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FRAME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    COARSE_FIELD_NUMBER: _ClassVar[int]
    time_seconds: float
    previous_frame_seconds: float
    strength: float
    coarse: bool
    def __init__(self, time_seconds: _Optional[float] = ..., previous_frame_seconds: _Optional[float] = ..., strength: _Optional[float] = ..., coarse: _Optional[bool] = ...) -> None: ...

class Transition(_message.Message):
    __slots__ = ("start_seconds", "end_seconds", "kind")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Transition.Kind]
        KIND_FADE: _ClassVar[Transition.Kind]
        KIND_DISSOLVE: _ClassVar[Transition.Kind]
    KIND_UNSPECIFIED: Transition.Kind
    KIND_FADE: Transition.Kind
    KIND_DISSOLVE: Transition.Kind
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    start_seconds: float
    end_seconds: float
    kind: Transition.Kind
    def __init__(self, start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., kind: _Optional[_Union[Transition.Kind, str]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("bytes_read", "frames_decoded", "accelerator_seconds", "frames_encoded")
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DECODED_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ENCODED_FIELD_NUMBER: _ClassVar[int]
    bytes_read: int
    frames_decoded: int
    accelerator_seconds: float
    frames_encoded: int
    def __init__(self, bytes_read: _Optional[int] = ..., frames_decoded: _Optional[int] = ..., accelerator_seconds: _Optional[float] = ..., frames_encoded: _Optional[int] = ...) -> None: ...

class Scene(_message.Message):
    __slots__ = ("start_seconds", "end_seconds", "tags", "caption")
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    start_seconds: float
    end_seconds: float
    tags: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.TagScore]
    caption: _decoder_pb2.CaptionScore
    def __init__(self, start_seconds: _Optional[float] = ..., end_seconds: _Optional[float] = ..., tags: _Optional[_Iterable[_Union[_decoder_pb2.TagScore, _Mapping]]] = ..., caption: _Optional[_Union[_decoder_pb2.CaptionScore, _Mapping]] = ...) -> None: ...

class ChunkResult(_message.Message):
    __slots__ = ("chunk_index", "start_seconds", "duration_seconds", "frame_times_seconds", "tags", "caption", "scene_changes", "scene_scores", "embeddings", "cuts", "transitions")
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAME_TIMES_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SCENE_CHANGES_FIELD_NUMBER: _ClassVar[int]
    SCENE_SCORES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    chunk_index: int
    start_seconds: float
    duration_seconds: float
    frame_times_seconds: _containers.RepeatedScalarFieldContainer[float]
    tags: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.TagScore]
    caption: _decoder_pb2.CaptionScore
    scene_changes: _containers.RepeatedCompositeFieldContainer[_decoder_pb2.SceneChange]
    scene_scores: _containers.RepeatedScalarFieldContainer[float]
    embeddings: _tensor_pb2.Tensor
    cuts: _containers.RepeatedCompositeFieldContainer[Cut]
    transitions: _containers.RepeatedCompositeFieldContainer[Transition]
    def __init__(self, chunk_index: _Optional[int] = ..., start_seconds: _Optional[float] = ..., duration_seconds: _Optional[float] = ..., frame_times_seconds: _Optional[_Iterable[float]] = ..., tags: _Optional[_Iterable[_Union[_decoder_pb2.TagScore, _Mapping]]] = ..., caption: _Optional[_Union[_decoder_pb2.CaptionScore, _Mapping]] = ..., scene_changes: _Optional[_Iterable[_Union[_decoder_pb2.SceneChange, _Mapping]]] = ..., scene_scores: _Optional[_Iterable[float]] = ..., embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., cuts: _Optional[_Iterable[_Union[Cut, _Mapping]]] = ..., transitions: _Optional[_Iterable[_Union[Transition, _Mapping]]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("queue_seconds", "compute_seconds")
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    queue_seconds: float
    compute_seconds: float
    def __init__(self, queue_seconds: _Optional[float] = ..., compute_seconds: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("download", "sample", "encode", "decode", "unattributed_seconds", "total_seconds")
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    UNATTRIBUTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    download: StageTiming
    sample: StageTiming
    encode: StageTiming
    decode: StageTiming
    unattributed_seconds: float
    total_seconds: float
    def __init__(self, download: _Optional[_Union[StageTiming, _Mapping]] = ..., sample: _Optional[_Union[StageTiming, _Mapping]] = ..., encode: _Optional[_Union[StageTiming, _Mapping]] = ..., decode: _Optional[_Union[StageTiming, _Mapping]] = ..., unattributed_seconds: _Optional[float] = ..., total_seconds: _Optional[float] = ...) -> None: ...

class StreamAnalyzeVideoRequest(_message.Message):
    __slots__ = ("analysis", "resume_token")
    ANALYSIS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    analysis: AnalyzeVideoRequest
    resume_token: bytes
    def __init__(self, analysis: _Optional[_Union[AnalyzeVideoRequest, _Mapping]] = ..., resume_token: _Optional[bytes] = ...) -> None: ...

class StreamAnalyzeVideoResponse(_message.Message):
    __slots__ = ("progress", "chunk", "summary", "resume_token", "finished_scenes")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FINISHED_SCENES_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    chunk: ChunkResult
    summary: AnalyzeVideoResponse
    resume_token: bytes
    finished_scenes: _containers.RepeatedCompositeFieldContainer[Scene]
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., chunk: _Optional[_Union[ChunkResult, _Mapping]] = ..., summary: _Optional[_Union[AnalyzeVideoResponse, _Mapping]] = ..., resume_token: _Optional[bytes] = ..., finished_scenes: _Optional[_Iterable[_Union[Scene, _Mapping]]] = ...) -> None: ...

class RedecodeVideoRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: RedecodeHeader
    chunk: ChunkResult
    def __init__(self, header: _Optional[_Union[RedecodeHeader, _Mapping]] = ..., chunk: _Optional[_Union[ChunkResult, _Mapping]] = ...) -> None: ...

class RedecodeHeader(_message.Message):
    __slots__ = ("analysis", "model")
    ANALYSIS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    analysis: AnalyzeVideoRequest
    model: _encoder_pb2.ModelInfo
    def __init__(self, analysis: _Optional[_Union[AnalyzeVideoRequest, _Mapping]] = ..., model: _Optional[_Union[_encoder_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class RedecodeAccepted(_message.Message):
    __slots__ = ("text_bank",)
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    text_bank: _decoder_pb2.TextBankInfo
    def __init__(self, text_bank: _Optional[_Union[_decoder_pb2.TextBankInfo, _Mapping]] = ...) -> None: ...

class RedecodeVideoResponse(_message.Message):
    __slots__ = ("accepted", "progress", "chunk", "summary", "finished_scenes")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FINISHED_SCENES_FIELD_NUMBER: _ClassVar[int]
    accepted: RedecodeAccepted
    progress: Progress
    chunk: ChunkResult
    summary: AnalyzeVideoResponse
    finished_scenes: _containers.RepeatedCompositeFieldContainer[Scene]
    def __init__(self, accepted: _Optional[_Union[RedecodeAccepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., chunk: _Optional[_Union[ChunkResult, _Mapping]] = ..., summary: _Optional[_Union[AnalyzeVideoResponse, _Mapping]] = ..., finished_scenes: _Optional[_Iterable[_Union[Scene, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "downloaded_bytes", "total_bytes", "analyzed_seconds", "claimed_duration_seconds", "estimated_wait_seconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DOWNLOADED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    ANALYZED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    downloaded_bytes: int
    total_bytes: int
    analyzed_seconds: float
    claimed_duration_seconds: float
    estimated_wait_seconds: float
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., downloaded_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., analyzed_seconds: _Optional[float] = ..., claimed_duration_seconds: _Optional[float] = ..., estimated_wait_seconds: _Optional[float] = ...) -> None: ...
