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
from services.decoder.validation import Chunk, RankingOptions, RankingRequest
from videoanalysis import tensors
from videoanalysis.embeddings import pool
from videoanalysis.metrics import RUNNING
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.text_bank.format import TextBank
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

# Scores (rows times texts) that take two milliseconds at most; more are computed in a thread, off the event loop.
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
            tags=options.labels or Texts(bank.tags, bank.tag_embeddings),
            descriptions=Texts(bank.descriptions, bank.description_embeddings),
            bank=bank,
        )

    async def _run(self, scores: int, compute: Callable[[], _Response]) -> _Response:
        with RUNNING.labels("decoder").track_inprogress():
            if scores <= _MAX_INLINE_SCORES:
                return compute()
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)


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
    (tags,) = ranking.rank(row, candidates.tags, max(options.top_k, LEADING_TAGS), options.calibration)
    (captions,) = ranking.rank(row, candidates.descriptions, LEADING_CAPTIONS, options.calibration)
    response.tags.extend(_tag(match) for match in tags[: options.top_k] if match.probability >= options.min_probability)
    if captions:
        response.caption.CopyFrom(_caption(captions[0]))
    response.leading_tags.CopyFrom(_leading(tags[:LEADING_TAGS]))
    response.leading_captions.CopyFrom(_leading(captions))
    if candidates.bank is not None:
        response.text_bank.CopyFrom(_bank_info(candidates.bank))
    response.compute.FromNanoseconds(time.perf_counter_ns() - started)
    return response


def _rank(request: RankingRequest, candidates: Candidates) -> decoder_pb2.RankTextsResponse:
    options = request.ranking
    tags = ranking.rank(request.rows, candidates.tags, options.top_k, options.calibration, options.min_probability)
    captions = ranking.rank(request.rows, candidates.descriptions, 1, options.calibration)
    return decoder_pb2.RankTextsResponse(
        rankings=map(_ranking, tags, captions),
        text_bank=None if candidates.bank is None else _bank_info(candidates.bank),
    )


def _ranking(tags: list[Match], captions: list[Match]) -> decoder_pb2.TextRanking:
    """The ranking of one row; `captions` has one element, or none without a bank."""
    row = decoder_pb2.TextRanking(tags=map(_tag, tags), tag_positions=[match.position for match in tags])
    for match in captions:
        row.caption.CopyFrom(_caption(match))
        row.caption_position = match.position
    return row


def _tag(match: Match) -> decoder_pb2.TagScore:
    return decoder_pb2.TagScore(text=match.text, score=match.score, probability=match.probability)


def _caption(match: Match) -> decoder_pb2.CaptionScore:
    return decoder_pb2.CaptionScore(text=match.text, score=match.score, probability=match.probability)


def _leading(matches: list[Match]) -> decoder_pb2.LeadingTexts:
    return decoder_pb2.LeadingTexts(
        positions=[match.position for match in matches], scores=[match.score for match in matches]
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
