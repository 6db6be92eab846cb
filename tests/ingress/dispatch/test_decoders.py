"""Answers of decoders that are malformed, final or do not come: real servers, of which one is sick."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import nan

import grpc
import numpy as np
import pytest

from services.decoder.servicer import DecoderServicer
from services.decoder.text_bank_store import TextBankStore
from services.ingress.admission import Deadline, Demand
from services.ingress.dispatch import Decoders, Replicas, Static
from tests.system import decoder, replica
from videoanalysis import tensors
from videoanalysis.errors import Unavailable
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkRequest,
    DecodeChunkResponse,
    LabelSet,
    ListTextBanksRequest,
    ListTextBanksResponse,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
    TextBankInfo,
    TextProbabilities,
)
from videoanalysis.v1.decoder_pb2_grpc import add_DecoderServiceServicer_to_server
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FRAMES, DIMENSIONS = 3, 4
NAN_ROW = np.full(DIMENSIONS, nan, np.float32)


def soon() -> Deadline:
    return Deadline.after(30)


def unit(rows: int) -> np.ndarray:
    return np.eye(DIMENSIONS, dtype=np.float32)[:rows]


RANKING = RankingSpec(
    model_digest="m",
    logit_scale=10,
    top_k_tags=2,
    labels=LabelSet(texts=["a", "b"], embeddings=tensors.to_proto(unit(2))),
)
DECODE = DecodeChunkRequest(embeddings=tensors.to_proto(unit(FRAMES)), frame_times_seconds=[0, 1, 2], ranking=RANKING)
RANK = RankTextsRequest(embeddings=tensors.to_proto(unit(2)), ranking=RANKING)


RANK_VIDEO = RankVideoRequest(
    embedding=tensors.to_proto(unit(1)[0]),
    ranking=RANKING,
    tags=TextProbabilities(positions=[1], probabilities=[0.5]),
)

Answer = DecodeChunkResponse | RankTextsResponse | RankVideoResponse


class Sick(DecoderServicer):
    """Answers as a healthy one does, and then spoils the answer."""

    def __init__(self, spoil: Callable[[Answer], None]) -> None:
        super().__init__(TextBankStore(None, 1), None)
        self._spoil = spoil
        self.calls = 0

    async def _spoiled(self, answering: Awaitable[Answer]):
        self.calls += 1
        answer = await answering
        self._spoil(answer)
        return answer

    async def DecodeChunk(self, request, context):
        return await self._spoiled(super().DecodeChunk(request, context))

    async def RankTexts(self, request, context):
        return await self._spoiled(super().RankTexts(request, context))

    async def RankVideo(self, request, context):
        return await self._spoiled(super().RankVideo(request, context))


@asynccontextmanager
async def with_sick(sick: DecoderServicer) -> AsyncIterator[Decoders]:
    """A decoder of each kind, neither of which is to have banks."""
    server = grpc.aio.server()
    add_DecoderServiceServicer_to_server(sick, server)
    async with replica(server) as bad, decoder(TextBankStore(None, 1, ["default"])) as good:
        pool = Replicas("decoder", Static([bad.address, good.address]), attempt_seconds=10, wait_seconds=5)
        async with pool:
            yield Decoders(pool, Demand())


SPOILT_CHUNKS = {
    "a NaN in the average": lambda answer: answer.ema_state.ema.CopyFrom(tensors.to_proto(NAN_ROW)),
    "an average of another dimension": lambda answer: answer.ema_state.ema.CopyFrom(tensors.to_proto(unit(4)[0][:3])),
    "an average that is not of unit length": lambda answer: answer.ema_state.ema.CopyFrom(
        tensors.to_proto(2 * unit(4)[0])
    ),
    "bytes that do not fill the shape": lambda answer: setattr(answer.pooled_embedding, "data", b"xyz"),
    "no pooled embedding": lambda answer: answer.ClearField("pooled_embedding"),
    "no state": lambda answer: answer.ClearField("ema_state"),
    "a score too few": lambda answer: answer.scene_scores.pop(),
    "a NaN score": lambda answer: answer.scene_scores.__setitem__(0, nan),
    "a change behind the last frame": lambda answer: answer.scene_changes.add(frame_index=FRAMES),
    "a change at the time of another frame": lambda answer: setattr(answer.scene_changes[0], "timestamp_seconds", 2.0),
    "a change in another chunk": lambda answer: setattr(answer.scene_changes[0], "chunk_index", 7),
    "the state of a later chunk": lambda answer: setattr(answer.ema_state, "last_frame_seconds", 12.0),
    "a last change in another chunk": lambda answer: setattr(answer.ema_state, "last_event_seconds", 1.5),
    "a tag too many": lambda answer: answer.tags.add(text="c"),
    "a text that no bank may have": lambda answer: setattr(answer.tags[0], "text", "x" * 201),
    "a message over the limit of gRPC": lambda answer: setattr(answer.tags[0], "text", "x" * (5 << 20)),
    "a NaN tag": lambda answer: setattr(answer.tags[0], "score", nan),
    "a probability over 1": lambda answer: setattr(answer.tags[0], "probability", 1.5),
}
SPOILT_RANKINGS = {
    "a ranking too few": lambda answer: answer.rankings.pop(),
    "a leading text without a probability": lambda answer: answer.rankings[0].leading_tags.probabilities.pop(),
    "a leading probability of NaN": lambda answer: answer.rankings[0].leading_tags.probabilities.__setitem__(0, nan),
    "another probability over 1": lambda answer: setattr(answer.rankings[0].leading_tags, "max_of_others", 1.5),
    "an infinite score": lambda answer: setattr(answer.rankings[1].tags[0], "score", float("inf")),
    "a tag too many": lambda answer: answer.rankings[0].tags.add(text="c"),
    "a leading text twice": lambda answer: answer.rankings[0].leading_tags.positions.__setitem__(1, 0),
    "a leading text that is none of the labels": lambda answer: answer.rankings[0].leading_tags.positions.__setitem__(
        0, 2
    ),
}


@pytest.mark.parametrize("spoil", SPOILT_CHUNKS.values(), ids=SPOILT_CHUNKS.keys())
async def test_a_malformed_chunk_is_decoded_by_another_and_the_sick_one_is_avoided(spoil):
    sick = Sick(spoil)
    async with with_sick(sick) as decoders:
        while not sick.calls:
            answer = await decoders.decode(DECODE, soon())
            assert len(answer.scene_scores) == FRAMES
        for _ in range(10):
            await decoders.decode(DECODE, soon())
        assert sick.calls == 1


async def test_a_bank_with_longer_texts_than_any_may_have_is_listed_by_another():
    class SickLibrarian(Sick):
        async def ListTextBanks(self, request, context):
            self.calls += 1
            return ListTextBanksResponse(text_banks=[TextBankInfo(name="default", longest_text_bytes=10**9)])

    sick = SickLibrarian(lambda _: None)
    async with with_sick(sick) as decoders:
        while not sick.calls:
            assert await decoders.text_banks(soon()) == []


@pytest.mark.parametrize("spoil", SPOILT_RANKINGS.values(), ids=SPOILT_RANKINGS.keys())
async def test_a_malformed_ranking_is_made_by_another(spoil):
    sick = Sick(spoil)
    async with with_sick(sick) as decoders:
        while not sick.calls:
            assert len((await decoders.rank(RANK, soon())).rankings) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer.tag_positions.pop(),
        lambda answer: setattr(answer.tags[0], "probability", nan),
        lambda answer: answer.caption.MergeFrom(CaptionScore(score=nan)),
    ],
)
async def test_a_malformed_ranking_of_a_video_is_made_by_another(spoil):
    sick = Sick(spoil)
    async with with_sick(sick) as decoders:
        while not sick.calls:
            answer = await decoders.rank_video(RANK_VIDEO, soon())
            assert [(tag.text, tag.probability) for tag in answer.tags] == [("b", 0.5), ("a", 0)]


class Frozen(DecoderServicer):
    """Accepts calls and never answers."""

    def __init__(self) -> None:
        super().__init__(TextBankStore(None, 1), None)
        self.calls = 0

    async def ListTextBanks(self, request: ListTextBanksRequest, context) -> ListTextBanksResponse:
        self.calls += 1
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "as the caller of a frozen one sees it")


async def test_that_there_is_to_be_no_bank_is_an_answer_at_once_where_labels_suffice():
    async with with_sick(Frozen()) as decoders:
        for _ in range(20):
            assert (await decoders.text_bank("default", "m", soon(), labels_suffice=True)).digest == ""


async def test_that_a_bank_is_missing_is_final_though_another_decoder_is_frozen():
    frozen = Frozen()
    async with with_sick(frozen) as decoders:
        started = time.monotonic()
        for _ in range(10):
            with pytest.raises(Unavailable) as caught:
                await decoders.text_bank("default", "m", soon())
            assert caught.value.reason == ErrorReason.BANK_NOT_READY
        # Without it, each call would look for another decoder for the 5 s of `wait_seconds`.
        assert time.monotonic() - started < 5
        assert 1 <= frozen.calls <= 3
