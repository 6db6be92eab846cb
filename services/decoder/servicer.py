"""DecoderService: messages to values, the computation, values to messages."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from services.decoder import ranking, requests
from services.decoder.ranking import Match, Texts
from services.decoder.requests import Chunk, Ranking, Rows
from services.decoder.scenes import SceneState
from services.decoder.text_bank_store import TextBankStore
from services.decoder.vectors import pool
from videoanalysis import tensors
from videoanalysis.metrics import RUNNING
from videoanalysis.text_bank.format import TextBank
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

# Scores (rows times texts) that cost two milliseconds at most; more are computed in a thread, off the event loop.
_INLINE_SCORES = 2_000
# So many of a chunk's texts are told to whoever keeps account of each text's best chunk; the contract says so.
_LEADING_TAGS, _LEADING_CAPTIONS = 112, 48

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the rows of a request are compared with; `bank` is None where labels stand alone, without descriptions."""

    tags: Texts
    descriptions: Texts
    bank: TextBank | None


class DecoderServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """`threads` rank against large banks."""

    def __init__(self, shelf: TextBankStore, threads: Executor) -> None:
        self._shelf = shelf
        self._threads = threads

    async def DecodeChunk(
        self, request: decoder_pb2.DecodeChunkRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.DecodeChunkResponse:
        chunk = requests.read_chunk(request)
        candidates = self._candidates(chunk.ranking, chunk.frames)
        return await self._run(
            len(candidates.tags) + len(candidates.descriptions),
            lambda: _decode(chunk, request.chunk_index, candidates),
        )

    async def RankTexts(
        self, request: decoder_pb2.RankTextsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankTextsResponse:
        asked = requests.read_rows(request)
        candidates = self._candidates(asked.ranking, asked.rows)
        return await self._run(
            len(asked.rows) * (len(candidates.tags) + len(candidates.descriptions)),
            lambda: _rank(asked, candidates),
        )

    async def ListTextBanks(
        self, request: decoder_pb2.ListTextBanksRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListTextBanksResponse:
        return decoder_pb2.ListTextBanksResponse(text_banks=[_bank_info(bank) for bank in self._shelf.banks()])

    def _candidates(self, spec: Ranking, rows: NDArray[np.float32]) -> Candidates:
        if spec.labels is not None and not self._shelf.has_location:
            nothing = Texts((), np.empty((0, rows.shape[1]), np.float32))
            return Candidates(spec.labels, nothing, None)
        bank = self._shelf.lookup(spec.text_bank, spec.model_digest, spec.text_bank_digest)
        requests.check_dimensions(rows, bank.embedding_dim)
        return Candidates(
            tags=spec.labels or Texts(bank.tags, bank.tag_embeddings),
            descriptions=Texts(bank.descriptions, bank.description_embeddings),
            bank=bank,
        )

    async def _run(self, scores: int, compute: Callable[[], _Answer]) -> _Answer:
        with RUNNING.labels("decoder").track_inprogress():
            if scores <= _INLINE_SCORES:
                return compute()
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)


def _decode(chunk: Chunk, chunk_index: int, candidates: Candidates) -> decoder_pb2.DecodeChunkResponse:
    started = time.perf_counter_ns()
    response = decoder_pb2.DecodeChunkResponse()
    for index, (frame, seconds) in enumerate(zip(chunk.frames, chunk.times_seconds, strict=True)):
        seen = chunk.detector.process_frame(frame, seconds)
        response.scene_scores.append(seen.score)
        if seen.is_event:
            response.scene_changes.add(
                timestamp_seconds=seconds,
                previous_timestamp_seconds=seen.previous_seconds,
                score=seen.score,
                chunk_index=chunk_index,
                frame_index=index,
            )
    if chunk.detector.state is not None:
        response.ema_state.CopyFrom(_state(chunk.detector.state))
    pooled = pool(chunk.frames)
    response.pooled_embedding.CopyFrom(tensors.to_proto(pooled))
    spec, row = chunk.ranking, pooled[np.newaxis]
    (tags,) = ranking.rank(row, candidates.tags, max(spec.top_k, _LEADING_TAGS), spec.calibration)
    (captions,) = ranking.rank(row, candidates.descriptions, _LEADING_CAPTIONS, spec.calibration)
    response.tags.extend(_tag(match) for match in tags[: spec.top_k] if match.probability >= spec.min_probability)
    if captions:
        response.caption.CopyFrom(_caption(captions[0]))
    response.leading_tags.CopyFrom(_leading(tags[:_LEADING_TAGS]))
    response.leading_captions.CopyFrom(_leading(captions))
    if candidates.bank is not None:
        response.text_bank.CopyFrom(_bank_info(candidates.bank))
    response.compute.FromNanoseconds(time.perf_counter_ns() - started)
    return response


def _rank(asked: Rows, candidates: Candidates) -> decoder_pb2.RankTextsResponse:
    spec = asked.ranking
    tags = ranking.rank(asked.rows, candidates.tags, spec.top_k, spec.calibration, spec.min_probability)
    captions = ranking.rank(asked.rows, candidates.descriptions, 1, spec.calibration)
    return decoder_pb2.RankTextsResponse(
        rankings=map(_ranking, tags, captions),
        text_bank=None if candidates.bank is None else _bank_info(candidates.bank),
    )


def _ranking(tags: list[Match], captions: list[Match]) -> decoder_pb2.TextRanking:
    """Of one row; `captions` holds one, or none without a bank."""
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
