"""Functions that read what others send, each with examples to begin from; what they raise is a bug."""

import json
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message

from services.decoder import validation
from services.ingress.admission import ByteBudget
from services.ingress.dispatch import answers
from services.ingress.dispatch.failures import FailedAttempt
from services.ingress.job import read_request
from services.ingress.resume.token import ResumeTokens
from services.ingress.sampling import messages
from services.ingress.sampling.sampled_chunk import TRANSITION_KINDS, Cut, LargestChange, SampledChunk, Transition
from services.ingress.sources import Allowed, ScratchSpace, Sources
from videoanalysis import chunk_upload, tensors
from videoanalysis.errors import InvalidInput, Overloaded, ServiceError
from videoanalysis.status import from_rpc_error, trailing_metadata
from videoanalysis.text_bank.format import InvalidTextBank, TextBank
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.decoder_pb2 import (
    DecodeChunkRequest,
    DecodeChunkResponse,
    LabelSet,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    SceneState,
    TagScore,
    TextRanking,
)
from videoanalysis.v1.encoder_pb2 import ChunkHeader, EncodeChunkRequest, ModelInfo
from videoanalysis.v1.tensor_pb2 import Tensor

_ROOT = Path("/videos")
_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class Target:
    """`read` raises an exception only for a bug."""

    read: Callable[[bytes], None]
    examples: Sequence[bytes]


def _uri(data: bytes) -> None:
    uri = data.decode(errors="ignore")
    with suppress(ServiceError):
        source: Any = _SOURCES.locate(uri)
        if uri.startswith("file:"):
            assert source.path.is_relative_to(_ROOT)


def _tensor(data: bytes) -> None:
    with suppress(ServiceError, DecodeError):
        tensor = Tensor.FromString(data)
        assert tensors.from_proto(tensor).nbytes == len(tensor.data)


def _piece(data: bytes) -> None:
    expected: EncodeChunkRequest | None = None
    with suppress(DecodeError):
        expected = EncodeChunkRequest.FromString(data)
    with suppress(DecodeError):
        parsed = chunk_upload.parse(data)
        assert expected == (EncodeChunkRequest(piece=bytes(parsed)) if isinstance(parsed, memoryview) else parsed)
        return
    assert expected is None


def _text_bank(data: bytes) -> None:
    with suppress(InvalidTextBank):
        bank = TextBank.from_bytes(data)
        assert TextBank.from_bytes(bank.to_bytes()).digest == bank.digest


def _token(data: bytes) -> None:
    with suppress(ServiceError):
        _TOKENS.read(data)
        raise AssertionError("a token without a valid signature was accepted")


def _request(data: bytes) -> None:
    with suppress(ServiceError, DecodeError):
        request = read_request(AnalyzeVideoRequest.FromString(data))
        assert 1 <= request.chunk_duration <= 600


def _decoder_request(data: bytes) -> None:
    with suppress(ServiceError, DecodeError):
        chunk = validation.read_chunk(DecodeChunkRequest.FromString(data))
        assert len(chunk.times_seconds) == len(chunk.frames)
    with suppress(ServiceError, DecodeError):
        validation.read_ranking_request(RankTextsRequest.FromString(data))


def _decoder_answer(data: bytes) -> None:
    with suppress(FailedAttempt, DecodeError):
        answers.check_decoded(DecodeChunkResponse.FromString(data), CHUNK)
    with suppress(FailedAttempt, DecodeError):
        answers.check_ranked(RankTextsResponse.FromString(data), RANKING)
    with suppress(FailedAttempt, DecodeError):
        answers.check_model(ModelInfo.FromString(data))


def _worker_message(data: bytes) -> None:
    try:
        message = json.loads(data)
    except ValueError:
        return
    with suppress(*messages.MALFORMED):
        chunk = messages.to_chunk(message, 0, 2)
        assert all(abs(time) <= 1e9 for time in chunk.frame_times)
    with suppress(*messages.MALFORMED):
        messages.to_opened(message)


class _Failure(grpc.RpcError):
    def __init__(self, details: bytes) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._details.decode(errors="ignore")

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", self._details),)


def _status(data: bytes) -> None:
    assert isinstance(from_rpc_error(_Failure(data)), ServiceError)


def _rows(count: int) -> Tensor:
    rows = np.eye(_DIMENSIONS, dtype=np.float32)[:count]
    return tensors.to_proto(rows)


_VECTOR = tensors.to_proto(np.eye(_DIMENSIONS, dtype=np.float32)[0])
_SOURCES: Any = Sources(
    None,  # type: ignore[arg-type]  # nothing is read
    Allowed(["bucket"], [_ROOT], ["https://example.com/videos/"]),
    ScratchSpace(ByteBudget(1 << 20), None, 1 << 20),
)
_TOKENS = ResumeTokens([b"k" * 32]).of("caller", "s3://bucket/key", read_request(AnalyzeVideoRequest()))
_SPEC = RankingSpec(model_digest="sha256:m", logit_scale=1.0, labels=LabelSet(texts=["a"], embeddings=_rows(1)))
CHUNK = DecodeChunkRequest(
    embeddings=_rows(2), frame_times_seconds=[0.0, 1.0], ema_state=SceneState(ema=_VECTOR), ranking=_SPEC
)
RANKING = RankTextsRequest(embeddings=_rows(2), ranking=_SPEC)
DECODED = DecodeChunkResponse(
    scene_scores=[0, 1],
    pooled_embedding=_VECTOR,
    ema_state=SceneState(ema=_VECTOR, last_frame_seconds=1.0),
    tags=[TagScore(text="a", score=0.5)],
)


def _messages(*examples: Message) -> list[bytes]:
    return [example.SerializeToString() for example in examples]


def _bank() -> bytes:
    rows = np.eye(_DIMENSIONS, dtype=np.float32)
    return TextBank(
        "default", "sha256:m", "{}", "2026-01-31T12:00:00Z", ("a", "b"), ("c",), rows[:2], rows[:1]
    ).to_bytes()


def _chunk() -> bytes:
    half = Fraction(1, 2)
    change = LargestChange(Fraction(0), half, exact=False, confidence=0.5)
    cuts, transitions = (
        (Cut(half, Fraction(0), 0.5, exact=True),),
        (Transition(Fraction(0), half, TRANSITION_KINDS[0]),),
    )
    times = Fraction(0), half
    chunk = SampledChunk(0, Fraction(0), Fraction(1), times, (0, 1), (None, change), cuts, transitions)
    return json.dumps(messages.from_chunk(chunk)).encode()


def _refusals() -> list[bytes]:
    return [trailing_metadata(error)[0][1] for error in (InvalidInput("x", field="y"), Overloaded("z"))]


TARGETS = {
    "uri": Target(
        _uri,
        [
            b"s3://bucket/key",
            b"s3://bucket/a/../b",
            b"file:///videos/a.mp4",
            b"file:///videos/../etc/passwd",
            b"file:///videos/%2e%2e/a",
            b"https://example.com/videos/a.mp4",
            b"https://user@example.com:443/videos/%2e%2e/a?b#c",
            b"https://[::1]/",
            b"sample://clip",
        ],
    ),
    "tensor": Target(_tensor, _messages(_rows(2), Tensor(shape=[-1]), Tensor(shape=[2**62, 4], data=b"1234"))),
    "piece": Target(
        _piece,
        _messages(
            EncodeChunkRequest(piece=b""),
            EncodeChunkRequest(piece=bytes(300)),
            EncodeChunkRequest(header=ChunkHeader(frames=2, chunk_key="a")),
        ),
    ),
    "text-bank": Target(_text_bank, [_bank()]),
    "token": Target(_token, [b"\x02" + bytes(32) + struct.pack("<q", 0) + bytes(60)]),
    "request": Target(
        _request,
        _messages(
            AnalyzeVideoRequest(video_uri="s3://b/k", labels=["a", "b"], chunk_duration_seconds=1.5, top_k_tags=3),
            AnalyzeVideoRequest(text_bank="x", scene_threshold=0.1, ema_alpha=0.5, output_uri="s3://b/o"),
        ),
    ),
    "decoder-request": Target(_decoder_request, _messages(CHUNK, RANKING)),
    "decoder-answer": Target(
        _decoder_answer,
        _messages(
            DECODED,
            RankTextsResponse(rankings=[TextRanking(tags=[TagScore(text="a", score=0.5)])] * 2),
            ModelInfo(digest="sha256:m", embedding_dim=4, logit_scale=1.0),
        ),
    ),
    "worker-message": Target(_worker_message, [_chunk(), b'{"claimed_duration_seconds": 1.5, "memory_bytes": 1}']),
    "status": Target(_status, _refusals()),
}
