"""Checks requests and converts them to values. Every function raises InvalidInput naming the field."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.decoder.ranking import Texts
from services.decoder.scenes import SceneDetector, SceneState
from videoanalysis import tensors
from videoanalysis.embeddings import UNIT_TOLERANCE
from videoanalysis.errors import InvalidInput
from videoanalysis.limits import (
    MAX_EMBEDDING_DIM,
    MAX_FRAMES_PER_CHUNK,
    MAX_LABELS,
    MAX_RANKED_ROWS,
    MAX_TEXT_CHARACTERS,
    MAX_TOP_K,
)
from videoanalysis.scores import DEFAULT_EMA_ALPHA, DEFAULT_SCENE_THRESHOLD, Calibration
from videoanalysis.v1 import decoder_pb2
from videoanalysis.v1.tensor_pb2 import Tensor

DEFAULT_BANK = "default"
DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class RankingOptions:
    text_bank: str
    model_digest: str
    text_bank_digest: str  # empty: the newest
    labels: Texts | None
    top_k: int
    min_probability: float | None  # None: that of each text
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Chunk:
    # float32 [frames, D], unit rows.
    frames: NDArray[np.float32]
    times_seconds: tuple[float, ...]
    detector: SceneDetector
    ranking: RankingOptions


@dataclass(frozen=True, slots=True)
class RankingRequest:
    # float32 [rows, D], none longer than 1.
    rows: NDArray[np.float32]
    ranking: RankingOptions


@dataclass(frozen=True, slots=True)
class VideoRequest:
    # float32 [1, D], not longer than 1.
    rows: NDArray[np.float32]
    ranking: RankingOptions
    # By position.
    tags: Mapping[int, float]
    captions: Mapping[int, float]


def read_chunk(request: decoder_pb2.DecodeChunkRequest) -> Chunk:
    """The frames, float32 [1 to 64, D], with their times, and the detector in its state before them."""
    frames = _unit_rows(request.embeddings, "embeddings", MAX_FRAMES_PER_CHUNK)
    state = _scene_state(request.ema_state, frames.shape[1]) if request.HasField("ema_state") else None
    return Chunk(
        frames=frames,
        times_seconds=_times(request.frame_times_seconds, len(frames), state.last_frame_seconds if state else 0.0),
        detector=_detector(request.scene, state),
        ranking=_ranking(request.ranking, frames.shape[1]),
    )


def read_ranking_request(request: decoder_pb2.RankTextsRequest) -> RankingRequest:
    rows = _matrix(request.embeddings, "embeddings", MAX_RANKED_ROWS)
    _check_short(rows, "embeddings")
    return RankingRequest(rows, _ranking(request.ranking, rows.shape[1]))


def read_video_request(request: decoder_pb2.RankVideoRequest) -> VideoRequest:
    embedding = _floats(request.embedding, "embedding")
    _require(embedding.ndim == 1 and len(embedding) >= 1, "embedding", f"shape {list(embedding.shape)}, must be [D]")
    rows = embedding[np.newaxis]
    _check_short(rows, "embedding")
    return VideoRequest(
        rows=rows,
        ranking=_ranking(request.ranking, len(embedding)),
        tags=_probabilities(request.tags, "tags"),
        captions=_probabilities(request.captions, "captions"),
    )


def check_positions(video: VideoRequest, tags: int, descriptions: int) -> None:
    """Checks that every position is below the number of `tags` or `descriptions` that the bank or the labels have."""
    for field, known, texts in (("tags", video.tags, tags), ("captions", video.captions, descriptions)):
        _require(max(known, default=-1) < texts, f"{field}.positions", f"one is over the last of {texts} texts")


def check_dimensions(rows: NDArray[np.float32], dimensions: int) -> None:
    """Checks that `rows`, [n, D], have the `dimensions` of the text bank."""
    _require(
        rows.shape[1] == dimensions,
        "embeddings",
        f"{rows.shape[1]} dimensions, the text bank of that model has {dimensions}",
    )


def _ranking(spec: decoder_pb2.RankingSpec, dimensions: int) -> RankingOptions:
    _require(spec.model_digest != "", "ranking.model_digest", "is required")
    _require(spec.top_k_tags <= MAX_TOP_K, "ranking.top_k_tags", f"{spec.top_k_tags}, must be at most {MAX_TOP_K}")
    min_probability = spec.min_probability if spec.HasField("min_probability") else None
    _require(0 <= (min_probability or 0) <= 1, "ranking.min_probability", f"{min_probability}, must be 0 to 1")
    _require(0 < spec.logit_scale < math.inf, "ranking.logit_scale", f"{spec.logit_scale}, must be above 0 and finite")
    _require(math.isfinite(spec.logit_bias), "ranking.logit_bias", f"{spec.logit_bias}, must be finite")
    return RankingOptions(
        text_bank=spec.text_bank or DEFAULT_BANK,
        model_digest=spec.model_digest,
        text_bank_digest=spec.text_bank_digest,
        labels=_labels(spec.labels, dimensions) if spec.HasField("labels") else None,
        top_k=spec.top_k_tags or DEFAULT_TOP_K,
        min_probability=min_probability,
        calibration=Calibration(spec.logit_scale, spec.logit_bias),
    )


def _labels(labels: decoder_pb2.LabelSet, dimensions: int) -> Texts:
    texts = tuple(labels.texts)
    field = "ranking.labels.texts"
    _require(1 <= len(texts) <= MAX_LABELS, field, f"{len(texts)} labels, must be 1 to {MAX_LABELS}")
    _require(len(set(texts)) == len(texts), field, "the same label twice")
    _require(
        all(text.strip() and len(text) <= MAX_TEXT_CHARACTERS for text in texts),
        field,
        f"a label is empty or over {MAX_TEXT_CHARACTERS} characters",
    )
    field = "ranking.labels.embeddings"
    embeddings = _unit_rows(labels.embeddings, field, MAX_LABELS)
    _require(
        embeddings.shape == (len(texts), dimensions),
        field,
        f"shape {list(embeddings.shape)}, must be {[len(texts), dimensions]}",
    )
    return Texts(texts, embeddings)


def _detector(spec: decoder_pb2.SceneSpec, state: SceneState | None) -> SceneDetector:
    threshold = spec.threshold if spec.HasField("threshold") else DEFAULT_SCENE_THRESHOLD
    alpha = spec.ema_alpha if spec.HasField("ema_alpha") else DEFAULT_EMA_ALPHA
    _require(0 < threshold <= 2, "scene.threshold", f"{threshold}, must be above 0 and at most 2")
    _require(0 < alpha < 1, "scene.ema_alpha", f"{alpha}, must be above 0 and below 1")
    _require(spec.detection in decoder_pb2.SceneDetection.values(), "scene.detection", f"{spec.detection} is unknown")
    restarts = spec.detection != decoder_pb2.SCENE_DETECTION_EVERY_FRAME
    return SceneDetector(threshold=threshold, alpha=alpha, restarts=restarts, state=state)


def _probabilities(known: decoder_pb2.TextProbabilities, field: str) -> dict[int, float]:
    by_position = dict(zip(known.positions, known.probabilities, strict=False))
    _require(
        len(by_position) == len(known.positions) == len(known.probabilities),
        f"{field}.probabilities",
        "must be one for each of positions, which are distinct",
    )
    _require(all(0 <= value <= 1 for value in by_position.values()), f"{field}.probabilities", "must be 0 to 1")
    return by_position


def _scene_state(state: decoder_pb2.SceneState, dimensions: int) -> SceneState:
    ema = _floats(state.ema, "ema_state.ema")
    _require(ema.shape == (dimensions,), "ema_state.ema", f"shape {list(ema.shape)}, must be [{dimensions}]")
    _check_unit(ema[np.newaxis], "ema_state.ema")
    last_frame = state.last_frame_seconds
    _require(0 <= last_frame < math.inf, "ema_state.last_frame_seconds", f"{last_frame} is negative or not finite")
    if not state.HasField("last_event_seconds"):
        return SceneState(ema, None, last_frame)
    last_event = state.last_event_seconds
    _require(0 <= last_event <= last_frame, "ema_state.last_event_seconds", f"{last_event}, must be 0 to {last_frame}")
    return SceneState(ema, last_event, last_frame)


def _times(times: Sequence[float], frames: int, earliest: float) -> tuple[float, ...]:
    field = "frame_times_seconds"
    _require(len(times) == frames, field, f"{len(times)} times for {frames} frames")
    for time in times:
        _require(earliest <= time < math.inf, field, f"{time} is not finite or before {earliest}")
        earliest = time
    return tuple(times)


def _unit_rows(tensor: Tensor, field: str, max_rows: int) -> NDArray[np.float32]:
    matrix = _matrix(tensor, field, max_rows)
    _check_unit(matrix, field)
    return matrix


def _matrix(tensor: Tensor, field: str, max_rows: int) -> NDArray[np.float32]:
    matrix = _floats(tensor, field)
    _require(
        matrix.ndim == 2 and 1 <= len(matrix) <= max_rows and 1 <= matrix.shape[1] <= MAX_EMBEDDING_DIM,
        field,
        f"shape {list(matrix.shape)}, must be [1 to {max_rows}, 1 to {MAX_EMBEDDING_DIM}]",
    )
    return matrix


def _floats(tensor: Tensor, field: str) -> NDArray[np.float32]:
    array = tensors.from_proto(tensor, field)
    _require(array.dtype == np.float32, field, f"{array.dtype}, must be float32")
    _require(bool(np.isfinite(array).all()), field, "contains values that are not finite")
    return array.astype(np.float32, copy=False)


def _check_unit(rows: NDArray[np.float32], field: str) -> None:
    lengths = _lengths(rows)
    worst = int(np.argmax(np.abs(lengths - 1)))
    _require(
        abs(lengths[worst] - 1) <= UNIT_TOLERANCE, field, f"row {worst} has length {lengths[worst]:.4g}, must be 1"
    )


def _check_short(rows: NDArray[np.float32], field: str) -> None:
    longest = float(_lengths(rows).max())
    _require(longest <= 1 + UNIT_TOLERANCE, field, f"a row has length {longest:.4g}, must be at most 1")


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows.astype(np.float64), axis=1)
    return lengths


def _require(condition: bool, field: str, problem: str) -> None:
    if not condition:
        raise InvalidInput(f"{field}: {problem}", field=field)
