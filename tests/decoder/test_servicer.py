"""The servicer through a real server: statuses, reasons and fields as a caller sees them."""

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from services.decoder.servicer import DecoderServicer
from services.decoder.text_bank_location import Directory
from services.decoder.text_bank_store import TextBankStore
from tests.decoder.samples import MODEL, OTHER_MODEL, make_bank, unit_rows
from videoanalysis import tensors
from videoanalysis.calls import CallInterceptor
from videoanalysis.channels import connect
from videoanalysis.embeddings import pool
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, Unavailable
from videoanalysis.status import from_rpc_error
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc
from videoanalysis.v1.decoder_pb2 import DecodeChunkRequest, LabelSet, RankingSpec, RankTextsRequest
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FRAMES = unit_rows(16, seed=40)
NAN = math.nan


@pytest.fixture
async def store(tmp_path):
    (tmp_path / "default.safetensors").write_bytes(make_bank().to_bytes())
    store = TextBankStore(Directory(tmp_path), 1 << 28)
    await store.refresh()
    return store


@pytest.fixture
async def stub(store):
    async for stub in serve(store):
        yield stub


async def serve(store: TextBankStore):
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    with ThreadPoolExecutor(1, "ranking") as threads:
        decoder_pb2_grpc.add_DecoderServiceServicer_to_server(DecoderServicer(store, threads), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with connect(f"127.0.0.1:{port}") as channel:
            yield decoder_pb2_grpc.DecoderServiceStub(channel)
        await server.stop(None)


def ranking(**changes: object) -> RankingSpec:
    return RankingSpec(**({"model_digest": MODEL, "logit_scale": 100.0, "logit_bias": -10.0} | changes))


def chunk(frames: np.ndarray = FRAMES, **changes: object) -> DecodeChunkRequest:
    values: dict[str, object] = {
        "embeddings": tensors.to_proto(frames),
        "frame_times_seconds": [i / 1.6 for i in range(len(frames))],
        "ranking": ranking(),
    }
    return DecodeChunkRequest(**(values | changes))


def rows(sent: np.ndarray = FRAMES, **changes: object) -> RankTextsRequest:
    return RankTextsRequest(**({"embeddings": tensors.to_proto(sent), "ranking": ranking()} | changes))


def video(
    mean: np.ndarray,
    tags: Sequence[tuple[int, float]] = (),
    captions: Sequence[tuple[int, float]] = (),
    **changes: object,
) -> decoder_pb2.RankVideoRequest:
    """With positions and probabilities of texts."""

    def known(texts: Sequence[tuple[int, float]]) -> decoder_pb2.TextProbabilities:
        return decoder_pb2.TextProbabilities(
            positions=[position for position, _ in texts], probabilities=[probability for _, probability in texts]
        )

    values = {"embedding": tensors.to_proto(mean), "ranking": ranking(), "tags": known(tags)}
    return decoder_pb2.RankVideoRequest(**(values | {"captions": known(captions)} | changes))


def labels(*texts: str) -> LabelSet:
    return LabelSet(texts=texts, embeddings=tensors.to_proto(unit_rows(len(texts), seed=50)))


async def failure(call) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_chunk_gives_tags_caption_scenes_and_state(stub):
    response = await stub.DecodeChunk(chunk(chunk_index=3))
    bank, pooled = make_bank(), pool(FRAMES)
    np.testing.assert_array_equal(tensors.from_proto(response.pooled_embedding), pooled)
    scores = bank.tag_embeddings.astype(np.float64) @ pooled.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    assert [tag.text for tag in response.tags] == [bank.tags[i] for i in order]
    np.testing.assert_allclose([tag.score for tag in response.tags], scores[order], atol=1e-15)
    np.testing.assert_allclose(
        [tag.probability for tag in response.tags], 1 / (1 + np.exp(10 - 100 * scores[order])), rtol=1e-9
    )
    best = int(np.argmax(bank.description_embeddings @ pooled))
    assert response.caption.text == bank.descriptions[best]
    assert len(response.scene_scores) == 16
    assert response.scene_scores[0] == 0
    assert all(change.chunk_index == 3 for change in response.scene_changes)
    assert response.ema_state.last_frame_seconds == 15 / 1.6
    assert (response.text_bank.name, response.text_bank.digest) == ("default", bank.digest)
    assert (response.text_bank.tags, response.text_bank.descriptions) == (3, 2)
    assert 0 < response.compute.ToNanoseconds() < 5e9


@pytest.mark.parametrize(
    "detection", [decoder_pb2.SCENE_DETECTION_UNSPECIFIED, decoder_pb2.SCENE_DETECTION_EVERY_FRAME]
)
async def test_two_chunks_with_state_are_one_video(stub, detection):
    scene = decoder_pb2.SceneSpec(detection=detection)
    whole = await stub.DecodeChunk(chunk(scene=scene))
    first = await stub.DecodeChunk(chunk(FRAMES[:7], scene=scene))
    times = [i / 1.6 for i in range(7, 16)]
    second = await stub.DecodeChunk(
        chunk(FRAMES[7:], frame_times_seconds=times, chunk_index=1, scene=scene, ema_state=first.ema_state)
    )
    assert [*first.scene_scores, *second.scene_scores] == list(whole.scene_scores)
    assert second.ema_state == whole.ema_state
    in_pieces = [*first.scene_changes, *second.scene_changes]
    assert [change.timestamp_seconds for change in in_pieces] == [c.timestamp_seconds for c in whole.scene_changes]
    assert [change.previous_timestamp_seconds for change in in_pieces] == [
        change.previous_timestamp_seconds for change in whole.scene_changes
    ]
    assert [change.frame_index + 7 * change.chunk_index for change in in_pieces] == [
        change.frame_index for change in whole.scene_changes
    ]


async def test_every_frame_reports_more_than_one_per_cut(stub):
    a, b = np.eye(2, 8, dtype=np.float32)
    frames = np.stack([a] * 4 + [b] * 12)
    every = decoder_pb2.SceneSpec(detection=decoder_pb2.SCENE_DETECTION_EVERY_FRAME)
    once = await stub.DecodeChunk(chunk(frames))
    often = await stub.DecodeChunk(chunk(frames, scene=every))
    assert [change.frame_index for change in once.scene_changes] == [4]
    assert len(often.scene_changes) > 5


async def test_texts_below_the_banks_own_minimum_probabilities_are_left_out_unless_the_request_has_one(tmp_path):
    limited = make_bank(tag_min_probabilities=np.array([0, 0, 1.0]), description_min_probabilities=np.array([1.0, 1.0]))
    (tmp_path / "default.safetensors").write_bytes(limited.to_bytes())
    store = TextBankStore(Directory(tmp_path), 1 << 28)
    await store.refresh()
    sure = ranking(logit_scale=0.001, logit_bias=0.1)
    everything = ranking(logit_scale=0.001, logit_bias=0.1, min_probability=0)
    video_tags, video_captions = [(0, 0.5), (2, 0.9)], [(1, 0.9)]
    async for stub in serve(store):
        for spec, tags, has_caption in [(sure, {"kitchen", "office"}, False), (everything, set(limited.tags), True)]:
            decoded = await stub.DecodeChunk(chunk(ranking=spec))
            (ranked,) = (await stub.RankTexts(rows(FRAMES[:1], ranking=spec))).rankings
            of_video = await stub.RankVideo(video(FRAMES[0], video_tags, video_captions, ranking=spec))
            for answer in (decoded, ranked, of_video):
                assert {tag.text for tag in answer.tags} == tags
                assert answer.HasField("caption") == has_caption
        labelled = ranking(logit_scale=0.001, logit_bias=0.1, labels=labels("dog", "cat"))
        decoded = await stub.DecodeChunk(chunk(ranking=labelled))
        assert {tag.text for tag in decoded.tags} == {"dog", "cat"}
        assert not decoded.HasField("caption")


async def test_labels_replace_the_tags_and_the_caption_stays_the_banks(stub):
    plain = await stub.DecodeChunk(chunk())
    labelled = await stub.DecodeChunk(chunk(ranking=ranking(labels=labels("dog", "cat"))))
    assert {tag.text for tag in labelled.tags} == {"dog", "cat"}
    assert labelled.caption == plain.caption
    assert labelled.text_bank == plain.text_bank


async def test_at_most_top_k_tags_and_none_under_the_least_probability(stub):
    everything = (await stub.DecodeChunk(chunk())).tags
    two = await stub.DecodeChunk(chunk(ranking=ranking(top_k_tags=2)))
    assert list(two.tags) == list(everything[:2])
    likely = await stub.DecodeChunk(chunk(ranking=ranking(min_probability=everything[1].probability)))
    assert list(likely.tags) == list(everything[:2])
    none = await stub.DecodeChunk(chunk(ranking=ranking(min_probability=1.0, logit_bias=-200.0)))
    assert list(none.tags) == []
    assert not none.HasField("caption")


async def test_rank_texts_scores_each_row_as_decode_chunk_scores_its_pooled_embedding(stub):
    decoded = await stub.DecodeChunk(chunk())
    pooled = tensors.from_proto(decoded.pooled_embedding)
    answer = await stub.RankTexts(rows(np.stack([FRAMES[0], pooled, 0.5 * pooled])))
    assert len(answer.rankings) == 3
    assert list(answer.rankings[1].tags) == list(decoded.tags)
    assert answer.rankings[1].caption == decoded.caption
    assert answer.rankings[2].tags[0].score == pytest.approx(decoded.tags[0].score / 2)
    assert answer.text_bank == decoded.text_bank


async def test_a_ranking_has_its_leading_texts_regardless_of_the_request(stub):
    bank = make_bank()
    (ranked,) = (await stub.RankTexts(rows(FRAMES[:1], ranking=ranking(top_k_tags=1, min_probability=1.0)))).rankings
    assert list(ranked.tags) == []
    assert not ranked.HasField("caption")
    for leading, embeddings in [
        (ranked.leading_tags, bank.tag_embeddings),
        (ranked.leading_captions, bank.description_embeddings),
    ]:
        scores = embeddings.astype(np.float64) @ FRAMES[0].astype(np.float64)
        assert list(leading.positions) == list(np.argsort(-scores, kind="stable"))
        assert list(leading.probabilities) == pytest.approx(np.sort(1 / (1 + np.exp(10 - 100 * scores)))[::-1])
        assert leading.max_of_others == 0


async def test_no_more_than_so_many_texts_lead_and_the_next_one_bounds_the_others(stub):
    many = labels(*(f"label {number}" for number in range(256)))
    (ranked,) = (await stub.RankTexts(rows(FRAMES[:1], ranking=ranking(labels=many, top_k_tags=100)))).rankings
    assert len(ranked.tags) == 100
    leading = ranked.leading_tags
    assert len(leading.positions) == len(leading.probabilities) == 64
    assert [f"label {position}" for position in leading.positions] == [tag.text for tag in ranked.tags[:64]]
    assert leading.max_of_others == ranked.tags[64].probability


async def test_a_video_is_ranked_by_given_probabilities_and_then_by_score(stub):
    bank = make_bank()
    mean = 0.5 * FRAMES[0]
    scores = bank.tag_embeddings.astype(np.float64) @ mean.astype(np.float64)
    worst = int(np.argmin(scores))
    answer = await stub.RankVideo(video(mean, tags=[(worst, 0.25)], captions=[(1, 0.5)]))
    others = [int(position) for position in np.argsort(-scores) if position != worst]
    assert list(answer.tag_positions) == [worst, *others]
    assert [tag.text for tag in answer.tags] == [bank.tags[position] for position in answer.tag_positions]
    assert [tag.probability for tag in answer.tags] == [0.25, 0, 0]
    assert [tag.score for tag in answer.tags] == pytest.approx(list(scores[answer.tag_positions]), abs=1e-7)
    assert (answer.caption.text, answer.caption.probability) == (bank.descriptions[1], 0.5)
    assert answer.caption_position == 1


async def test_texts_of_a_video_under_the_least_probability_are_left_out(stub):
    likely = ranking(min_probability=0.3)
    answer = await stub.RankVideo(video(FRAMES[0], ranking=likely, tags=[(0, 0.25), (2, 0.3)], captions=[(1, 0.2)]))
    assert list(answer.tag_positions) == [2]
    assert not answer.HasField("caption")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"embedding": tensors.to_proto(FRAMES)}, "embedding"),
        ({"embedding": tensors.to_proto(2 * FRAMES[0])}, "embedding"),
        ({"tags": decoder_pb2.TextProbabilities(positions=[0])}, "tags.probabilities"),
        ({"tags": decoder_pb2.TextProbabilities(positions=[0, 0], probabilities=[0, 0])}, "tags.probabilities"),
        ({"tags": decoder_pb2.TextProbabilities(positions=[0], probabilities=[1.1])}, "tags.probabilities"),
        ({"captions": decoder_pb2.TextProbabilities(positions=[0], probabilities=[NAN])}, "captions.probabilities"),
        ({"captions": decoder_pb2.TextProbabilities(positions=[2], probabilities=[0.5])}, "captions.positions"),
    ],
)
async def test_a_malformed_video_is_refused_with_its_field(stub, changes, field):
    request = video(FRAMES[0])
    for name, value in changes.items():
        getattr(request, name).CopyFrom(value)
    error = await failure(stub.RankVideo(request))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_the_banks_are_listed(stub):
    (bank,) = (await stub.ListTextBanks(decoder_pb2.ListTextBanksRequest())).text_banks
    expected = make_bank()
    assert (bank.name, bank.digest, bank.model_digest, bank.template, bank.created_at) == (
        "default",
        expected.digest,
        MODEL,
        "{}",
        "2026-01-31T12:00:00Z",
    )
    assert bank.longest_text_bytes == len("A person at a desk")


async def test_a_bank_that_is_not_there_is_not_found_and_unavailable_if_it_is_expected(stub, store):
    for call in (
        stub.DecodeChunk(chunk(ranking=ranking(text_bank="sport"))),
        stub.RankTexts(rows(ranking=ranking(text_bank="sport"))),
        stub.DecodeChunk(chunk(ranking=ranking(text_bank="sport", labels=labels("dog")))),
    ):
        error = await failure(call)
        assert (type(error), error.reason) == (NotFound, ErrorReason.TEXT_BANK_NOT_FOUND)
        assert "default" in error.message
    store.expected = ["sport"]
    error = await failure(stub.DecodeChunk(chunk(ranking=ranking(text_bank="sport"))))
    assert (type(error), error.reason) == (Unavailable, ErrorReason.BANK_NOT_READY)
    listed = await stub.ListTextBanks(decoder_pb2.ListTextBanksRequest())
    assert (list(listed.expected_names), listed.is_complete) == (["sport"], True)


async def test_a_bank_of_another_model_is_a_failed_precondition(stub):
    error = await failure(stub.DecodeChunk(chunk(ranking=ranking(model_digest=OTHER_MODEL))))
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.BANK_MODEL_MISMATCH)
    assert MODEL in error.message
    assert OTHER_MODEL in error.message


async def test_without_a_location_of_banks_labels_give_tags_and_no_caption():
    async for stub in serve(TextBankStore(None, 1)):
        response = await stub.DecodeChunk(chunk(ranking=ranking(labels=labels("dog", "cat"))))
        assert len(response.tags) == 2
        assert not response.HasField("caption")
        assert not response.HasField("text_bank")
        error = await failure(stub.DecodeChunk(chunk()))
        assert (type(error), error.reason) == (NotFound, ErrorReason.TEXT_BANK_NOT_FOUND)


async def test_large_banks_are_ranked_off_the_event_loop(store, tmp_path):
    many = 3000
    big = make_bank(name="big", tags=tuple(map(str, range(many))), tag_embeddings=unit_rows(many))
    (tmp_path / "big.safetensors").write_bytes(big.to_bytes())
    await store.refresh()
    async for stub in serve(store):
        before = {thread.name for thread in threading.enumerate()}
        await stub.DecodeChunk(chunk())
        assert {thread.name for thread in threading.enumerate()} - before == set()
        response = await stub.DecodeChunk(chunk(ranking=ranking(text_bank="big")))
        assert any(thread.name.startswith("ranking") for thread in threading.enumerate())
    scores = big.tag_embeddings.astype(np.float64) @ pool(FRAMES).astype(np.float64)
    assert [tag.text for tag in response.tags] == [str(i) for i in np.argsort(-scores)[:5]]


NOT_FINITE = FRAMES.copy()
NOT_FINITE[0, 0] = np.inf
STATE = decoder_pb2.SceneState(ema=tensors.to_proto(FRAMES[0]), last_event_seconds=1.0, last_frame_seconds=2.0)
LATER = [2.0 + i for i in range(16)]


def state(**changes: object) -> dict[str, object]:
    """A chunk after the one that left STATE, which is changed."""
    values = {"ema": STATE.ema, "last_event_seconds": 1.0, "last_frame_seconds": 2.0} | changes
    return {"ema_state": decoder_pb2.SceneState(**values), "frame_times_seconds": LATER}


def broken_labels(texts: list[str], embeddings: np.ndarray) -> dict[str, object]:
    return {"ranking": ranking(labels=LabelSet(texts=texts, embeddings=tensors.to_proto(embeddings)))}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"embeddings": None}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES[0])}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES[:0])}, "embeddings"),
        ({"embeddings": tensors.to_proto(unit_rows(65))}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES.astype(np.float16))}, "embeddings"),
        ({"embeddings": tensors.to_proto(NOT_FINITE)}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES * np.float32(1.01))}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES * 0)}, "embeddings"),
        ({"embeddings": tensors.to_proto(unit_rows(16, 4))}, "embeddings"),
        ({"frame_times_seconds": [0.0]}, "frame_times_seconds"),
        ({"frame_times_seconds": [1.0, 0.5] + [2.0] * 14}, "frame_times_seconds"),
        ({"frame_times_seconds": [-0.1] + [2.0] * 15}, "frame_times_seconds"),
        ({"frame_times_seconds": [NAN] * 16}, "frame_times_seconds"),
        ({"frame_times_seconds": [0.0] * 15 + [math.inf]}, "frame_times_seconds"),
        ({"ranking": None}, "ranking.model_digest"),
        ({"ranking": ranking(top_k_tags=101)}, "ranking.top_k_tags"),
        ({"ranking": ranking(min_probability=1.1)}, "ranking.min_probability"),
        ({"ranking": ranking(min_probability=-0.1)}, "ranking.min_probability"),
        ({"ranking": ranking(min_probability=NAN)}, "ranking.min_probability"),
        ({"ranking": ranking(logit_scale=0.0)}, "ranking.logit_scale"),
        ({"ranking": ranking(logit_scale=-1.0)}, "ranking.logit_scale"),
        ({"ranking": ranking(logit_scale=math.inf)}, "ranking.logit_scale"),
        ({"ranking": ranking(logit_scale=NAN)}, "ranking.logit_scale"),
        ({"ranking": ranking(logit_bias=NAN)}, "ranking.logit_bias"),
        ({"ranking": ranking(logit_bias=-math.inf)}, "ranking.logit_bias"),
        (broken_labels([], unit_rows(1)), "ranking.labels.texts"),
        (broken_labels(["a", "a"], unit_rows(2)), "ranking.labels.texts"),
        (broken_labels(["a", " "], unit_rows(2)), "ranking.labels.texts"),
        (broken_labels(["a" * 2001], unit_rows(1)), "ranking.labels.texts"),
        (broken_labels([str(i) for i in range(257)], unit_rows(257)), "ranking.labels.texts"),
        (broken_labels(["a", "b"], unit_rows(3)), "ranking.labels.embeddings"),
        (broken_labels(["a", "b"], unit_rows(2, 4)), "ranking.labels.embeddings"),
        (broken_labels(["a", "b"], unit_rows(2) * 2), "ranking.labels.embeddings"),
        ({"ranking": ranking(labels=LabelSet(texts=["a"]))}, "ranking.labels.embeddings"),
        ({"scene": decoder_pb2.SceneSpec(threshold=2.1)}, "scene.threshold"),
        ({"scene": decoder_pb2.SceneSpec(threshold=-0.1)}, "scene.threshold"),
        ({"scene": decoder_pb2.SceneSpec(threshold=NAN)}, "scene.threshold"),
        ({"scene": decoder_pb2.SceneSpec(ema_alpha=1.0)}, "scene.ema_alpha"),
        ({"scene": decoder_pb2.SceneSpec(ema_alpha=NAN)}, "scene.ema_alpha"),
        ({"scene": decoder_pb2.SceneSpec(detection=7)}, "scene.detection"),
        (state(ema=None), "ema_state.ema"),
        (state(ema=tensors.to_proto(unit_rows(1, 4)[0])), "ema_state.ema"),
        (state(ema=tensors.to_proto(FRAMES[:1])), "ema_state.ema"),
        (state(ema=tensors.to_proto(FRAMES[0] * 2)), "ema_state.ema"),
        (state(last_frame_seconds=NAN), "ema_state.last_frame_seconds"),
        (state(last_frame_seconds=-1.0), "ema_state.last_frame_seconds"),
        (state(last_event_seconds=3.0), "ema_state.last_event_seconds"),
        (state(last_event_seconds=NAN), "ema_state.last_event_seconds"),
        (state(last_frame_seconds=2.5), "frame_times_seconds"),
    ],
)
async def test_a_chunk_that_breaks_the_contract_is_refused_naming_the_field(stub, changes, field):
    error = await failure(stub.DecodeChunk(chunk(**changes)))
    assert (type(error), error.field) == (InvalidInput, field)
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"embeddings": tensors.to_proto(unit_rows(257))}, "embeddings"),
        ({"embeddings": tensors.to_proto(FRAMES * np.float32(1.01))}, "embeddings"),
        ({"embeddings": tensors.to_proto(unit_rows(2, 4))}, "embeddings"),
        ({"ranking": ranking(model_digest="")}, "ranking.model_digest"),
    ],
)
async def test_rows_that_break_the_contract_are_refused_naming_the_field(stub, changes, field):
    error = await failure(stub.RankTexts(rows(**changes)))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_a_chunk_may_begin_at_the_time_at_which_the_last_ended(stub):
    await stub.DecodeChunk(chunk(**state()))
