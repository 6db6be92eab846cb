"""Streams that are interrupted and resumed by token: the responses of all calls, and the tokens that are refused."""

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingress.resume.token import MAX_TOKEN_BYTES
from tests.ingress.waiting import until
from tests.rendering import calm_picture, remux, render, steady
from tests.system import EMBEDDING_DIM, TEXTS, Engine, System, encoder, system
from videoanalysis.channels import connect
from videoanalysis.errors import FailedPrecondition, InvalidInput, ServiceError
from videoanalysis.status import from_rpc_error
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.analysis_pb2 import (
    CUT_DETECTION_OFF,
    PRIORITY_BATCH,
    SCENE_BOUNDARIES_CUTS,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Scene,
    StreamAnalyzeVideoRequest,
)
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SECONDS = 12
CUTS = [Fraction(number, 25) for number in (20, 47, 55, 74, 101, 103, 140, 163, 200, 226, 251, 280)]
KEY, OTHER_KEY = "k" * 32, "o" * 32
SOON = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Thirteen short scenes, whose cuts lie within groups of pictures: to find one costs a part of what is allowed.

    Noise makes all pictures about as large, so that packet sizes do not show where the cuts are.
    """
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    groups = {"g": "15", "bf": "0", "sc_threshold": "0", "x264-params": "scenecut=0"}
    return render(path, steady(25, SECONDS), cuts=CUTS, draw=_noisy_picture, options=groups)


def _noisy_picture(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(index).integers(-30, 30, (height, width, 3))
    return np.clip(calm_picture(index, scene, width, height) + noise, 0, 255).astype(np.uint8)


@dataclass
class Received:
    """The responses of one call, or of several one after the other, about a video."""

    chunks: list[ChunkResult] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    scenes: list[list[Scene]] = field(default_factory=list)  # that ended in each chunk
    summary: AnalyzeVideoResponse | None = None

    def whole(self) -> AnalyzeVideoResponse:
        """The answer, without the fields that are those of the last call only."""
        assert self.summary is not None
        answer = AnalyzeVideoResponse(
            chunks=self.chunks,
            scenes=[scene for scenes in self.scenes for scene in scenes],
            scene_changes=[change for chunk in self.chunks for change in chunk.scene_changes],
        )
        answer.MergeFrom(self.summary)
        answer.ClearField("timing")
        # Measured, and so never twice the same.
        answer.ClearField("usage")
        return answer

    def then(self, later: "Received") -> "Received":
        """As the contract says: the parts of all calls, one after the other, and the last summary."""
        return Received(
            self.chunks + later.chunks, self.tokens + later.tokens, self.scenes + later.scenes, later.summary
        )

    def until(self, chunks: int) -> "Received":
        return Received(self.chunks[:chunks], self.tokens[:chunks], self.scenes[:chunks])


def request(path: Path, **options: object) -> AnalyzeVideoRequest:
    options = {"stream_id": "me", "frames_per_chunk": 4, "chunk_duration_seconds": 1, **options}
    return AnalyzeVideoRequest(video_uri=f"file://{path}", **options)


async def stream(
    running: System,
    wanted: AnalyzeVideoRequest,
    token: bytes = b"",
    *,
    caller: str = "",
    chunks: int | None = None,
) -> Received:
    """To the end, or until so many `chunks` are received."""
    received = Received()
    call = running.stub.StreamAnalyzeVideo(
        StreamAnalyzeVideoRequest(analysis=wanted, resume_token=token),
        timeout=SOON,
        metadata=[("x-caller-id", caller)] if caller else [],
    )
    async for response in call:
        match response.WhichOneof("event"):
            case "chunk":
                received.chunks.append(response.chunk)
                received.tokens.append(response.resume_token)
                received.scenes.append(list(response.finished_scenes))
            case "summary":
                received.summary = response.summary
        if len(received.chunks) == chunks:
            call.cancel()
            break
    return received


async def refusal(running: System, wanted: AnalyzeVideoRequest, token: bytes, caller: str = "") -> ServiceError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(running, wanted, token, caller=caller)
    error = from_rpc_error(caught.value)
    assert error.field == "resume_token"
    return error


def resuming(tmp_path: Path, clip: Path, engines: Sequence[Engine] | None = None, **settings: object):
    return system(tmp_path, engines, **{"allowed_file_roots": [clip.parent], "resume_keys": [KEY], **settings})


# ---- the responses of all calls together


async def at_rest(running: System, *engines: Engine) -> None:
    """Until what was left of a stream that was cut off has ended, in the encoders too."""
    await until(running.is_at_rest)
    seen = [-1]

    def is_the_same_as_a_moment_ago() -> bool:
        seen.append(sum(engine.chunks for engine in engines))
        return len(seen) > 20 and seen[-1] == seen[-20]

    await until(is_the_same_as_a_moment_ago)


@pytest.mark.parametrize(
    "options",
    [
        {"include_scene_scores": True, "include_embeddings": True},
        {"labels": ["a red car", "a blue sky", "rain"], "top_k_tags": 2},
        {"scene_detection": SCENE_DETECTION_EVERY_FRAME, "chunk_duration_seconds": 2.3},
        {"cut_detection": CUT_DETECTION_OFF},
        {"scene_boundaries": SCENE_BOUNDARIES_CUTS},
        {"scene_detection": SCENE_DETECTION_EVERY_FRAME, "min_scene_seconds": 0.3},
    ],
    ids=["everything", "labels", "every frame", "no cuts", "scenes by cuts", "scenes of a minimum length"],
)
async def test_resumed_behind_any_chunk_the_result_is_that_of_an_uninterrupted_call(clip, tmp_path, options):
    wanted = request(clip, **options)
    async with resuming(tmp_path, clip) as running:
        whole = await stream(running, wanted)
        assert len(whole.chunks) == len(whole.tokens) > 4
        assert len(whole.whole().scenes) > 10
        for count, token in enumerate(whole.tokens, 1):
            rest = await stream(running, wanted, token)
            assert [chunk.chunk_index for chunk in rest.chunks] == [*range(count, len(whole.chunks))]
            assert whole.until(count).then(rest).whole() == whole.whole()
        assert running.is_at_rest()


async def test_a_resumed_range_is_the_range(tmp_path):
    clip = render(tmp_path / "one_group.mp4", steady(25, 6), cuts=CUTS, draw=calm_picture, options={"bf": "0"})
    wanted = request(clip, start_seconds=1.3, end_seconds=5.7)
    async with resuming(tmp_path, clip) as running:
        whole = await stream(running, wanted)
        assert [chunk.start_seconds for chunk in whole.chunks] == [1.3, 2.3, 3.3, 4.3]
        for count in (1, 3):
            rest = await stream(running, wanted, whole.tokens[count - 1])
            assert whole.until(count).then(rest).whole() == whole.whole()


async def test_interrupted_repeatedly_the_result_is_that_of_an_uninterrupted_call(clip, tmp_path):
    draw = random.Random(1)
    async with resuming(tmp_path, clip) as running:
        whole = await stream(running, request(clip, chunk_duration_seconds=1))
        received = await stream(running, request(clip), chunks=1)
        breaks = 0
        while received.summary is None:
            count = draw.randint(1, 2)
            rest = await stream(running, request(clip), received.tokens[-1], chunks=count)
            if rest.summary is None:
                rest.summary = AnalyzeVideoResponse()
                received = received.then(rest)
                received.summary = None
                breaks += 1
            else:
                received = received.then(rest)
    assert breaks > 5
    assert received.whole() == whole.whole()


@pytest.mark.parametrize("packets", [[40], [40, 41, 200]], ids=["before it only", "on both sides of it"])
async def test_decode_failures_before_the_interruption_are_counted_once(clip, tmp_path, packets):
    damaged = remux(tmp_path / "damaged.mp4", clip, damaged=packets)
    async with resuming(tmp_path, clip, allowed_file_roots=[tmp_path]) as running:
        whole = await stream(running, request(damaged))
        assert whole.whole().decode_failures == len(packets)
        for count in (2, 6, 11):
            rest = await stream(running, request(damaged), whole.tokens[count - 1])
            assert whole.until(count).then(rest).whole() == whole.whole()


async def test_accelerator_seconds_are_those_of_all_calls(clip, tmp_path):
    async with resuming(tmp_path, clip, [Engine(service_ms=40)]) as running:
        whole = await stream(running, request(clip))
        rest = await stream(running, request(clip), whole.tokens[5])
    # 10 ms for each chunk of four frames, however busy the machine.
    assert rest.summary.usage.accelerator_seconds >= SECONDS * 0.01
    assert rest.summary.usage.bytes_read == clip.stat().st_size


async def test_stream_id_and_priority_may_change(clip, tmp_path):
    async with resuming(tmp_path, clip) as running:
        first = await stream(running, request(clip), chunks=2)
        rest = await stream(running, request(clip, stream_id="you", priority=PRIORITY_BATCH), first.tokens[-1])
    assert rest.summary.stream_id == "you"


async def test_tokens_are_valid_while_their_key_is_configured(clip, tmp_path):
    async with resuming(tmp_path, clip) as running:
        first = await stream(running, request(clip), chunks=2)
    async with resuming(tmp_path, clip, resume_keys=[OTHER_KEY, KEY]) as running:
        rest = await stream(running, request(clip), first.tokens[-1])
        assert len(rest.chunks) == SECONDS - 2
    async with resuming(tmp_path, clip, resume_keys=[OTHER_KEY]) as running:
        assert (await refusal(running, request(clip), first.tokens[-1])).reason == ErrorReason.TOKEN_FORGED
        assert len((await stream(running, request(clip), rest.tokens[0])).chunks) == SECONDS - 3


async def test_with_the_real_models_embeddings_and_as_many_texts_as_can_be_a_token_has_at_most_16_kib(clip, tmp_path):
    labels = [f"{'x' * 190} {number}" for number in range(256)]
    async with resuming(tmp_path, clip, [Engine(embedding_dim=1152)]) as running:
        received = await stream(running, request(clip, labels=labels, top_k_tags=100))
    assert 15_000 < max(map(len, received.tokens)) <= MAX_TOKEN_BYTES


async def test_without_keys_for_longer_embeddings_and_with_an_output_uri_there_are_no_tokens(
    clip, tmp_path, storage, bucket
):
    async with resuming(tmp_path, clip, resume_keys=[]) as running:
        assert set((await stream(running, request(clip))).tokens) == {b""}
    (tmp_path / "long").mkdir()
    async with resuming(tmp_path / "long", clip, [Engine(embedding_dim=2048)]) as running:
        assert set((await stream(running, request(clip))).tokens) == {b""}
    async with resuming(tmp_path, clip, storage=storage, allowed_output_prefixes=[f"s3://{bucket}/done"]) as running:
        written = request(clip, output_uri=f"s3://{bucket}/done/clip.json")
        assert set((await stream(running, written)).tokens) == {b""}
        token = (await stream(running, request(clip), chunks=1)).tokens[0]
        error = await refusal(running, written, token)
        assert (type(error), error.reason) == (InvalidInput, ErrorReason.NOT_RESUMABLE)


# ---- what is refused


async def test_another_caller_is_refused(clip, tmp_path):
    async with resuming(tmp_path, clip, caller_header="x-caller-id") as running:
        hers = (await stream(running, request(clip), caller="her", chunks=1)).tokens[0]
        for caller in ("him", ""):
            error = await refusal(running, request(clip), hers, caller)
            assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TOKEN_OF_ANOTHER_CALLER)
        assert len((await stream(running, request(clip), hers, caller="her")).chunks) == SECONDS - 1


async def test_a_forged_token_is_refused_before_any_work(clip, tmp_path):
    engine = Engine()
    async with resuming(tmp_path, clip, [engine]) as running:
        token = bytearray((await stream(running, request(clip), chunks=1)).tokens[0])
        await at_rest(running, engine)
        encoded = engine.chunks
        token[-1] ^= 1
        error = await refusal(running, request(clip), bytes(token))
        assert (type(error), error.reason) == (InvalidInput, ErrorReason.TOKEN_FORGED)
        assert engine.chunks == encoded


async def test_another_request_is_refused(clip, tmp_path):
    async with resuming(tmp_path, clip) as running:
        token = (await stream(running, request(clip), chunks=1)).tokens[0]
        error = await refusal(running, request(clip, top_k_tags=3), token)
        assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TOKEN_OF_ANOTHER_REQUEST)


async def test_a_changed_object_is_refused(clip, tmp_path):
    path = tmp_path / "changing.mp4"
    path.write_bytes(clip.read_bytes())
    async with resuming(tmp_path, clip, allowed_file_roots=[tmp_path]) as running:
        token = (await stream(running, request(path), chunks=1)).tokens[0]
        os.utime(path, ns=(0, 0))
        error = await refusal(running, request(path), token)
        assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.OBJECT_CHANGED)
        assert running.is_at_rest()


async def test_a_changed_bank_is_refused(clip, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("tags.txt", "descriptions.txt"):
        lines = (TEXTS / name).read_text().splitlines()
        (texts / name).write_text("\n".join(lines[1:]))
    async with resuming(tmp_path, clip) as running:
        token = (await stream(running, request(clip), chunks=1)).tokens[0]
        async with connect(running.encoders[0].address) as channel:
            bank = await bank_builder.build(texts, name="default", encoder=channel)
        (tmp_path / "banks" / "default.safetensors").write_bytes(bank.to_bytes())
        await running.text_banks.refresh()
        error = await refusal(running, request(clip), token)
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TEXT_BANK_CHANGED)


async def test_another_model_is_refused_and_the_one_among_several_is_found(clip, tmp_path):
    old, new = Engine(), Engine(embedding_dim=EMBEDDING_DIM + 1)
    async with resuming(tmp_path, clip, [old, new]) as running:
        async with connect(running.encoders[1].address) as channel:
            bank = await bank_builder.build(TEXTS, name="default", encoder=channel)
        (tmp_path / "banks" / "new.safetensors").write_bytes(bank.to_bytes())
        await running.text_banks.refresh()
        tokens = {}
        while len(tokens) < 2:
            received = await stream(running, request(clip), chunks=3)
            # A chunk or two of the stream before may have ended since; of this one there are three.
            tokens[old.chunks > new.chunks] = received.tokens[-1]
            await at_rest(running, old, new)
            old.chunks = new.chunks = 0
        await running.encoders[1].server.stop(0)
        for _ in range(5):
            assert len((await stream(running, request(clip), tokens[True])).chunks) == SECONDS - 3
    async with resuming(tmp_path, clip, [new]) as running:
        error = await refusal(running, request(clip), tokens[True])
        assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.MODEL_CHANGED)


async def test_a_resumed_video_whose_model_is_no_longer_served_restarts_with_tokens_of_the_new_one(clip, tmp_path):
    old, new = Engine(), Engine(embedding_dim=EMBEDDING_DIM + 1)
    async with resuming(tmp_path, clip, [old]) as running:
        async with encoder(new) as beforehand, connect(beforehand.address) as channel:
            bank = await bank_builder.build(TEXTS, name="default", encoder=channel)
        (tmp_path / "banks" / "new.safetensors").write_bytes(bank.to_bytes())
        await running.text_banks.refresh()
        first = await stream(running, request(clip), chunks=3)
        await at_rest(running, old)
        old.release.clear()
        old.started.clear()
        call = asyncio.create_task(stream(running, request(clip), first.tokens[-1]))
        await asyncio.to_thread(old.started.wait, 10)
        address = running.encoders[0].address
        await running.encoders[0].server.stop(0)
        old.release.set()
        async with encoder(new, address):
            received = await call
            assert [chunk.chunk_index for chunk in received.chunks][-SECONDS:] == [*range(SECONDS)]
            whole = await stream(running, request(clip))
            restarted = Received(
                received.chunks[-SECONDS:], scenes=received.scenes[-SECONDS:], summary=received.summary
            )
            assert restarted.whole().scenes[0].start_seconds == 0
            assert restarted.whole() == whole.whole()
            rest = await stream(running, request(clip), received.tokens[-3])
            assert len(rest.chunks) == 2
