"""AnalyzeVideo and StreamAnalyzeVideo through real servers: what a caller sees, and what is left when it is over."""

import asyncio
import gc
import json
import os
import signal
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.encoder.synthetic import SyntheticEngine
from tests.ingress.sampling import oracle
from tests.rendering import calm_picture, render, steady
from tests.system import EMBEDDING_DIM, IMAGE_SIZE, TEXTS, Engine, System, encoder, system
from videoanalysis import tensors
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from videoanalysis.status import from_rpc_error
from videoanalysis.storage import S3Uri
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.text_bank.builder import read_texts
from videoanalysis.v1.analysis_pb2 import (
    PRIORITY_INTERACTIVE,
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    StreamAnalyzeVideoRequest,
)
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import TextBank, VideoAnalysis

CUTS = (Fraction(31, 10), Fraction(13, 2), Fraction(8))
SECONDS, CHUNK, FRAMES = 11, 4, 8
SOON = 30


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Four scenes in eleven seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return render(path, steady(10, SECONDS), cuts=CUTS, draw=calm_picture)


def request(path: Path, **asked: object) -> AnalyzeVideoRequest:
    asked = {"frames_per_chunk": FRAMES, "chunk_duration_seconds": CHUNK, **asked}
    return AnalyzeVideoRequest(video_uri=f"file://{path}", **asked)


async def analyze(running: System, wanted: AnalyzeVideoRequest, seconds: float = SOON) -> AnalyzeVideoResponse:
    return await running.stub.AnalyzeVideo(wanted, timeout=seconds)


async def stream(running: System, wanted: AnalyzeVideoRequest) -> tuple[list, list, AnalyzeVideoResponse]:
    """Progress, chunks and the answer, with the scenes and scene changes that came with the chunks."""
    progress, chunks, scenes, summary = [], [], [], None
    async for event in running.stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=wanted), timeout=SOON):
        assert summary is None
        match event.WhichOneof("event"):
            case "progress":
                progress.append(event.progress)
            case "chunk":
                chunks.append(event.chunk)
                scenes += event.finished_scenes
            case "summary":
                summary = event.summary
    assert summary is not None
    assert not summary.scene_changes
    assert len(summary.scenes) == 1
    answer = AnalyzeVideoResponse(scenes=scenes)
    answer.scene_changes.extend(change for chunk in chunks for change in chunk.scene_changes)
    answer.MergeFrom(summary)
    return progress, chunks, answer


async def failure(running: System, wanted: AnalyzeVideoRequest, seconds: float = SOON) -> ServiceError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await analyze(running, wanted, seconds)
    return from_rpc_error(caught.value)


async def until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def open_files() -> list[str]:
    """What this process holds open that could leak: memory for frames, downloads, videos."""
    gc.collect()
    files = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own is closed by now
            # A mapping holds its file open too: what counts is the file.
            files[os.stat(f"/proc/self/fd/{fd}").st_ino] = os.readlink(f"/proc/self/fd/{fd}")
    return sorted(name for name in files.values() if "memfd:frames" in name or "scratch" in name or ".mp4" in name)


# ---- what the answer says


async def test_frames_that_resemble_each_other_are_encoded_once(tmp_path):
    async with system(tmp_path) as running:
        path = render(tmp_path / "slides.mp4", steady(10, SECONDS), cuts=CUTS, draw=calm_picture)
        exact = await analyze(running, request(path, include_embeddings=True))
        alike = await analyze(running, request(path, include_embeddings=True, reuse_difference=0.05))
        assert exact.usage.frames_encoded == 3 * FRAMES
        assert 4 <= alike.usage.frames_encoded <= 8
        scene_starts = [0.0, *map(float, CUTS)]
        for chunk, other in zip(exact.chunks, alike.chunks, strict=True):
            assert chunk.frame_times_seconds == other.frame_times_seconds
            every, repeated = tensors.from_proto(chunk.embeddings), tensors.from_proto(other.embeddings)
            assert repeated.shape == every.shape
            scenes = [max(start for start in scene_starts if start <= time) for time in chunk.frame_times_seconds]
            first = [scenes.index(scene) for scene in scenes]
            assert np.array_equal(repeated, every[first])
        assert alike.frames_dropped == 0


async def test_the_answer_tells_how_much_the_container_claims_of_a_file_that_was_cut_short(tmp_path):
    whole = render(tmp_path / "whole.mkv", steady(10, SECONDS), options={"g": "10", "bf": "0"})
    cut_short = tmp_path / "cut_short.mkv"
    cut_short.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    async with system(tmp_path) as running:
        complete = VideoAnalysis.from_message(await analyze(running, request(whole)))
        short = VideoAnalysis.from_message(await analyze(running, request(cut_short)))
        part = VideoAnalysis.from_message(await analyze(running, request(whole, end_seconds=2)))
    assert (complete.claimed_duration_seconds, complete.ends_early) == (pytest.approx(SECONDS), False)
    assert (short.claimed_duration_seconds, short.ends_early) == (pytest.approx(SECONDS), True)
    assert 6 < short.video_duration_seconds < 8
    assert (part.claimed_duration_seconds, part.ends_early) == (0, False)


async def test_with_a_tolerance_key_frames_stand_for_the_frames_near_them(tmp_path):
    async with system(tmp_path) as running:
        options = {"g": "10", "bf": "0", "sc_threshold": "0"}
        path = render(tmp_path / "video.mp4", steady(10, SECONDS), options=options)
        answer = await analyze(running, request(path, sampling_tolerance_seconds=0.5))
        times = [time for chunk in answer.chunks for time in chunk.frame_times_seconds]
        wanted = [
            chunk.start_seconds + place * chunk.duration_seconds / FRAMES
            for chunk in answer.chunks
            for place in range(FRAMES)
        ]
        last_key_frame = SECONDS - 1
        assert all(
            time == round(time) for time, near in zip(times, wanted, strict=True) if near <= last_key_frame + 0.5
        )
        assert all(abs(time - near) <= 0.5 for time, near in zip(times, wanted, strict=True))
        assert answer.usage.frames_decoded <= SECONDS + 10


async def test_a_range_is_analysed_alone_with_the_times_of_the_whole_video(tmp_path):
    options = {"g": "10", "sc_threshold": "0"}
    path = render(tmp_path / "video.mp4", steady(10, SECONDS), cuts=CUTS, draw=calm_picture, options=options)
    async with system(tmp_path) as running:
        whole = await analyze(running, request(path, include_embeddings=True, chunk_duration_seconds=1))
        asked = {"start_seconds": 5, "end_seconds": 9, "chunk_duration_seconds": 1}
        part = await analyze(running, request(path, include_embeddings=True, **asked))
    assert [chunk.chunk_index for chunk in part.chunks] == [0, 1, 2, 3]
    for ours, theirs in zip(part.chunks, whole.chunks[5:9], strict=True):
        assert ours.start_seconds == theirs.start_seconds
        assert ours.frame_times_seconds == theirs.frame_times_seconds
        assert ours.embeddings == theirs.embeddings
        assert ours.tags == theirs.tags
    assert part.video_duration_seconds == 9
    assert [change.cut_seconds for change in part.scene_changes] == [6.5, 8]
    assert [(scene.start_seconds, scene.end_seconds) for scene in part.scenes] == [(5, 6.5), (6.5, 8), (8, 9)]
    assert part.scenes[1].tags == whole.scenes[2].tags
    assert part.usage.frames_decoded < whole.usage.frames_decoded * 0.7


async def test_a_range_beyond_the_end_names_the_true_duration(tmp_path, clip):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        error = await failure(running, request(clip, start_seconds=SECONDS))
        assert (type(error), error.reason, error.field) == (
            InvalidInput,
            ErrorReason.RANGE_BEYOND_END,
            "start_seconds",
        )
        assert f"at {SECONDS}" in error.message
        assert (await analyze(running, request(clip, start_seconds=10, end_seconds=99))).video_duration_seconds == 11


def reference(path: Path, frames: int, chunk: int) -> tuple[oracle.Expected, list[np.ndarray]]:
    """Every chunk of a full decode, and its embeddings in float64."""
    expected = oracle.expected(path, frames, Fraction(chunk), IMAGE_SIZE)
    engine = SyntheticEngine(image_size=IMAGE_SIZE, embedding_dim=EMBEDDING_DIM, service_ms=0)
    return expected, [engine.encode(chunk.pixels).embeddings.astype(np.float64) for chunk in expected.chunks]


def reference_scores(frames: np.ndarray, times: list[float]) -> tuple[list[float], list[float]]:
    """Scene scores and the times of events, by the formula of the contract."""
    ema, last_event, scores, events = frames[0], None, [], []
    for frame, seconds in zip(frames, times, strict=True):
        score = max(0.0, 1 - float(frame @ ema))
        scores.append(score)
        if score >= 0.15 and (last_event is None or seconds - last_event >= 1.0):
            ema, last_event = frame, seconds
            events.append(seconds)
        else:
            mixed = 0.9 * ema + 0.1 * frame
            ema = mixed / np.linalg.norm(mixed)
    return scores, events


async def test_the_answer_is_that_of_a_full_decode_and_plain_arithmetic(clip, tmp_path):
    expected, embeddings = reference(clip, FRAMES, CHUNK)
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        answer = await analyze(
            running, request(clip, stream_id="me", include_scene_scores=True, include_embeddings=True)
        )
    assert answer.stream_id == "me"
    assert answer.video_duration_seconds == float(expected.duration) == SECONDS
    assert answer.decode_failures == 0
    assert [(c.chunk_index, c.start_seconds, c.duration_seconds) for c in answer.chunks] == [
        (index, float(c.start), float(c.duration)) for index, c in enumerate(expected.chunks)
    ]
    assert [list(c.frame_times_seconds) for c in answer.chunks] == [
        [float(time) for time in c.frame_times] for c in expected.chunks
    ]
    for ours, wanted in zip(answer.chunks, embeddings, strict=True):
        sent = tensors.from_proto(ours.embeddings)
        assert sent.dtype == np.float16
        assert np.abs(sent - wanted).max() < 1e-3

    times = [float(time) for chunk in expected.chunks for time in chunk.frame_times]
    scores, events = reference_scores(np.concatenate(embeddings), times)
    assert [score for chunk in answer.chunks for score in chunk.scene_scores] == pytest.approx(scores, abs=1e-5)
    assert [change.timestamp_seconds for change in answer.scene_changes] == events
    assert [change for chunk in answer.chunks for change in chunk.scene_changes] == list(answer.scene_changes)
    assert [change.cut_seconds for change in answer.scene_changes] == [float(cut) for cut in CUTS]
    assert all(change.cut_confidence > 0.9 for change in answer.scene_changes)
    assert [scene.start_seconds for scene in answer.scenes] == [0, *(float(cut) for cut in CUTS)]
    assert answer.scenes[-1].end_seconds == SECONDS
    # Each change is the first sampled frame at or after a cut.
    assert events == [min(time for time in times if time >= cut) for cut in CUTS]

    engine = SyntheticEngine(image_size=IMAGE_SIZE, embedding_dim=EMBEDDING_DIM, service_ms=0)
    tags = read_texts(TEXTS)[0].texts
    text_rows = engine.encode_texts(list(tags)).astype(np.float64)
    pooled = [frames.mean(axis=0) / np.linalg.norm(frames.mean(axis=0)) for frames in embeddings]
    weights = [float(chunk.duration) for chunk in expected.chunks]
    video_scores = np.average([text_rows @ row for row in pooled], axis=0, weights=weights)
    of_scenes = np.split(np.concatenate(embeddings), [times.index(event) for event in events])
    scene_rows = [frames.mean(axis=0) / np.linalg.norm(frames.mean(axis=0)) for frames in of_scenes]
    logits = engine.model.logit_scale * np.stack(scene_rows) @ text_rows.T + engine.model.logit_bias
    probabilities = 1 / (1 + np.exp(-logits))
    edges = [0.0, *map(float, CUTS), float(SECONDS)]
    shares = np.average(probabilities, axis=0, weights=np.diff(edges))
    best = np.argsort(-shares)[:5]
    assert [tag.text for tag in answer.tags] == [tags[i] for i in best]
    assert [tag.score for tag in answer.tags] == pytest.approx(video_scores[best], abs=1e-5)
    assert [tag.probability for tag in answer.tags] == pytest.approx(shares[best], rel=1e-3)
    assert [tag.max_probability for tag in answer.tags] == pytest.approx(probabilities.max(axis=0)[best], rel=1e-3)
    peaks = [(edges[scene] + edges[scene + 1]) / 2 for scene in probabilities.argmax(axis=0)]
    assert [tag.peak_seconds for tag in answer.tags] == pytest.approx([peaks[i] for i in best], rel=1e-6)
    for chunk, row in zip(answer.chunks, pooled, strict=True):
        assert chunk.tags[0].text == tags[int(np.argmax(text_rows @ row))]
    assert (answer.model.engine, answer.text_bank.name, answer.text_bank.tags) == ("synthetic", "default", 20)


async def test_a_cut_among_frames_that_sampling_left_out_is_found_all_the_same(tmp_path):
    fixed_groups = {"g": "15", "bf": "0", "sc_threshold": "0", "x264-params": "scenecut=0"}
    path = tmp_path / "groups.mp4"
    render(path, steady(25, 30), cuts=[Fraction(114, 25)], draw=calm_picture, options=fixed_groups)
    async with system(tmp_path) as running:
        answer = await analyze(running, AnalyzeVideoRequest(video_uri=f"file://{path}"))
    (change,) = answer.scene_changes
    assert change.previous_timestamp_seconds < 4.56 == change.cut_seconds < change.timestamp_seconds
    assert change.cut_confidence > 0.9


async def test_the_stream_has_the_same_content_in_pieces(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        whole = await analyze(running, request(clip, stream_id="me"))
        progress, chunks, summary = await stream(running, request(clip, stream_id="me"))
    assert chunks == list(whole.chunks)
    assert not summary.chunks
    assert whole.cuts
    assert [cut for chunk in chunks for cut in chunk.cuts] == list(whole.cuts)
    for answer in (whole, summary):
        answer.ClearField("cuts")
        answer.ClearField("chunks")
        answer.ClearField("timing")
        answer.ClearField("usage")
    assert summary == whole
    stages = [event.stage for event in progress]
    assert stages == sorted(stages)
    assert set(stages) == {STAGE_WAITING, STAGE_DOWNLOADING, STAGE_ANALYZING}
    assert progress[-1].claimed_duration_seconds == SECONDS


async def test_chunking_does_not_change_what_the_scene_detector_sees(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        scores = {
            (chunk, frames): [
                score
                for result in (
                    await analyze(
                        running,
                        request(clip, chunk_duration_seconds=chunk, frames_per_chunk=frames, include_scene_scores=True),
                    )
                ).chunks[: 8 // chunk]
                for score in result.scene_scores
            ]
            for chunk, frames in [(1, 2), (2, 4), (4, 8), (8, 16)]
        }
    assert len({tuple(found) for found in scores.values()}) == 1
    assert len(scores[8, 16]) == 16


async def test_every_frame_over_the_threshold_is_reported_on_request(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        once = await analyze(running, request(clip))
        every = await analyze(running, request(clip, scene_detection=SCENE_DETECTION_EVERY_FRAME))
    assert len(every.scene_changes) > len(once.scene_changes) == len(CUTS)


async def test_labels_of_the_request_replace_the_tags(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        answer = await analyze(running, request(clip, labels=["a red car", "nothing"], top_k_tags=9))
    assert {tag.text for tag in answer.tags} == {"a red car", "nothing"}
    assert answer.caption.text in read_texts(TEXTS)[1].texts


async def test_texts_under_the_minimum_probability_are_left_out_even_if_none_remains(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        answer = await analyze(running, request(clip, min_probability=1))
    assert list(answer.tags) == []
    for part in (answer, *answer.chunks, *answer.scenes):
        assert list(part.tags) == []
        assert not part.HasField("caption")


async def test_the_answer_is_also_written_to_the_output_uri(clip, tmp_path, storage, bucket):
    async with system(
        tmp_path, allowed_file_roots=[clip.parent], storage=storage, allowed_output_prefixes=[f"s3://{bucket}/done"]
    ) as running:
        uri = S3Uri(bucket, "done/clip.json")
        answer = await analyze(running, request(clip, stream_id="me", output_uri=str(uri)))
        written = json.loads(await storage.read(uri, 1 << 20))
        assert written["streamId"] == "me"
        assert len(written["chunks"]) == len(answer.chunks)
        _, chunks, _ = await stream(running, request(clip, output_uri=str(uri)))
        assert len(json.loads(await storage.read(uri, 1 << 20))["chunks"]) == len(chunks)
        denied = await failure(running, request(clip, output_uri=f"s3://{bucket}/elsewhere.json"))
    assert denied.field == "output_uri"


# ---- time


async def test_the_parts_of_the_timing_add_up_and_a_slow_encoder_counts_as_encode_compute(clip, tmp_path):
    async with system(tmp_path, [Engine(service_ms=400)], allowed_file_roots=[clip.parent]) as running:
        timing = (await analyze(running, request(clip))).timing
    stages = [timing.download, timing.sample, timing.encode, timing.decode]
    parts = sum(stage.queue_seconds + stage.compute_seconds for stage in stages)
    assert parts + timing.unattributed_seconds == pytest.approx(timing.total_seconds, rel=1e-6)
    assert timing.unattributed_seconds <= 0.02 * timing.total_seconds
    # Half the nominal frames: 0.2 s for each of three chunks; the first ones may be encoded while others are sampled.
    assert timing.encode.compute_seconds >= 0.2
    assert timing.encode.compute_seconds == max(stage.compute_seconds for stage in stages)


# ---- bounds


async def test_an_answer_that_cannot_fit_is_refused_before_anything_is_encoded_and_streams(clip, tmp_path):
    engine = Engine(embedding_dim=2048)
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        wanted = request(
            clip,
            frames_per_chunk=64,
            chunk_duration_seconds=1,
            include_embeddings=True,
            top_k_tags=60,
            scene_detection=SCENE_DETECTION_EVERY_FRAME,
        )
        error = await failure(running, wanted)
        assert (type(error), error.reason) == (InvalidInput, ErrorReason.RESPONSE_TOO_LARGE)
        assert engine.chunks == 0
        _, chunks, _ = await stream(running, wanted)
        assert len(chunks) == SECONDS


async def test_frames_in_memory_stay_within_the_budget_while_the_encoder_is_blocked(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    chunk_bytes = 64 * IMAGE_SIZE * IMAGE_SIZE * 3
    async with system(
        tmp_path, [engine], allowed_file_roots=[clip.parent], frame_budget_bytes=2 * chunk_bytes, chunks_ahead=8
    ) as running:
        wanted = request(clip, frames_per_chunk=64, chunk_duration_seconds=1)
        calls = [asyncio.create_task(analyze(running, wanted)) for _ in range(2)]
        await asyncio.to_thread(engine.started.wait, 10)
        await until(lambda: running.frame_budget.in_use == 2 * chunk_bytes)
        await asyncio.sleep(0.3)
        assert running.frame_budget.in_use == 2 * chunk_bytes
        assert len([target for target in open_files() if "memfd" in target]) <= 2
        engine.release.set()
        assert all(len(answer.chunks) == SECONDS for answer in await asyncio.gather(*calls))
        assert running.is_at_rest()


async def test_waiting_requests_hold_no_bytes_and_are_refused_when_the_queue_is_full(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(
        tmp_path, [engine], allowed_file_roots=[clip.parent], max_videos=1, max_waiting=1, chunks_ahead=1
    ) as running:
        first = asyncio.create_task(analyze(running, request(clip)))
        await asyncio.to_thread(engine.started.wait, 10)
        second = asyncio.create_task(analyze(running, request(clip)))
        await until(lambda: running.admission.waiting == 1)
        assert len([target for target in open_files() if target.endswith(".mp4")]) == 1
        error = await failure(running, request(clip))
        assert isinstance(error, Overloaded)
        assert error.retry_after_seconds >= 1
        engine.release.set()
        await asyncio.gather(first, second)
        assert running.is_at_rest()


# ---- failures


async def test_an_encoder_that_is_killed_during_a_video_loses_no_video(clip, tmp_path):
    dying, healthy = Engine(), Engine()
    dying.release.clear()
    healthy.release.clear()
    async with system(tmp_path, [dying, healthy], allowed_file_roots=[clip.parent]) as running:
        call = asyncio.create_task(analyze(running, request(clip)))
        await until(lambda: dying.started.is_set() and healthy.started.is_set())
        await running.encoders[0].server.stop(0)
        dying.release.set()
        healthy.release.set()
        assert len((await call).chunks) == 3
        assert running.is_at_rest()


async def test_an_unavailable_decoder_is_passed_over(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent], decoder_count=2) as running:
        await running.decoders[0].server.stop(0)
        assert len((await analyze(running, request(clip))).chunks) == 3


async def test_a_video_whose_model_is_no_longer_served_restarts_on_the_new_one(clip, tmp_path):
    old = Engine()
    old.release.clear()
    async with system(tmp_path, [old], allowed_file_roots=[clip.parent]) as running:
        new = Engine(embedding_dim=EMBEDDING_DIM + 1)
        async with encoder(new) as beforehand:
            await add_bank(running, beforehand.address, tmp_path)
        call = asyncio.create_task(analyze(running, request(clip, labels=["a", "b"])))
        await asyncio.to_thread(old.started.wait, 10)
        address = running.encoders[0].address
        await running.encoders[0].server.stop(0)
        old.release.set()
        async with encoder(new, address):
            answer = await call
        assert answer.model.digest == new.model.digest
        assert [chunk.chunk_index for chunk in answer.chunks] == [0, 1, 2]
        assert new.chunks == 3
        assert running.is_at_rest()


async def add_bank(running: System, encoder_address: str, directory: Path) -> None:
    async with connect(encoder_address) as channel:
        bank = await bank_builder.build(TEXTS, name="default", encoder=channel)
    (directory / "banks" / "new.safetensors").write_bytes(bank.to_bytes())
    await running.text_banks.refresh()


async def test_a_caller_that_leaves_frees_everything_within_a_second(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        call = running.stub.AnalyzeVideo(request(clip), timeout=SOON)
        await asyncio.to_thread(engine.started.wait, 10)
        assert running.frame_budget.in_use > 0
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(running.is_at_rest, seconds=1.0)
        assert open_files() == []
        engine.release.set()
        assert len((await analyze(running, request(clip))).chunks) == 3


async def test_a_deadline_that_passes_frees_everything(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], max_request_seconds=0.3) as running:
        assert isinstance(await failure(running, request(clip)), DeadlineExceeded)
        await until(running.is_at_rest, seconds=1.0)
        assert open_files() == []
        engine.release.set()


async def test_killed_sampling_processes_are_replaced_and_the_video_continues(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], max_videos=1, chunks_ahead=1) as running:
        before = running.sampling.worker_pids
        call = asyncio.create_task(analyze(running, request(clip, chunk_duration_seconds=1)))
        await asyncio.to_thread(engine.started.wait, 10)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        engine.release.set()
        assert len((await call).chunks) == SECONDS
        await until(lambda: running.sampling.worker_pids and not {*running.sampling.worker_pids} & {*before})
        assert running.is_at_rest()
        assert open_files() == []


async def test_a_bug_is_reported_without_internal_details(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        running.scratch.limit = 0  # no download can ever fit: a state that the settings rule out
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri="s3://bucket/key"), timeout=SOON)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"


async def test_an_error_frees_everything(tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"no video " * 1000)
    async with system(tmp_path) as running:
        error = await failure(running, request(tmp_path / "text.mp4"))
        assert (type(error), error.reason, error.field) == (InvalidInput, ErrorReason.NOT_A_VIDEO, "video_uri")
        assert running.is_at_rest()
        assert open_files() == []


async def test_an_encoder_of_another_image_size_is_reported_to_the_operator(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent], image_size=48) as running:
        error = await failure(running, request(clip))
    assert (type(error), error.reason) == (Unavailable, ErrorReason.IMAGE_SIZE_MISMATCH)
    assert "INGRESS_IMAGE_SIZE" in error.message


async def test_a_bank_of_another_model_is_refused_before_anything_is_encoded(clip, tmp_path):
    engine = Engine(embedding_dim=EMBEDDING_DIM + 1)
    async with system(tmp_path, allowed_file_roots=[clip.parent]):
        pass  # leaves the bank of the usual engine behind
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], with_bank=False) as running:
        error = await failure(running, request(clip))
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.BANK_MODEL_MISMATCH)
    assert engine.chunks == 0


# ---- what the policy allows


async def test_the_policy_limits_what_a_caller_may_name_and_want(clip, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"callers:\n  inside: {{sources: ['file://{clip.parent}/'], outputs: ['s3://results/inside/']}}\n"
        "  outside: {sources: ['s3://videos/']}\n"
        "  archive: {batch_only: true}\n"
    )
    settings = {
        "caller_header": "x-caller-id",
        "policy_file": policy,
        "allowed_file_roots": [clip.parent],
        "allowed_output_prefixes": ["s3://results/"],
    }
    async with system(tmp_path, **settings) as running:

        async def denied(caller: str, **asked: object) -> tuple[str | None, ErrorReason]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await running.stub.AnalyzeVideo(
                    request(clip, **asked), timeout=SOON, metadata=[("x-caller-id", caller)]
                )
            error = from_rpc_error(caught.value)
            assert isinstance(error, PermissionDenied)
            return error.field, error.reason

        assert await denied("stranger") == (None, ErrorReason.CALLER_NOT_ALLOWED)
        assert await denied("outside") == ("video_uri", ErrorReason.CALLER_NOT_ALLOWED)
        assert await denied("inside", output_uri="s3://results/other") == ("output_uri", ErrorReason.CALLER_NOT_ALLOWED)
        assert await denied("archive", priority=PRIORITY_INTERACTIVE) == ("priority", ErrorReason.CALLER_NOT_ALLOWED)
        for caller in ("inside", "archive"):
            answer = await running.stub.AnalyzeVideo(request(clip), timeout=SOON, metadata=[("x-caller-id", caller)])
            assert answer.chunks


async def test_one_callers_long_videos_leave_a_slot_to_another_caller(clip, tmp_path):
    engine = Engine()
    settings = {"caller_header": "x-caller-id", "max_videos": 4, "allowed_file_roots": [clip.parent]}
    async with system(tmp_path, [engine], **settings) as running:
        engine.release.clear()

        def analysis(caller: str) -> grpc.aio.UnaryUnaryCall:
            return running.stub.AnalyzeVideo(request(clip), timeout=SOON, metadata=[("x-caller-id", caller)])

        many = [analysis("many") for _ in range(6)]
        await until(lambda: running.admission.waiting == 3)
        assert running.admission.running == 3
        one = analysis("one")
        await until(lambda: running.admission.running == 4)
        assert running.admission.waiting == 3
        engine.release.set()
        for call in [one, *many]:
            assert (await call).chunks


async def test_the_banks_of_the_decoders_are_listed(tmp_path):
    async with system(tmp_path) as running:
        async with AsyncClient(running.address) as client:
            (bank,) = await client.list_banks()
        assert running.text_banks is not None
        (loaded,) = running.text_banks.banks()
        assert (bank.name, bank.digest, bank.model_digest) == (loaded.name, loaded.digest, loaded.model_digest)
        assert (bank.tag_count, bank.description_count) == (len(loaded.tags), len(loaded.descriptions))

        def listed() -> list[TextBank]:
            with Client(running.address) as client:
                return client.list_banks()

        assert await asyncio.to_thread(listed) == [bank]


async def test_without_a_decoder_banks_cannot_be_listed(tmp_path):
    async with (
        system(tmp_path, decoder_count=0, replica_wait_seconds=0) as running,
        AsyncClient(running.address) as client,
    ):
        with pytest.raises(Unavailable) as caught:
            await client.list_banks()
        assert caught.value.reason == ErrorReason.DECODER_UNAVAILABLE
