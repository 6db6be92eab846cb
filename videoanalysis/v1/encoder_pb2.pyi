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

class PixelFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_FORMAT_UNSPECIFIED: _ClassVar[PixelFormat]
    PIXEL_FORMAT_RGB24: _ClassVar[PixelFormat]
PIXEL_FORMAT_UNSPECIFIED: PixelFormat
PIXEL_FORMAT_RGB24: PixelFormat

class ChunkHeader(_message.Message):
    __slots__ = ("frames", "height", "width", "pixel_format", "model_digest", "chunk_key", "ingress_id", "waited")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    PIXEL_FORMAT_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_KEY_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ID_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    frames: int
    height: int
    width: int
    pixel_format: PixelFormat
    model_digest: str
    chunk_key: str
    ingress_id: str
    waited: _duration_pb2.Duration
    def __init__(self, frames: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., pixel_format: _Optional[_Union[PixelFormat, str]] = ..., model_digest: _Optional[str] = ..., chunk_key: _Optional[str] = ..., ingress_id: _Optional[str] = ..., waited: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class EncodeChunkRequest(_message.Message):
    __slots__ = ("header", "piece")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    header: ChunkHeader
    piece: bytes
    def __init__(self, header: _Optional[_Union[ChunkHeader, _Mapping]] = ..., piece: _Optional[bytes] = ...) -> None: ...

class Parked(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Admitted(_message.Message):
    __slots__ = ("parked",)
    PARKED_FIELD_NUMBER: _ClassVar[int]
    parked: _duration_pb2.Duration
    def __init__(self, parked: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ChunkEmbeddings(_message.Message):
    __slots__ = ("embeddings", "queue", "compute", "model_digest", "other_chunks_in_flight")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OTHER_CHUNKS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    queue: _duration_pb2.Duration
    compute: _duration_pb2.Duration
    model_digest: str
    other_chunks_in_flight: int
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compute: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model_digest: _Optional[str] = ..., other_chunks_in_flight: _Optional[int] = ...) -> None: ...

class EncodeChunkResponse(_message.Message):
    __slots__ = ("admitted", "result", "parked")
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    admitted: Admitted
    result: ChunkEmbeddings
    parked: Parked
    def __init__(self, admitted: _Optional[_Union[Admitted, _Mapping]] = ..., result: _Optional[_Union[ChunkEmbeddings, _Mapping]] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ...) -> None: ...

class EncodeTextsRequest(_message.Message):
    __slots__ = ("texts", "model_digest")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    model_digest: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., model_digest: _Optional[str] = ...) -> None: ...

class EncodeTextsResponse(_message.Message):
    __slots__ = ("embeddings", "model_digest")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    embeddings: _tensor_pb2.Tensor
    model_digest: str
    def __init__(self, embeddings: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., model_digest: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model_id", "revision", "digest", "embedding_dim", "image_size", "logit_scale", "logit_bias", "precision", "device", "engine")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_DIM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
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
    def __init__(self, model_id: _Optional[str] = ..., revision: _Optional[str] = ..., digest: _Optional[str] = ..., embedding_dim: _Optional[int] = ..., image_size: _Optional[int] = ..., logit_scale: _Optional[float] = ..., logit_bias: _Optional[float] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., engine: _Optional[str] = ...) -> None: ...
