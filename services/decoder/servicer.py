"""DecoderService: converts messages to values, runs the computation and converts the result to messages."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from services.decoder import ranking, validation
from services.decoder.ranking import Match, Texts
from services.decoder.scenes import SceneState
from services.decoder.text_bank_store import TextBankStore
from services.decoder.validation import Chunk, RankingOptions, RankingRequest, VideoRequest
from videoanalysis import call_log, tensors
from videoanalysis.embeddings import pool
from videoanalysis.metrics import RUNNING
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.text_bank.format import TextBank
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

# As many scores (rows times texts) take at most two milliseconds; more are computed in a thread, off the event loop.
_MAX_INLINE_SCORES = 2_000

_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Candidates:
    """The texts that a request is ranked against; `bank` is None for labels without a bank, which have no captions."""

    tags: Texts
    descriptions: Texts
    bank: TextBank | None


class DecoderServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """`threads` run rankings against large banks."""

    def __init__(self, text_banks: TextBankStore, threads: Executor) -> None:
        self._text_banks = text_banks
        self._threads = threads

    async def DecodeChunk(
        self, request: decoder_pb2.DecodeChunkRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.DecodeChunkResponse:
        chunk = validation.read_chunk(request)
        candidates = self._candidates(chunk.ranking, chunk.frames)
        return await self._run(
            len(candidates.tags) + len(candidates.descriptions),
            lambda: _decode(chunk, request.chunk_index, candidates),
        )

    async def RankTexts(
        self, request: decoder_pb2.RankTextsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankTextsResponse:
        ranking_request = validation.read_ranking_request(request)
        candidates = self._candidates(ranking_request.ranking, ranking_request.rows)
        return await self._run(
            len(ranking_request.rows) * (len(candidates.tags) + len(candidates.descriptions)),
            lambda: _rank(ranking_request, candidates),
        )

    async def RankVideo(
        self, request: decoder_pb2.RankVideoRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankVideoResponse:
        video = validation.read_video_request(request)
        candidates = self._candidates(video.ranking, video.rows)
        validation.check_positions(video, len(candidates.tags), len(candidates.descriptions))
        return await self._run(
            len(candidates.tags) + len(candidates.descriptions), lambda: _rank_video(video, candidates)
        )

    async def ListTextBanks(
        self, request: decoder_pb2.ListTextBanksRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListTextBanksResponse:
        return decoder_pb2.ListTextBanksResponse(
            text_banks=[_bank_info(bank) for bank in self._text_banks.banks()],
            has_location=self._text_banks.has_location,
            expected_names=self._text_banks.expected,
            is_complete=self._text_banks.is_complete,
        )

    def _candidates(self, options: RankingOptions, rows: NDArray[np.float32]) -> Candidates:
        if options.labels is not None and not self._text_banks.has_location:
            no_descriptions = Texts((), np.empty((0, rows.shape[1]), np.float32))
            return Candidates(options.labels, no_descriptions, None)
        bank = self._text_banks.lookup(options.text_bank, options.model_digest, options.text_bank_digest)
        validation.check_dimensions(rows, bank.embedding_dim)
        return Candidates(
            tags=options.labels or Texts(bank.tags, bank.tag_embeddings, bank.tag_min_probabilities),
            descriptions=Texts(bank.descriptions, bank.description_embeddings, bank.description_min_probabilities),
            bank=bank,
        )

    async def _run(self, scores: int, compute: Callable[[], _Response]) -> _Response:
        called = time.perf_counter()

        def timed() -> tuple[_Response, float]:
            started = time.perf_counter()
            return compute(), time.perf_counter() - started

        with RUNNING.labels("decoder").track_inprogress():
            if scores <= _MAX_INLINE_SCORES:
                response, seconds = timed()
            else:
                response, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, timed)
        call_log.stages(queue=time.perf_counter() - called - seconds, compute=seconds)
        return response


def _decode(chunk: Chunk, chunk_index: int, candidates: Candidates) -> decoder_pb2.DecodeChunkResponse:
    started = time.perf_counter_ns()
    response = decoder_pb2.DecodeChunkResponse()
    for index, (frame, seconds) in enumerate(zip(chunk.frames, chunk.times_seconds, strict=True)):
        result = chunk.detector.process_frame(frame, seconds)
        response.scene_scores.append(result.score)
        if result.is_event:
            response.scene_changes.add(
                timestamp_seconds=seconds,
                previous_timestamp_seconds=result.previous_seconds,
                score=result.score,
                chunk_index=chunk_index,
                frame_index=index,
            )
    if chunk.detector.state is not None:
        response.ema_state.CopyFrom(_state(chunk.detector.state))
    pooled = pool(chunk.frames)
    response.pooled_embedding.CopyFrom(tensors.to_proto(pooled))
    options, row = chunk.ranking, pooled[np.newaxis]
    (tags,) = ranking.rank(row, candidates.tags, _count(options), options.calibration)
    (captions,) = ranking.rank(row, candidates.descriptions, LEADING_CAPTIONS + 1, options.calibration)
    response.tags.extend(map(_tag, _likely_tags(tags, candidates, options)))
    for match in _likely_captions(captions, candidates, options):
        response.caption.CopyFrom(_caption(match))
    if candidates.bank is not None:
        response.text_bank.CopyFrom(_bank_info(candidates.bank))
    response.compute.FromNanoseconds(time.perf_counter_ns() - started)
    return response


def _rank(request: RankingRequest, candidates: Candidates) -> decoder_pb2.RankTextsResponse:
    options = request.ranking
    tags = ranking.rank(request.rows, candidates.tags, _count(options), options.calibration)
    captions = ranking.rank(request.rows, candidates.descriptions, LEADING_CAPTIONS + 1, options.calibration)
    response = decoder_pb2.RankTextsResponse(text_bank=None if candidates.bank is None else _bank_info(candidates.bank))
    for row_tags, row_captions in zip(tags, captions, strict=True):
        row = response.rankings.add(
            tags=map(_tag, _likely_tags(row_tags, candidates, options)),
            leading_tags=_leading(row_tags, LEADING_TAGS),
            leading_captions=_leading(row_captions, LEADING_CAPTIONS),
        )
        for match in _likely_captions(row_captions, candidates, options):
            row.caption.CopyFrom(_caption(match))
    return response


def _rank_video(video: VideoRequest, candidates: Candidates) -> decoder_pb2.RankVideoResponse:
    options, (row,) = video.ranking, video.rows
    tags = ranking.rank_by_probability(row, candidates.tags, _count(options), video.tags)
    captions = ranking.rank_by_probability(row, candidates.descriptions, LEADING_CAPTIONS + 1, video.captions)
    response = decoder_pb2.RankVideoResponse()
    for match in _likely_tags(tags, candidates, options):
        response.tags.append(_tag(match))
        response.tag_positions.append(match.position)
    for match in _likely_captions(captions, candidates, options):
        response.caption.CopyFrom(_caption(match))
        response.caption_position = match.position
    return response


def _count(options: RankingOptions) -> int:
    """Number of tags to rank: enough for top_k_tags and for the leading tags that every ranking reports."""
    return max(options.top_k, LEADING_TAGS + 1)


def _likely_tags(matches: list[Match], candidates: Candidates, options: RankingOptions) -> list[Match]:
    return ranking.likely(matches, candidates.tags, options.min_probability)[: options.top_k]


def _likely_captions(matches: list[Match], candidates: Candidates, options: RankingOptions) -> list[Match]:
    """One, or none."""
    return ranking.likely(matches, candidates.descriptions, options.min_probability)[:1]


def _tag(match: Match) -> decoder_pb2.TagScore:
    return decoder_pb2.TagScore(text=match.text, score=match.score, probability=match.probability)


def _caption(match: Match) -> decoder_pb2.CaptionScore:
    return decoder_pb2.CaptionScore(text=match.text, score=match.score, probability=match.probability)


def _leading(matches: list[Match], count: int) -> decoder_pb2.TextProbabilities:
    """The first `count` of `matches`; the next one, if any, is the maximum of the others."""
    return decoder_pb2.TextProbabilities(
        positions=[match.position for match in matches[:count]],
        probabilities=[match.probability for match in matches[:count]],
        max_of_others=matches[count].probability if len(matches) > count else 0.0,
    )


def _state(state: SceneState) -> decoder_pb2.SceneState:
    return decoder_pb2.SceneState(
        ema=tensors.to_proto(state.ema),
        last_event_seconds=state.last_event_seconds,
        last_frame_seconds=state.last_frame_seconds,
    )


def _bank_info(bank: TextBank) -> decoder_pb2.TextBankInfo:
    return decoder_pb2.TextBankInfo(
        name=bank.name,
        digest=bank.digest,
        model_digest=bank.model_digest,
        template=bank.template,
        created_at=bank.created_at,
        tags=len(bank.tags),
        descriptions=len(bank.descriptions),
        longest_text_bytes=bank.longest_text_bytes,
    )
