import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from videoanalysis.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SceneDetection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCENE_DETECTION_UNSPECIFIED: _ClassVar[SceneDetection]
    SCENE_DETECTION_ONE_PER_CUT: _ClassVar[SceneDetection]
    SCENE_DETECTION_EVERY_FRAME: _ClassVar[SceneDetection]
SCENE_DETECTION_UNSPECIFIED: SceneDetection
SCENE_DETECTION_ONE_PER_CUT: SceneDetection
SCENE_DETECTION_EVERY_FRAME: SceneDetection

class LabelSet(_message.Message):
    __slots__ = ("texts", "embeddings")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    embeddings: _tensor_pb2.Tensor
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class RankingSpec(_message.Message):
    __slots__ = ("text_bank", "model_digest", "labels", "top_k_tags", "min_probability", "logit_scale", "logit_bias", "text_bank_digest")
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_TAGS_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    TEXT_BANK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    text_bank: str
    model_digest: str
    labels: LabelSet
    top_k_tags: int
    min_probability: float
    logit_scale: float
    logit_bias: float
    text_bank_digest: str
    def __init__(self, text_bank: _Optional[str] = ..., model_digest: _Optional[str] = ..., labels: _Optional[_Union[LabelSet, _Mapping]] = ..., top_k_tags: _Optional[int] = ..., min_probability: _Optional[float] = ..., logit_scale: _Optional[float] = ..., logit_bias: _Optional[float] = ..., text_bank_digest: _Optional[str] = ...) -> None: ...

class TagScore(_message.Message):
    __slots__ = ("text", "score", "probability", "max_probability", "peak_seconds", "uncertainty")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PEAK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    probability: float
    max_probability: float
    peak_seconds: float
    uncertainty: float
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., probability: _Optional[float] = ..., max_probability: _Optional[float] = ..., peak_seconds: _Optional[float] = ..., uncertainty: _Optional[float] = ...) -> None: ...

class CaptionScore(_message.Message):
    __slots__ = ("text", "score", "probability", "max_probability", "peak_seconds", "uncertainty")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PEAK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    probability: float
    max_probability: float
    peak_seconds: float
    uncertainty: float
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., probability: _Optional[float] = ..., max_probability: _Optional[float] = ..., peak_seconds: _Optional[float] = ..., uncertainty: _Optional[float] = ...) -> None: ...

class SceneSpec(_message.Message):
    __slots__ = ("detection", "threshold", "ema_alpha")
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EMA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    detection: SceneDetection
    threshold: float
    ema_alpha: float
    def __init__(self, detection: _Optional[_Union[SceneDetection, str]] = ..., threshold: _Optional[float] = ..., ema_alpha: _Optional[float] = ...) -> None: ...

class SceneState(_message.Message):
    __slots__ = ("ema", "last_event_seconds", "last_frame_seconds")
    EMA_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ema: _tensor_pb2.Tensor
    last_event_seconds: float
    last_frame_seconds: float
    def __init__(self, ema: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., last_event_seconds: _Optional[float] = ..., last_frame_seconds: _Optional[float] = ...) -> None: ...

class SceneChange(_message.Message):
    __slots__ = ("timestamp_seconds", "previous_timestamp_seconds", "score", "chunk_index", "frame_index", "cut_seconds", "cut_confidence")
    TIMESTAMP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TIMESTAMP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    CUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CUT_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    timestamp_seconds: float
    previous_timestamp_seconds: float
    score: float
    chunk_index: int
    frame_index: int
    cut_seconds: float
    cut_confidence: float
    def __init__(self, timestamp_seconds: _Optional[float] = ..., previous_timestamp_seconds: _Optional[float] = ..., score: _Optional[float] = ..., chunk_index: _Optional[int] = ..., frame_index: _Optional[int] = ..., cut_seconds: _Optional[float] = ..., cut_confidence: _Optional[float] = ...) -> None: ...

class DecodeChunkRequest(_message.Message):
    __slots__ = ("embeddings", "frame_times_seconds", "chunk_index", "ranking", "scene", "ema_state")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FRAME_TIMES_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_INDEX_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    EMA_STATE_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    frame_times_seconds: _containers.RepeatedScalarFieldContainer[float]
    chunk_index: int
    ranking: RankingSpec
    scene: SceneSpec
    ema_state: SceneState
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., frame_times_seconds: _Optional[_Iterable[float]] = ..., chunk_index: _Optional[int] = ..., ranking: _Optional[_Union[RankingSpec, _Mapping]] = ..., scene: _Optional[_Union[SceneSpec, _Mapping]] = ..., ema_state: _Optional[_Union[SceneState, _Mapping]] = ...) -> None: ...

class DecodeChunkResponse(_message.Message):
    __slots__ = ("tags", "caption", "scene_changes", "scene_scores", "ema_state", "pooled_embedding", "text_bank", "compute")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SCENE_CHANGES_FIELD_NUMBER: _ClassVar[int]
    SCENE_SCORES_FIELD_NUMBER: _ClassVar[int]
    EMA_STATE_FIELD_NUMBER: _ClassVar[int]
    POOLED_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[TagScore]
    caption: CaptionScore
    scene_changes: _containers.RepeatedCompositeFieldContainer[SceneChange]
    scene_scores: _containers.RepeatedScalarFieldContainer[float]
    ema_state: SceneState
    pooled_embedding: _tensor_pb2.Tensor
    text_bank: TextBankInfo
    compute: _duration_pb2.Duration
    def __init__(self, tags: _Optional[_Iterable[_Union[TagScore, _Mapping]]] = ..., caption: _Optional[_Union[CaptionScore, _Mapping]] = ..., scene_changes: _Optional[_Iterable[_Union[SceneChange, _Mapping]]] = ..., scene_scores: _Optional[_Iterable[float]] = ..., ema_state: _Optional[_Union[SceneState, _Mapping]] = ..., pooled_embedding: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., text_bank: _Optional[_Union[TextBankInfo, _Mapping]] = ..., compute: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TextProbabilities(_message.Message):
    __slots__ = ("positions", "probabilities", "max_of_others")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_OF_OTHERS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedScalarFieldContainer[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    max_of_others: float
    def __init__(self, positions: _Optional[_Iterable[int]] = ..., probabilities: _Optional[_Iterable[float]] = ..., max_of_others: _Optional[float] = ...) -> None: ...

class RankTextsRequest(_message.Message):
    __slots__ = ("embeddings", "ranking")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    ranking: RankingSpec
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., ranking: _Optional[_Union[RankingSpec, _Mapping]] = ...) -> None: ...

class TextRanking(_message.Message):
    __slots__ = ("tags", "caption", "leading_tags", "leading_captions")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    LEADING_TAGS_FIELD_NUMBER: _ClassVar[int]
    LEADING_CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[TagScore]
    caption: CaptionScore
    leading_tags: TextProbabilities
    leading_captions: TextProbabilities
    def __init__(self, tags: _Optional[_Iterable[_Union[TagScore, _Mapping]]] = ..., caption: _Optional[_Union[CaptionScore, _Mapping]] = ..., leading_tags: _Optional[_Union[TextProbabilities, _Mapping]] = ..., leading_captions: _Optional[_Union[TextProbabilities, _Mapping]] = ...) -> None: ...

class RankTextsResponse(_message.Message):
    __slots__ = ("rankings", "text_bank")
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    TEXT_BANK_FIELD_NUMBER: _ClassVar[int]
    rankings: _containers.RepeatedCompositeFieldContainer[TextRanking]
    text_bank: TextBankInfo
    def __init__(self, rankings: _Optional[_Iterable[_Union[TextRanking, _Mapping]]] = ..., text_bank: _Optional[_Union[TextBankInfo, _Mapping]] = ...) -> None: ...

class RankVideoRequest(_message.Message):
    __slots__ = ("embedding", "ranking", "tags", "captions")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    embedding: _tensor_pb2.Tensor
    ranking: RankingSpec
    tags: TextProbabilities
    captions: TextProbabilities
    def __init__(self, embedding: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., ranking: _Optional[_Union[RankingSpec, _Mapping]] = ..., tags: _Optional[_Union[TextProbabilities, _Mapping]] = ..., captions: _Optional[_Union[TextProbabilities, _Mapping]] = ...) -> None: ...

class RankVideoResponse(_message.Message):
    __slots__ = ("tags", "tag_positions", "caption", "caption_position")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TAG_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    CAPTION_POSITION_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[TagScore]
    tag_positions: _containers.RepeatedScalarFieldContainer[int]
    caption: CaptionScore
    caption_position: int
    def __init__(self, tags: _Optional[_Iterable[_Union[TagScore, _Mapping]]] = ..., tag_positions: _Optional[_Iterable[int]] = ..., caption: _Optional[_Union[CaptionScore, _Mapping]] = ..., caption_position: _Optional[int] = ...) -> None: ...

class ListTextBanksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTextBanksResponse(_message.Message):
    __slots__ = ("text_banks", "has_location", "expected_names", "is_complete")
    TEXT_BANKS_FIELD_NUMBER: _ClassVar[int]
    HAS_LOCATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_NAMES_FIELD_NUMBER: _ClassVar[int]
    IS_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    text_banks: _containers.RepeatedCompositeFieldContainer[TextBankInfo]
    has_location: bool
    expected_names: _containers.RepeatedScalarFieldContainer[str]
    is_complete: bool
    def __init__(self, text_banks: _Optional[_Iterable[_Union[TextBankInfo, _Mapping]]] = ..., has_location: _Optional[bool] = ..., expected_names: _Optional[_Iterable[str]] = ..., is_complete: _Optional[bool] = ...) -> None: ...

class TextBankInfo(_message.Message):
    __slots__ = ("name", "digest", "model_digest", "template", "created_at", "tags", "descriptions", "longest_text_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    LONGEST_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    model_digest: str
    template: str
    created_at: str
    tags: int
    descriptions: int
    longest_text_bytes: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., model_digest: _Optional[str] = ..., template: _Optional[str] = ..., created_at: _Optional[str] = ..., tags: _Optional[int] = ..., descriptions: _Optional[int] = ..., longest_text_bytes: _Optional[int] = ...) -> None: ...
