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
from services.decoder.requests import Chunk, Ranking, Rows, Selection
from services.decoder.scenes import SceneState
from services.decoder.shelf import Shelf
from services.decoder.vectors import pool
from videoanalysis import tensors
from videoanalysis.metrics import RUNNING
from videoanalysis.textbank import TextBank
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

# Scores (rows times texts) that cost two milliseconds at most; more are computed in a thread, off the event loop.
_INLINE_SCORES = 2_000

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the rows of a request are compared with; `bank` is None where labels stand alone, without descriptions."""

    tags: Texts
    descriptions: Texts
    bank: TextBank | None


class DecoderServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """`threads` rank against large banks."""

    def __init__(self, shelf: Shelf, threads: Executor) -> None:
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
        bank = self._shelf.lookup(spec.text_bank, spec.model_digest)
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
    best = _best(pooled[np.newaxis], chunk.ranking, candidates)[0]
    response.tags.extend(best.tags)
    if best.captions:
        response.caption.CopyFrom(best.captions[0])
    if candidates.bank is not None:
        response.text_bank.CopyFrom(_bank_info(candidates.bank))
    response.compute.FromNanoseconds(time.perf_counter_ns() - started)
    return response


def _rank(asked: Rows, candidates: Candidates) -> decoder_pb2.RankTextsResponse:
    rankings = (
        _best(asked.rows, asked.ranking, candidates)
        if asked.only is None
        else _selected(asked.rows, asked.ranking, candidates, asked.only)
    )
    bank = None if candidates.bank is None else _bank_info(candidates.bank)
    return decoder_pb2.RankTextsResponse(rankings=rankings, text_bank=bank)


def _best(rows: NDArray[np.float32], spec: Ranking, candidates: Candidates) -> list[decoder_pb2.TextRanking]:
    return _rankings(
        ranking.rank(rows, candidates.tags, spec.top_k, spec.calibration, spec.min_probability),
        ranking.rank(rows, candidates.descriptions, 1, spec.calibration),
    )


def _selected(
    rows: NDArray[np.float32], spec: Ranking, candidates: Candidates, only: Selection
) -> list[decoder_pb2.TextRanking]:
    tags = requests.positions(only.tags, candidates.tags, "only.tags")
    captions = requests.positions(only.captions, candidates.descriptions, "only.captions")
    return _rankings(
        ranking.score(rows, candidates.tags, tags, spec.calibration),
        ranking.score(rows, candidates.descriptions, captions, spec.calibration),
    )


def _rankings(tags: list[list[Match]], captions: list[list[Match]]) -> list[decoder_pb2.TextRanking]:
    """One message for each row."""
    return [
        decoder_pb2.TextRanking(
            tags=[decoder_pb2.TagScore(text=m.text, score=m.score, probability=m.probability) for m in row_tags],
            captions=[
                decoder_pb2.CaptionScore(text=m.text, score=m.score, probability=m.probability) for m in row_captions
            ],
        )
        for row_tags, row_captions in zip(tags, captions, strict=True)
    ]


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
