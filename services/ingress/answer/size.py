"""The largest sizes of answers and of their parts, computed before anything is encoded."""

from fractions import Fraction
from math import ceil

from services.ingress.job import AnalysisRequest, is_every_frame
from videoanalysis.errors import InvalidInput
from videoanalysis.limits import MAX_MESSAGE_BYTES
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS, REFRACTORY_SECONDS
from videoanalysis.v1.decoder_pb2 import TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# Largest protobuf encodings of the messages without their texts; keys and lengths included.
_TEXT_SCORE_BYTES = 30
_VIDEO_TEXT_SCORE_BYTES = 57
# Positions and probabilities of the leading texts of one scene.
_LEADING_BYTES = 60 + (LEADING_TAGS + LEADING_CAPTIONS) * 13
_SCENE_CHANGE_BYTES = 63
_SCENE_BYTES = 25
_CHUNK_BYTES = 60
# Cuts are at least a quarter of a second apart, and transitions last as long.
_SHOTS_PER_SECOND = 4
_CUT_BYTES, _TRANSITION_BYTES = 33, 24
_FRAME_TIME_BYTES = _SCENE_SCORE_BYTES = 8
_TENSOR_BYTES = 40
_ENVELOPE_BYTES = 4096
# A resume token with its key and length.
_TOKEN_BYTES = (16 << 10) + 8
# A last piece of the video under 0.5 s joins the chunk before it.
_JOINED_SECONDS = 0.5


class LargestSizes:
    """In bytes, of messages of one analysis."""

    def __init__(self, request: AnalysisRequest, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self._request = request
        longest_tags = sorted((len(label.encode()) for label in request.labels), reverse=True)[: request.top_k_tags]
        tag_texts = sum(longest_tags) if request.labels else request.top_k_tags * text_bank.longest_text_bytes
        texts = tag_texts + text_bank.longest_text_bytes
        self._texts = texts + (request.top_k_tags + 1) * _TEXT_SCORE_BYTES
        self._video_texts = texts + (request.top_k_tags + 1) * _VIDEO_TEXT_SCORE_BYTES
        self._scene = _SCENE_BYTES + self._texts
        frames = request.frames_per_chunk
        self._chunk = _CHUNK_BYTES + self._texts + frames * _FRAME_TIME_BYTES
        if request.include_scene_scores:
            self._chunk += frames * _SCENE_SCORE_BYTES
        if request.include_embeddings:
            self._chunk += _TENSOR_BYTES + frames * model.embedding_dim * 2

    def answer(self, duration_seconds: float) -> int:
        """Of the AnalyzeVideoResponse of a video of that duration, with all chunks, scenes and scene changes."""
        chunks = max(1, ceil(Fraction(duration_seconds) / self._request.chunk_duration))
        changes = self._changes(chunks, duration_seconds)
        # Each change, cut and transition is listed twice, in its chunk and for the video, and a change begins a scene.
        parts = (
            chunks * self._chunk
            + 2 * self._shots(duration_seconds)
            + changes * 2 * _SCENE_CHANGE_BYTES
            + (changes + 1) * self._scene
        )
        return _ENVELOPE_BYTES + self._video_texts + parts

    def event(self) -> int:
        """Of a StreamAnalyzeVideoResponse: a chunk and the scenes that end in it."""
        scenes = self._changes_in_chunk() * (_SCENE_CHANGE_BYTES + self._scene)
        shots = self._shots(float(self._request.chunk_duration) + _JOINED_SECONDS)
        return _ENVELOPE_BYTES + _TOKEN_BYTES + self._chunk + scenes + shots

    def ranking(self) -> int:
        """Of the RankTextsResponse for these scenes."""
        return _ENVELOPE_BYTES + self._changes_in_chunk() * (self._scene + _LEADING_BYTES)

    def _shots(self, seconds: float) -> int:
        """Of all cuts and transitions in that time."""
        if not self._request.detect_cuts:
            return 0
        return (ceil(seconds * _SHOTS_PER_SECOND) + 1) * (_CUT_BYTES + _TRANSITION_BYTES)

    def _changes_in_chunk(self) -> int:
        return self._changes(1, float(self._request.chunk_duration) + _JOINED_SECONDS)

    def _changes(self, chunks: int, seconds: float) -> int:
        """Scene changes in `chunks` chunks that last so many seconds together, or scenes that end there."""
        changes = self._request.frames_per_chunk * chunks
        if is_every_frame(self._request.scene) or self._request.scenes_by_cuts:
            return changes
        return min(changes, ceil(seconds / REFRACTORY_SECONDS) + 1)


def check_event(size: int) -> None:
    """Raises InvalidInput if a chunk and its scenes, of `size` bytes, do not fit into one message."""
    if size > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"top_k_tags: the tags of all scenes that may end in one chunk could have {size} bytes, over the "
            f"{MAX_MESSAGE_BYTES} of one message; lower top_k_tags or frames_per_chunk, or shorten the labels",
            reason=ErrorReason.RESPONSE_TOO_LARGE,
            field="top_k_tags",
        )


def check_unary(size: int) -> None:
    """Raises InvalidInput if an answer of `size` bytes does not fit into one message."""
    if size > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"the answer could have {size} bytes, over the {MAX_MESSAGE_BYTES} of one message: use StreamAnalyzeVideo "
            "or ask for less (include_embeddings, include_scene_scores, top_k_tags, frames_per_chunk)",
            reason=ErrorReason.RESPONSE_TOO_LARGE,
        )
