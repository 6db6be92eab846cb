"""What a video makes of answers that no honest worker gives."""

import json
import tempfile
from fractions import Fraction
from typing import Any

import pytest

from services.ingress.admission import ByteBudget
from services.ingress.sampling import FrameBuffer, LargestChange, SampledVideo, SamplingSpec, WholeFile, WorkerLimits
from services.ingress.sampling.worker_process import WorkerProcess
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

LIMITS = WorkerLimits(
    memory_bytes=1 << 20,
    cpu_seconds=60,
    stall_seconds=60,
    max_pixels=1 << 20,
    max_video_seconds=60,
    max_packets=1000,
)
SPEC = SamplingSpec(frames_per_chunk=2, chunk_duration=Fraction(10), image_size=8)
OPENED = {"opened": {"claimed_duration_seconds": 1.0, "memory_bytes": 1 << 20}}
CHANGE = {"before": [0, 1], "at": [1, 2], "exact": False, "confidence": 0.5}
CHUNK = {
    "index": 0,
    "start": [0, 1],
    "duration": [1, 1],
    "frame_times": [[0, 1], [1, 2]],
    "frame_indices": [0, 1],
    "largest_changes": [None, CHANGE],
    "cuts": [[[1, 2], [1, 4], 0.3, True]],
    "transitions": [[[0, 1], [1, 4], "fade"]],
    "all_decoded": False,
}
END = {"duration": [1, 1], "decode_failures": 0, "frames_decoded": 2, "frames_dropped": 0}


class Workers:
    """Starts a process with scripted answers for every video."""

    cores_per_video = 1

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = json.dumps(answers)
        self.started: list[WorkerProcess] = []

    async def acquire(self) -> WorkerProcess:
        worker = WorkerProcess("tests.ingress.sampling.lying_worker", [self._answers])
        self.started.append(worker)
        await worker.ready()
        return worker

    def release(self, worker: WorkerProcess) -> None:
        worker.kill()

    async def close(self) -> None:
        for worker in self.started:
            worker.kill()
            await worker.exited()
            worker.close()


async def answered(answers: dict[str, Any]) -> tuple[Any, Any, int]:
    """The chunk, its last cut refined, and how many workers it took; or the refusal."""
    workers = Workers({"open": OPENED, "refine": {}, **answers})
    buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
    with tempfile.TemporaryFile() as file:
        video = SampledVideo(workers, ByteBudget(1 << 30), WholeFile.of(file.fileno()), SPEC, LIMITS)
        try:
            chunk = await video.next_chunk(buffer)
            cut = chunk and chunk.largest_changes[-1]
            return chunk or video.end, cut and await video.refine(cut), len(workers.started)
        except InvalidInput as refusal:
            return refusal, None, len(workers.started)
        finally:
            video.close()
            buffer.close()
            await workers.close()


async def test_an_honest_answer_is_taken() -> None:
    refined = {"refined": {**CHANGE, "exact": True}, "frames_decoded": 3, "frames_searched": 1}
    chunk, cut, workers = await answered({"next": {"chunk": CHUNK, "decode_failures": 0}, "refine": refined})
    assert chunk.frame_times == (0, Fraction(1, 2))
    assert cut == LargestChange(Fraction(0), Fraction(1, 2), exact=True, confidence=0.5)
    assert workers == 1
    end, _, _ = await answered({"next": {"end": END}})
    assert end.duration == 1


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"chunk": {}, "decode_failures": 0},
        {"chunk": CHUNK, "decode_failures": -1},
        {"chunk": CHUNK, "decode_failures": None},
        {"chunk": {**CHUNK, "index": 1}, "decode_failures": 0},
        {"chunk": {**CHUNK, "frame_indices": [0, 1, 2]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "frame_indices": [], "frame_times": [], "largest_changes": []}, "decode_failures": 0},
        {"chunk": {**CHUNK, "start": [1, 0]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "duration": [10**300, 1]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "largest_changes": [None, {**CHANGE, "confidence": float("nan")}]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "largest_changes": [None, "change"]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "cuts": [None]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "cuts": [[[1, 2], [1, 4], float("nan"), True]]}, "decode_failures": 0},
        {"chunk": {**CHUNK, "transitions": [[[0, 1], [1, 4], "jump"]]}, "decode_failures": 0},
        {"end": {**END, "duration": "long"}},
        {"end": {**END, "frames_decoded": float("inf")}},
        {"error": "none"},
    ],
    ids=str,
)
async def test_a_malformed_answer_ends_the_worker_and_the_second_one_the_video(answer: dict[str, Any]) -> None:
    refusal, _, workers = await answered({"next": answer})
    assert refusal.reason == ErrorReason.DECODER_CRASHED
    assert workers == 2


@pytest.mark.parametrize("opened", [{}, {"opened": {"claimed_duration_seconds": "x", "memory_bytes": 1}}])
async def test_so_does_a_malformed_answer_to_opening(opened: dict[str, Any]) -> None:
    refusal, _, workers = await answered({"open": opened})
    assert (refusal.reason, workers) == (ErrorReason.DECODER_CRASHED, 2)


@pytest.mark.parametrize(
    "refined", [{}, {"refined": CHANGE}, {"refined": {}, "frames_decoded": 1, "frames_searched": 1}]
)
async def test_a_cut_whose_refinement_cannot_be_read_stays_as_it_is(refined: dict[str, Any]) -> None:
    chunk, cut, _ = await answered({"next": {"chunk": CHUNK, "decode_failures": 0}, "refine": refined})
    assert cut == chunk.largest_changes[-1]


async def test_a_reason_that_is_not_one_of_a_worker_s_is_not_passed_on() -> None:
    refusal, _, _ = await answered({"next": {"error": {"reason": ErrorReason.TOKEN_FORGED, "message": "x"}}})
    assert refusal.reason == ErrorReason.NOT_A_VIDEO
