"""The limits keep every message between the services below gRPC's own, whatever a request asks for."""

import numpy as np
import pytest
from google.protobuf.message import Message

from services.ingress.answer.size import LargestSizes
from services.ingress.job import read_request
from services.ingress.video_run import chunk_key
from videoanalysis import tensors
from videoanalysis.limits import (
    MAX_EMBEDDING_DIM,
    MAX_FRAMES_PER_CHUNK,
    MAX_LABELS,
    MAX_MESSAGE_BYTES,
    MAX_RANKED_ROWS,
    MAX_TEXT_BANKS,
    MAX_TEXT_CHARACTERS,
    MAX_TOP_K,
)
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.v1 import analysis_pb2, decoder_pb2, encoder_pb2

# No UTF-8 character is longer; no double or 32-bit integer has a longer encoding.
LONGEST_TEXT = "\U0001f600" * MAX_TEXT_CHARACTERS
NUMBER, INTEGER = 0.1, 2**32 - 1
DIGEST = "x" * 800


def vectors(*shape: int):
    return tensors.to_proto(np.zeros((*shape, MAX_EMBEDDING_DIM), np.float32))


def text_bank(name: str = "x" * 100) -> decoder_pb2.TextBankInfo:
    return decoder_pb2.TextBankInfo(
        name=name,
        digest="x" * 71,
        model_digest=DIGEST,
        template="\U0001f600" * 200,
        created_at="x" * 20,
        tags=INTEGER,
        descriptions=INTEGER,
        longest_text_bytes=INTEGER,
    )


def probabilities(texts: int) -> decoder_pb2.TextProbabilities:
    return decoder_pb2.TextProbabilities(
        positions=[INTEGER] * texts, probabilities=[NUMBER] * texts, max_of_others=NUMBER
    )


RANKING = decoder_pb2.RankingSpec(
    text_bank="x" * 100,
    model_digest=DIGEST,
    labels=decoder_pb2.LabelSet(texts=[LONGEST_TEXT] * MAX_LABELS, embeddings=vectors(MAX_LABELS)),
    top_k_tags=MAX_TOP_K,
    min_probability=NUMBER,
    logit_scale=NUMBER,
    logit_bias=NUMBER,
    text_bank_digest="x" * 71,
)
STATE = decoder_pb2.SceneState(ema=vectors(), last_event_seconds=NUMBER, last_frame_seconds=NUMBER)
TAG = decoder_pb2.TagScore(text=LONGEST_TEXT, score=NUMBER, probability=NUMBER)
CAPTION = decoder_pb2.CaptionScore(text=LONGEST_TEXT, score=NUMBER, probability=NUMBER)
CHANGE = decoder_pb2.SceneChange(
    timestamp_seconds=NUMBER, previous_timestamp_seconds=NUMBER, score=NUMBER, chunk_index=INTEGER, frame_index=INTEGER
)

LARGEST = [
    encoder_pb2.EncodeTextsRequest(texts=[LONGEST_TEXT] * MAX_LABELS, model_digest=DIGEST),
    encoder_pb2.EncodeTextsResponse(embeddings=vectors(MAX_LABELS), model_digest=DIGEST),
    encoder_pb2.EncodeChunkResponse(
        result=encoder_pb2.ChunkEmbeddings(embeddings=vectors(MAX_FRAMES_PER_CHUNK), model_digest=DIGEST)
    ),
    decoder_pb2.DecodeChunkRequest(
        embeddings=vectors(MAX_FRAMES_PER_CHUNK),
        frame_times_seconds=[NUMBER] * MAX_FRAMES_PER_CHUNK,
        chunk_index=INTEGER,
        ranking=RANKING,
        scene=decoder_pb2.SceneSpec(detection=2, threshold=NUMBER, ema_alpha=NUMBER),
        ema_state=STATE,
    ),
    decoder_pb2.DecodeChunkResponse(
        tags=[TAG] * MAX_TOP_K,
        caption=CAPTION,
        scene_changes=[CHANGE] * MAX_FRAMES_PER_CHUNK,
        scene_scores=[NUMBER] * MAX_FRAMES_PER_CHUNK,
        ema_state=STATE,
        pooled_embedding=vectors(),
        text_bank=text_bank(),
    ),
    decoder_pb2.RankTextsRequest(embeddings=vectors(MAX_RANKED_ROWS), ranking=RANKING),
    decoder_pb2.RankVideoRequest(
        embedding=vectors(), ranking=RANKING, tags=probabilities(LEADING_TAGS), captions=probabilities(LEADING_CAPTIONS)
    ),
    decoder_pb2.RankVideoResponse(
        tags=[TAG] * MAX_TOP_K, tag_positions=[INTEGER] * MAX_TOP_K, caption=CAPTION, caption_position=INTEGER
    ),
    decoder_pb2.ListTextBanksResponse(
        text_banks=[text_bank()] * MAX_TEXT_BANKS, expected_names=["x" * 100] * 100, has_location=True, is_complete=True
    ),
]


@pytest.mark.parametrize("message", LARGEST, ids=lambda message: type(message).__name__)
def test_the_largest_message_between_the_services_is_below_the_limit_of_grpc(message: Message):
    assert message.ByteSize() < MAX_MESSAGE_BYTES


@pytest.mark.parametrize("top_k", [1, 50, MAX_TOP_K])
def test_the_largest_ranking_is_within_the_bound_that_is_checked_before_a_video_starts(top_k):
    asked = analysis_pb2.AnalyzeVideoRequest(
        labels=[f"{index:03}" + "\U0001f600" * (MAX_TEXT_CHARACTERS - 3) for index in range(MAX_LABELS)],
        top_k_tags=top_k,
        frames_per_chunk=MAX_FRAMES_PER_CHUNK,
        scene_detection=decoder_pb2.SCENE_DETECTION_EVERY_FRAME,
    )
    row = decoder_pb2.TextRanking(
        tags=[decoder_pb2.TagScore(text=text, score=NUMBER, probability=NUMBER) for text in asked.labels[:top_k]],
        caption=CAPTION,
        leading_tags=probabilities(LEADING_TAGS),
        leading_captions=probabilities(LEADING_CAPTIONS),
    )
    ranked = decoder_pb2.RankTextsResponse(rankings=[row] * MAX_RANKED_ROWS, text_bank=text_bank())
    bank = decoder_pb2.TextBankInfo(longest_text_bytes=len(LONGEST_TEXT.encode()))
    model = encoder_pb2.ModelInfo(embedding_dim=MAX_EMBEDDING_DIM)
    assert ranked.ByteSize() <= LargestSizes(read_request(asked), model, bank).ranking()


def test_the_key_of_a_chunk_keeps_within_what_encoders_accept():
    assert chunk_key("camera", 3) == "camera/3"
    assert len(chunk_key("x" * 200, 2**32 - 1)) == 200
    assert chunk_key("x" * 200, 12).endswith("x/12")
