"""The largest size of an answer, computed before anything is encoded."""

from fractions import Fraction
from math import ceil

from services.ingress.job import AnalysisRequest, is_every_frame
from videoanalysis.errors import InvalidInput
from videoanalysis.scores import REFRACTORY_SECONDS
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# gRPC's default limit on what a client receives.
MAX_UNARY_BYTES = 4 << 20

# Largest protobuf encodings of the messages without their texts; keys and lengths included.
_TEXT_SCORE_BYTES = 45
_SCENE_CHANGE_BYTES = 63
_SCENE_BYTES = 25
_CHUNK_BYTES = 60
_FRAME_TIME_BYTES = _SCENE_SCORE_BYTES = 8
_TENSOR_BYTES = 40
_ENVELOPE_BYTES = 4096


def largest_answer(
    request: AnalysisRequest,
    duration_seconds: float,
    longest_tag_bytes: int,
    longest_caption_bytes: int,
    embedding_dim: int,
) -> int:
    """Bytes of the largest AnalyzeVideoResponse to `request` of a video of that duration."""
    chunks = max(1, ceil(Fraction(duration_seconds) / request.chunk_duration))
    frames = request.frames_per_chunk
    changes = frames * chunks
    if not is_every_frame(request.scene):
        changes = min(changes, ceil(duration_seconds / REFRACTORY_SECONDS) + 1)
    texts = request.top_k_tags * (_TEXT_SCORE_BYTES + longest_tag_bytes) + _TEXT_SCORE_BYTES + longest_caption_bytes
    chunk = _CHUNK_BYTES + texts + frames * _FRAME_TIME_BYTES
    if request.include_scene_scores:
        chunk += frames * _SCENE_SCORE_BYTES
    if request.include_embeddings:
        chunk += _TENSOR_BYTES + frames * embedding_dim * 2
    # Each change is listed twice, in its chunk and for the video, and begins a scene.
    return (
        _ENVELOPE_BYTES
        + texts
        + chunks * chunk
        + changes * (2 * _SCENE_CHANGE_BYTES)
        + (changes + 1) * (_SCENE_BYTES + texts)
    )


def check_unary(size: int) -> None:
    """Raises InvalidInput if an answer of `size` bytes does not fit into one message."""
    if size > MAX_UNARY_BYTES:
        raise InvalidInput(
            f"the answer could have {size} bytes, over the {MAX_UNARY_BYTES} of one message: use StreamAnalyzeVideo "
            "or ask for less (include_embeddings, include_scene_scores, top_k_tags, frames_per_chunk)",
            reason=ErrorReason.RESPONSE_TOO_LARGE,
        )
