"""Checks of the answers of replicas: a malformed answer is a failed attempt, and never reaches the caller."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.ingress.dispatch.failures import FailedAttempt
from videoanalysis import tensors
from videoanalysis.embeddings import UNIT_TOLERANCE
from videoanalysis.errors import InvalidInput
from videoanalysis.limits import MAX_EMBEDDING_DIM, MAX_TEXT_CHARACTERS, MAX_TOP_K
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkRequest,
    DecodeChunkResponse,
    ListTextBanksResponse,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
    TagScore,
    TextBankInfo,
    TextProbabilities,
)
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.tensor_pb2 import Tensor

T = TypeVar("T")


def received(answer: T | None) -> T:
    """`answer`; raises FailedAttempt for None, which grpc.aio returns if the bytes are not a message of this type."""
    if answer is None:
        raise FailedAttempt("malformed answer: not a message of the protocol")
    return answer


def require(condition: bool, problem: str) -> None:
    if not condition:
        raise FailedAttempt(f"malformed answer: {problem}")


def unit_rows(tensor: Tensor, rows: int, dimensions: int, name: str = "embeddings") -> NDArray[np.float32]:
    """float32 [rows, dimensions]: finite, each row of unit length."""
    array = _floats(tensor, [rows, dimensions], name)
    lengths = np.linalg.norm(array.astype(np.float64), axis=1)
    require(bool((np.abs(lengths - 1) <= UNIT_TOLERANCE).all()), f"{name} has a row that is not of unit length")
    return array


def check_model(model: ModelInfo) -> None:
    require(model.digest != "", "the model has no digest")
    require(0 < model.embedding_dim <= MAX_EMBEDDING_DIM, f"an embedding_dim of {model.embedding_dim}")
    require(0 < model.logit_scale < math.inf and math.isfinite(model.logit_bias), "the model's logit scale or bias")


def check_decoded(response: DecodeChunkResponse, request: DecodeChunkRequest) -> None:
    frames, dimensions = request.embeddings.shape
    times = request.frame_times_seconds
    require(len(response.scene_scores) == frames, f"{len(response.scene_scores)} scene scores for {frames} frames")
    _check_finite(response.scene_scores, "scene_scores")
    indices = [change.frame_index for change in response.scene_changes]
    require(sorted(set(indices)) == indices and all(index < frames for index in indices), f"scene changes at {indices}")
    for change in response.scene_changes:
        is_of_frame = change.timestamp_seconds == times[change.frame_index]
        require(is_of_frame and change.chunk_index == request.chunk_index, "scene_changes of another chunk")
        _check_finite((change.previous_timestamp_seconds, change.score), "scene_changes")
    pooled = _floats(response.pooled_embedding, [dimensions], "pooled_embedding")
    require(float(np.linalg.norm(pooled.astype(np.float64))) <= 1 + UNIT_TOLERANCE, "pooled_embedding is too long")
    state = response.ema_state
    ema = _floats(state.ema, [dimensions], "ema_state.ema")
    require(
        abs(float(np.linalg.norm(ema.astype(np.float64))) - 1) <= UNIT_TOLERANCE, "ema_state.ema has no unit length"
    )
    # A state that no decoder can continue from would fail the next chunk everywhere.
    is_of_chunk = state.last_frame_seconds == times[-1]
    is_known_event = state.last_event_seconds in (request.ema_state.last_event_seconds, *times)
    require(is_of_chunk and (is_known_event or not state.HasField("last_event_seconds")), "ema_state of another chunk")
    _check_bank(response.text_bank, request.ranking)
    _check_tags(response.tags, request.ranking)
    if response.HasField("caption"):
        _check_scores([response.caption])


def check_ranked(response: RankTextsResponse, request: RankTextsRequest) -> None:
    rows = request.embeddings.shape[0]
    require(len(response.rankings) == rows, f"{len(response.rankings)} rankings for {rows} rows")
    _check_bank(response.text_bank, request.ranking)
    tags, captions = len(request.ranking.labels.texts) or response.text_bank.tags, response.text_bank.descriptions
    for ranking in response.rankings:
        _check_tags(ranking.tags, request.ranking)
        if ranking.HasField("caption"):
            _check_scores([ranking.caption])
        _check_leading(ranking.leading_tags, tags, LEADING_TAGS)
        _check_leading(ranking.leading_captions, captions, LEADING_CAPTIONS)


def check_video_ranked(response: RankVideoResponse, request: RankVideoRequest) -> None:
    require(len(response.tags) == len(response.tag_positions), "tags and tag_positions of different length")
    _check_tags(response.tags, request.ranking)
    if response.HasField("caption"):
        _check_scores([response.caption])


def check_banks(response: ListTextBanksResponse) -> None:
    longest = max((bank.longest_text_bytes for bank in response.text_banks), default=0)
    require(longest <= 4 * MAX_TEXT_CHARACTERS, f"a text bank with a text of {longest} bytes")


def _check_bank(text_bank: TextBankInfo, ranking: RankingSpec) -> None:
    digest = ranking.text_bank_digest
    require(digest in ("", text_bank.digest), f"texts of the bank {text_bank.digest}, not {digest}")


def _check_leading(leading: TextProbabilities, texts: int, most: int) -> None:
    """`texts` is the number of texts that were ranked."""
    positions = set(leading.positions)
    require(len(positions) == len(leading.positions) <= most, "a leading text twice, or too many")
    require(max(positions, default=-1) < texts, f"a leading text that is none of {texts}")
    require(len(leading.positions) == len(leading.probabilities), "not one probability for each position")
    for probability in (*leading.probabilities, leading.max_of_others):
        _check_probability(probability)


def _floats(tensor: Tensor, shape: list[int], name: str) -> NDArray[np.float32]:
    try:
        array = tensors.from_proto(tensor, name)
    except InvalidInput as error:
        raise FailedAttempt(f"malformed answer: {error.message}") from error
    require(list(array.shape) == shape, f"{name} has shape {list(array.shape)}, not {shape}")
    require(array.dtype == np.float32 and bool(np.isfinite(array).all()), f"{name} is not finite float32")
    return array.astype(np.float32, copy=False)


def _check_tags(tags: Sequence[TagScore], ranking: RankingSpec) -> None:
    require(len(tags) <= (ranking.top_k_tags or MAX_TOP_K), f"{len(tags)} tags")
    _check_scores(tags)


def _check_scores(texts: Iterable[TagScore | CaptionScore]) -> None:
    for text in texts:
        require(len(text.text) <= MAX_TEXT_CHARACTERS, "a text that is too long")
        _check_finite((text.score,), "a score")
        _check_probability(text.probability)


def _check_probability(probability: float) -> None:
    require(0 <= probability <= 1, f"a probability of {probability}")


def _check_finite(values: Iterable[float], name: str) -> None:
    require(all(map(math.isfinite, values)), f"{name} is not finite")
