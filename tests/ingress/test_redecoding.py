"""Stored embeddings that are decoded again, compared with the analysis that they come from."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from services.encoder.engine import Encoded
from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, encoder, system
from videoanalysis import tensors
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, ServiceError, Unavailable
from videoanalysis.status import from_rpc_error
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.analysis_pb2 import (
    SCENE_BOUNDARIES_CUTS,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    RedecodeHeader,
    RedecodeVideoRequest,
)
from videoanalysis.v1.error_reason_pb2 import ErrorReason

CUTS = (Fraction(31, 10), Fraction(13, 2), Fraction(8))
SECONDS = 11
SOON = 30


class Float16Engine(Engine):
    """Its embeddings are exact as float16."""

    def encode(self, frames: np.ndarray) -> Encoded:
        encoded = super().encode(frames)
        rounded = encoded.embeddings.astype(np.float16).astype(np.float32)
        return Encoded(rounded, encoded.compute_seconds)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(
        tmp_path_factory.mktemp("clip") / "clip.mp4",
        steady(Fraction(30000, 1001), SECONDS),
        cuts=CUTS,
        draw=calm_picture,
    )


def running_system(tmp_path: Path, clip: Path, engine: Engine | None = None):
    return system(tmp_path, [engine or Float16Engine()], allowed_file_roots=[clip.parent])


async def analyze(running: System, clip: Path, **options: object) -> AnalyzeVideoResponse:
    wanted = {"frames_per_chunk": 8, "chunk_duration_seconds": 2.2, "include_embeddings": True, **options}
    return await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{clip}", **wanted), timeout=SOON)


async def redecode(running: System, stored: AnalyzeVideoResponse, **options: object) -> AnalyzeVideoResponse:
    async with AsyncClient(running.address) as client:
        return (await client.redecode(stored, timeout_seconds=SOON, **options)).message


def comparable(answer: AnalyzeVideoResponse) -> AnalyzeVideoResponse:
    """Without what is measured, and the id."""
    copy = AnalyzeVideoResponse()
    copy.CopyFrom(answer)
    for field in ("timing", "usage", "stream_id"):
        copy.ClearField(field)
    return copy


@pytest.mark.parametrize(
    "options",
    [
        {"include_scene_scores": True},
        {"labels": ["a red car", "a blue sky", "rain"], "top_k_tags": 2, "scene_threshold": 0.05},
        {"start_seconds": 2.5, "end_seconds": 9.7},
        {"scene_boundaries": SCENE_BOUNDARIES_CUTS},
    ],
    ids=["bank", "labels", "range", "scenes by cuts"],
)
async def test_the_same_question_has_the_same_answer_to_the_last_bit(clip, tmp_path, options):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip, **options)
        assert len(stored.scenes) > 2
        again = await redecode(running, stored, **options)
        assert comparable(again) == comparable(stored)
        assert running.is_at_rest()


async def test_embeddings_rounded_to_float16_change_scores_by_less_than_a_thousandth(clip, tmp_path):
    async with running_system(tmp_path, clip, Engine()) as running:
        stored = await analyze(running, clip, include_scene_scores=True, top_k_tags=20)
        again = await redecode(running, stored, include_scene_scores=True, top_k_tags=20)
    assert [change.cut_seconds for change in again.scene_changes] == [c.cut_seconds for c in stored.scene_changes]
    for ours, theirs in zip(again.chunks, stored.chunks, strict=True):
        assert ours.scene_scores == pytest.approx(theirs.scene_scores, abs=1e-3)
        scores = {tag.text: tag.score for tag in theirs.tags}
        assert {tag.text: tag.score for tag in ours.tags} == pytest.approx(scores, abs=1e-3)


async def test_another_question_has_the_answer_of_an_analysis_with_it(clip, tmp_path):
    other = {"labels": ["snow", "a kitchen", "fire"], "top_k_tags": 3}
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)
        expected = await analyze(running, clip, **other)
        answer = await redecode(running, stored, **other)
        assert comparable(answer) == comparable(expected)
        assert comparable(await redecode(running, answer)) == comparable(stored)


async def test_a_scene_change_that_the_analysis_did_not_have_is_at_a_stored_cut_or_a_sampled_frame(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip, scene_threshold=2)
        assert not stored.scene_changes
        answer = await redecode(running, stored)
        by_cuts = await redecode(running, stored, scene_boundaries=SCENE_BOUNDARIES_CUTS)
        for chunk in stored.chunks:
            chunk.ClearField("cuts")
        without_cuts = await redecode(running, stored)
    cuts = [cut.time_seconds for cut in stored.cuts]
    assert cuts == pytest.approx([float(cut) for cut in CUTS], abs=0.04)
    assert [change.cut_seconds for change in answer.scene_changes] == cuts
    assert [scene.start_seconds for scene in by_cuts.scenes] == [0, *cuts]
    for change, cut in zip(without_cuts.scene_changes, cuts, strict=True):
        assert change.previous_timestamp_seconds < cut <= change.timestamp_seconds == change.cut_seconds
        assert change.cut_confidence == 0


async def test_with_a_bank_no_encoder_is_called_and_with_labels_only_to_embed_them(clip, tmp_path):
    engine = Float16Engine()
    async with running_system(tmp_path, clip, engine) as running:
        stored = await analyze(running, clip)
        chunks = engine.chunks
        await redecode(running, stored, labels=["rain", "snow"])
        assert engine.chunks == chunks
        await running.encoders[0].server.stop(None)
        # Known by now.
        assert (await redecode(running, stored, labels=["snow", "rain"])).tags[0].text in {"snow", "rain"}
        assert comparable(await redecode(running, stored)) == comparable(stored)
        assert running.demand.encoder == 0


async def test_a_bank_of_another_model_is_refused(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)
        stored.model.digest = "another"
        with pytest.raises(FailedPrecondition) as caught:
            await redecode(running, stored)
        assert caught.value.reason == ErrorReason.BANK_MODEL_MISMATCH
        with pytest.raises((FailedPrecondition, Unavailable)) as refused:
            await redecode(running, stored, labels=["rain"])
        assert refused.value.reason in {ErrorReason.MODEL_CHANGED, ErrorReason.ENCODER_UNAVAILABLE}
        stored.model.digest = ""
        with pytest.raises(InvalidInput, match="digest"):
            await redecode(running, stored)
        assert running.is_at_rest()


async def test_an_unknown_bank_is_not_found_and_another_one_is_used(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)
        with pytest.raises(NotFound):
            await redecode(running, stored, text_bank="other")
        texts = tmp_path / "texts"
        texts.mkdir()
        (texts / "tags.txt").write_text("rain\nsnow\n")
        (texts / "descriptions.txt").write_text("it rains\n")
        async with connect(running.encoders[0].address) as channel:
            bank = await bank_builder.build(texts, name="other", encoder=channel)
        (tmp_path / "banks" / "other.safetensors").write_bytes(bank.to_bytes())
        await running.text_banks.refresh()
        answer = await redecode(running, stored, text_bank="other")
    assert {tag.text for tag in answer.tags} == {"rain", "snow"}
    assert answer.caption.text == "it rains"
    assert answer.text_bank.name == "other"


async def test_the_synchronous_client_gives_the_same_answer_and_the_same_refusals(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)

        def call() -> AnalyzeVideoResponse:
            with Client(running.address) as client:
                with pytest.raises(NotFound):
                    client.redecode(stored, text_bank="other")
                return client.redecode(stored).message

        assert comparable(await asyncio.to_thread(call)) == comparable(stored)


async def test_an_answer_without_embeddings_is_refused_before_the_call(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip, include_embeddings=False)
        with pytest.raises(InvalidInput, match="include_embeddings"):
            await redecode(running, stored)


async def failure(running: System, requests: Iterable[RedecodeVideoRequest]) -> ServiceError:
    accepted = asyncio.Event()

    async def sent() -> AsyncIterator[RedecodeVideoRequest]:
        for number, request in enumerate(requests):
            if number > 0:
                await accepted.wait()
            yield request

    async def received() -> None:
        async for _ in running.stub.RedecodeVideo(sent(), timeout=SOON):
            accepted.set()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await received()
    return from_rpc_error(caught.value)


def changed(chunk: ChunkResult, **fields: object) -> ChunkResult:
    copy = ChunkResult()
    copy.CopyFrom(chunk)
    for name, value in fields.items():
        copy.ClearField(name)
        copy.MergeFrom(ChunkResult(**{name: value}))
    return copy


async def test_malformed_streams_are_invalid_and_name_the_field(clip, tmp_path):
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)
        header = RedecodeVideoRequest(header=RedecodeHeader(model=stored.model))
        first, second = stored.chunks[0], stored.chunks[1]
        frames = tensors.from_proto(first.embeddings)
        bad = {
            "chunk.chunk_index": [second],
            "chunk.start_seconds": [first, changed(second, start_seconds=5.0)],
            "chunk.duration_seconds": [changed(first, duration_seconds=1e9)],
            "chunk.frame_times_seconds": [changed(first, frame_times_seconds=[3, 2, 1, 0, 0, 0, 0, 0])],
            "chunk.embeddings": [changed(first, embeddings=tensors.to_proto(2 * frames))],
        }
        for field, chunks in bad.items():
            error = await failure(running, [header, *(RedecodeVideoRequest(chunk=chunk) for chunk in chunks)])
            assert (type(error), error.field) == (InvalidInput, field)
        wrong_shape = changed(first, embeddings=tensors.to_proto(frames[:, :-1].copy()))
        infinite = changed(first, start_seconds=float("inf"))
        for requests in ([], [header], [header, header], [RedecodeVideoRequest(chunk=first)]):
            assert isinstance(await failure(running, requests), InvalidInput)
        shortest = RedecodeVideoRequest(chunk=changed(first, duration_seconds=5e-324))
        async for event in running.stub.RedecodeVideo(iter([header, shortest]), timeout=60):
            assert all(0 <= tag.probability <= 1 for tag in event.chunk.tags)
        for chunk in (wrong_shape, infinite):
            assert isinstance(await failure(running, [header, RedecodeVideoRequest(chunk=chunk)]), InvalidInput)
        assert running.is_at_rest()


async def test_a_caller_that_sends_no_chunks_loses_its_slot(clip, tmp_path):
    async with system(tmp_path, [Float16Engine()], allowed_file_roots=[clip.parent], write_seconds=0.2) as running:
        stored = await analyze(running, clip)

        async def sent() -> AsyncIterator[RedecodeVideoRequest]:
            yield RedecodeVideoRequest(header=RedecodeHeader(model=stored.model))
            await asyncio.Event().wait()

        async def received() -> None:
            async for _ in running.stub.RedecodeVideo(sent(), timeout=SOON):
                assert running.admission.running == 1

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await received()
        assert from_rpc_error(caught.value).reason == ErrorReason.CALLER_TOO_SLOW
        assert running.is_at_rest()


async def test_an_encoder_is_not_woken_for_it(clip, tmp_path):
    async with running_system(tmp_path, clip) as running, encoder(Float16Engine()):
        stored = await analyze(running, clip)
        demands = []
        async with AsyncClient(running.address) as client:
            call = client.redecode(stored)
            demands.append(running.demand.encoder)
            await call
            demands.append(running.demand.encoder)
        assert demands == [0, 0]


async def test_the_command_answers_again_from_a_stored_result(clip, tmp_path):
    result = tmp_path / "result.json"
    async with running_system(tmp_path, clip) as running:
        stored = await analyze(running, clip)
        result.write_text(json_format.MessageToJson(stored))

        async def command(*arguments: str) -> tuple[int, str, str]:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from videoanalysis.cli import main; main()", "redecode", str(result)),
                *("--address", running.address, *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            assert process.returncode is not None
            return process.returncode, out.decode(), err.decode()

        answers = await asyncio.gather(
            command("-o", "json"), command("--label", "rain"), command("--text-bank", "other")
        )
    (code, out, _), (code_of_label, shown, _), (code_of_unknown, _, error) = answers
    assert code == 0
    assert comparable(json_format.Parse(out, AnalyzeVideoResponse())) == comparable(stored)
    assert (code_of_label, "rain" in shown) == (0, True)
    assert code_of_unknown == 65
    assert "other" in error
