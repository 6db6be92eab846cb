"""The story of one video over fakes of sampling, encoders and decoders: order, bounds, restarts, and what is freed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction

import numpy as np
import pytest

from services.ingress.admission import Admission, ByteBudget, Caller, Deadline, Demand
from services.ingress.dispatch import EncodedChunk, NoLongerServed
from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.job import AnalysisJob, read_request
from services.ingress.pipeline import Pipeline
from services.ingress.resume import ResumeTokens, Resumption
from services.ingress.sampling import FrameBuffer, LargestChange, Media, SampledChunk, SamplingSpec, VideoEnd
from services.ingress.sources.media import WholeMedia
from services.ingress.video_run import Resources
from tests.ingress.waiting import until
from videoanalysis import tensors
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Unavailable
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    Scene,
)
from videoanalysis.v1.decoder_pb2 import (
    DecodeChunkRequest,
    DecodeChunkResponse,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
    SceneChange,
    SceneState,
    TextBankInfo,
    TextRanking,
)
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FRAMES, SECONDS, SIZE, DIMENSIONS = 2, 4, 8, 3
CHUNK_BYTES = FRAMES * SIZE * SIZE * 3
UNIT = np.array([1, 0, 0], np.float32)
TOKENS = ResumeTokens([b"k" * 32])


class FakeSource:
    """A file of five bytes, at one version."""

    def __init__(self, version: str = "version 1") -> None:
        self.version = version
        self.is_open = False

    @asynccontextmanager
    async def open(self, on_progress, check_version) -> AsyncIterator[Media]:
        check_version(self.version)
        fd = os.memfd_create("video")
        os.write(fd, b"video")
        self.is_open = True
        try:
            await on_progress(5, 5)
            yield WholeMedia.of(fd, version=self.version)
        finally:
            self.is_open = False
            os.close(fd)


class FakeSampledVideo:
    """`chunks` chunks, each with a cut that is not exact before its second frame."""

    def __init__(self, chunks: int, spec: SamplingSpec) -> None:
        self.spec = spec
        self.claimed_duration_seconds = float(chunks * SECONDS)
        self.end: VideoEnd | None = None
        self.frames_decoded, self.frames_searched, self.decode_failures = 7, 5, 1
        self._chunks = chunks
        self.next_index = spec.first_chunk
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def next_chunk(self, buffer: FrameBuffer) -> SampledChunk | None:
        assert buffer.size == CHUNK_BYTES
        if self.next_index == self._chunks:
            self.end = VideoEnd(Fraction(self._chunks * SECONDS), self.decode_failures, self.frames_decoded)
            return None
        start = Fraction(self.next_index * SECONDS)
        self.next_index += 1
        times = (start, start + SECONDS // 2)
        cut = LargestChange(before=start, at=start + 2, exact=False, confidence=0.5)
        return SampledChunk(self.next_index - 1, start, Fraction(SECONDS), times, (0, 1), (None, cut))

    async def refine(self, cut: LargestChange) -> LargestChange:
        return LargestChange(before=cut.at - 1, at=cut.at - Fraction(1, 2), exact=True, confidence=0.9)


class FakeSampling:
    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        self.videos: list[FakeSampledVideo] = []

    @asynccontextmanager
    async def sample(self, media: Media, spec: SamplingSpec) -> AsyncIterator[FakeSampledVideo]:
        assert os.pread(media.fd, 5, 0) == b"video"
        video = FakeSampledVideo(self._chunks, spec)
        self.videos.append(video)
        yield video
        video.is_open = False


class FakeEncoders:
    """Serves `models` in turn, the next one whenever `encode` has raised NoLongerServed."""

    def __init__(self, encode: Callable[[int, str], object] = lambda index, model: None) -> None:
        self.cold_start = ColdStart()
        self.models = ["model a", "model b"]
        self._encode = encode
        self.started: list[int] = []
        self.released = asyncio.Event()
        self.released.set()

    async def model(self, deadline: Deadline, other_than: object) -> ModelInfo:
        return ModelInfo(digest=self.models[0], image_size=SIZE, embedding_dim=DIMENSIONS)

    async def model_again(self, digest: str, deadline: Deadline) -> ModelInfo:
        if digest != self.models[0]:
            raise NoLongerServed("another model")
        return await self.model(deadline, ())

    async def encode(self, frames, count, chunk_key, model, deadline, share) -> EncodedChunk:
        index = int(chunk_key.rpartition("/")[2])
        self.started.append(index)
        await self.released.wait()
        outcome = self._encode(index, model.digest)
        if isinstance(outcome, Exception):
            if isinstance(outcome, NoLongerServed):
                self.models = [served for served in self.models if served != model.digest]
            raise outcome
        if outcome is not None:
            await outcome
        return EncodedChunk(np.tile(UNIT, (count, 1)), 0.25)


class FakeDecoders:
    """Every chunk has a scene change at its second frame."""

    def __init__(self) -> None:
        self.decoded: list[DecodeChunkRequest] = []
        self.bank = TextBankInfo(name="default", digest="bank 1")

    async def text_bank(
        self, name: str, model_digest: str, deadline: Deadline, *, labels_suffice: bool
    ) -> TextBankInfo:
        return self.bank

    async def decode(self, request: DecodeChunkRequest, deadline: Deadline) -> DecodeChunkResponse:
        self.decoded.append(request)
        return DecodeChunkResponse(
            pooled_embedding=tensors.to_proto(UNIT),
            scene_changes=[
                SceneChange(
                    timestamp_seconds=request.frame_times_seconds[1], chunk_index=request.chunk_index, frame_index=1
                )
            ],
            ema_state=SceneState(
                ema=tensors.to_proto(UNIT), last_frame_seconds=request.frame_times_seconds[1], last_event_seconds=1
            ),
        )

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse:
        return RankTextsResponse(rankings=[TextRanking() for _ in tensors.from_proto(request.embeddings)])

    async def rank_video(self, request: RankVideoRequest, deadline: Deadline) -> RankVideoResponse:
        return RankVideoResponse()


class Events:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.opened_with: list[tuple[float, str, str]] = []
        self.stages: list[int] = []
        self.chunks: list[ChunkResult] = []
        self.tokens: list[bytes] = []

    async def opened(self, claimed_duration_seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self.opened_with.append((claimed_duration_seconds, model.digest, text_bank.digest))
        self.chunks.clear()

    async def progress(self, progress: Progress) -> None:
        self.stages.append(progress.stage)

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        self.chunks.append(result)
        self.tokens.append(resume_token)

    @property
    def indices(self) -> list[int]:
        return [chunk.chunk_index for chunk in self.chunks]


class Bench:
    """One pipeline with its fakes, and an observer."""

    def __init__(
        self, chunks: int = 3, encoders: FakeEncoders | None = None, *, chunks_ahead: int = 4, buffers: int = 100
    ) -> None:
        self.source = FakeSource()
        self.sampling = FakeSampling(chunks)
        self.encoders = encoders or FakeEncoders()
        self.decoders = FakeDecoders()
        self.budget = ByteBudget(buffers * CHUNK_BYTES)
        self.admission = Admission(2, 8)
        self.demand = Demand()
        self.events = Events()
        resources = Resources(
            self.sampling, self.budget, self.encoders, self.decoders, SIZE, chunks_ahead, 10_000, 3600
        )
        self.pipeline = Pipeline(resources, self.admission, self.demand)

    async def analyze(
        self, *, seconds: float = 30, start: Resumption | None = None, observer: object = None
    ) -> AnalyzeVideoResponse:
        job = self.job(seconds)
        tokens = TOKENS.of("", "s3://a/b", job.request)
        return await self.pipeline.analyze(job, observer or self.events, tokens, start)

    def job(self, seconds: float = 30) -> AnalysisJob:
        request = AnalyzeVideoRequest(stream_id="camera", frames_per_chunk=FRAMES, chunk_duration_seconds=SECONDS)
        return AnalysisJob(read_request(request), self.source, Caller("", "host"), Deadline.after(seconds))

    def resumption(self, token: bytes) -> Resumption:
        return TOKENS.of("", "s3://a/b", self.job().request).read(token)

    def is_at_rest(self) -> bool:
        return not (
            self.budget.in_use
            or self.admission.running
            or self.admission.waiting
            or self.demand.ingress
            or self.demand.encoder
            or self.demand.decoder
            or self.source.is_open
        )


async def test_the_answer_is_that_of_all_chunks():
    bench = Bench(chunks=3)
    answer = await bench.analyze()
    assert bench.events.opened_with == [(12.0, "model a", "bank 1")]
    assert bench.events.indices == [0, 1, 2]
    assert answer.stream_id == "camera"
    assert answer.video_duration_seconds == 12
    assert (answer.model.digest, answer.text_bank.digest) == ("model a", "bank 1")
    assert (answer.usage.bytes_read, answer.usage.frames_decoded, answer.usage.accelerator_seconds) == (5, 7, 0.75)
    assert answer.decode_failures == 1
    assert bench.events.stages == [STAGE_WAITING, STAGE_DOWNLOADING, *[STAGE_ANALYZING] * 3]
    assert bench.is_at_rest()


async def test_chunks_are_delivered_in_order_whichever_is_encoded_first():
    done: list[int] = []
    last_encoded = asyncio.Event()

    async def encode(index: int) -> None:
        if index == 3:
            last_encoded.set()
        else:
            await last_encoded.wait()
        done.append(index)

    bench = Bench(chunks=4, encoders=FakeEncoders(lambda index, model: encode(index)))
    await bench.analyze()
    assert done[0] == 3
    assert bench.events.indices == [request.chunk_index for request in bench.decoders.decoded] == [0, 1, 2, 3]


async def test_the_scene_state_of_each_chunk_goes_to_the_next():
    bench = Bench(chunks=3)
    await bench.analyze()
    states = [
        request.ema_state.last_frame_seconds for request in bench.decoders.decoded if request.HasField("ema_state")
    ]
    assert states == [2, 6]
    assert not bench.decoders.decoded[0].HasField("ema_state")


async def test_a_scene_change_is_placed_at_the_cut_that_sampling_finds():
    bench = Bench(chunks=1)
    await bench.analyze()
    (change,) = bench.events.chunks[0].scene_changes
    assert (change.timestamp_seconds, change.cut_seconds) == (2, 1.5)
    assert change.cut_confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("chunks_ahead", "buffers", "most"),
    # One chunk is delivered and one waits to be queued while the queue holds those ahead.
    [(1, 100, 3), (4, 100, 6), (4, 2, 2)],
    ids=["by a short queue", "by a longer queue", "by memory"],
)
async def test_chunks_in_flight_are_bounded(chunks_ahead, buffers, most):
    bench = Bench(chunks=20, chunks_ahead=chunks_ahead, buffers=buffers)
    bench.encoders.released.clear()
    call = asyncio.create_task(bench.analyze())
    await until(lambda: len(bench.encoders.started) == most)
    for _ in range(100):  # whatever could go on has had its turn
        await asyncio.sleep(0)
    assert len(bench.encoders.started) == most
    assert bench.demand.encoder == most
    bench.encoders.released.set()
    await call
    assert bench.events.indices == list(range(20))


async def test_a_video_restarts_on_another_model_when_its_own_is_no_longer_served():
    encoders = FakeEncoders(
        lambda index, model: NoLongerServed("replaced") if (index, model) == (1, "model a") else None
    )
    bench = Bench(chunks=3, encoders=encoders)
    answer = await bench.analyze()
    assert [model for _, model, _ in bench.events.opened_with] == ["model a", "model b"]
    assert bench.events.indices == [0, 1, 2]
    assert answer.model.digest == "model b"
    assert {request.ranking.model_digest for request in bench.decoders.decoded[-3:]} == {"model b"}
    assert not bench.decoders.decoded[-3].HasField("ema_state")
    # The chunk encoded before the restart counts too.
    assert answer.usage.accelerator_seconds == 0.25 * len(bench.decoders.decoded)
    assert bench.is_at_rest()


async def test_a_video_restarts_once_at_most():
    bench = Bench(encoders=FakeEncoders(lambda index, model: NoLongerServed("replaced")))
    with pytest.raises(NoLongerServed):
        await bench.analyze()
    assert len(bench.sampling.videos) == 2
    assert bench.is_at_rest()


async def test_a_cancelled_analysis_frees_everything():
    bench = Bench(chunks=9)
    bench.encoders.released.clear()
    call = asyncio.create_task(bench.analyze())
    await until(lambda: len(bench.encoders.started) == 6)
    assert not bench.is_at_rest()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.is_at_rest()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("error", [Unavailable("no encoder"), InvalidInput("bad"), KeyError("a bug")])
async def test_an_error_of_a_stage_is_raised_as_it_is_and_frees_everything(error):
    bench = Bench(chunks=9, encoders=FakeEncoders(lambda index, model: error if index == 2 else None))
    with pytest.raises(type(error)) as caught:
        await bench.analyze()
    assert caught.value is error
    assert bench.is_at_rest()


async def test_an_error_of_the_observer_ends_the_analysis():
    class Full(Events):
        async def chunk(self, result, finished_scenes, resume_token) -> None:
            raise InvalidInput("too large")

    bench = Bench(chunks=9)
    with pytest.raises(InvalidInput, match="too large"):
        await bench.analyze(observer=Full())
    assert bench.is_at_rest()


async def test_the_deadline_ends_an_analysis_that_waits():
    bench = Bench()
    bench.encoders.released.clear()
    with pytest.raises(DeadlineExceeded):
        await bench.analyze(seconds=0.2)
    assert bench.is_at_rest()


async def test_each_chunk_has_a_token_behind_which_the_video_goes_on():
    whole = Bench(chunks=4)
    await whole.analyze()
    assert [whole.resumption(token).state.next_chunk for token in whole.events.tokens] == [1, 2, 3, 4]

    resumed = Bench(chunks=4)
    answer = await resumed.analyze(start=resumed.resumption(whole.events.tokens[1]))
    # The six seconds before chunk 2 are sampled again for the cuts, and not encoded.
    assert resumed.sampling.videos[0].spec.first_chunk == 0
    assert resumed.encoders.started == resumed.events.indices == [2, 3]
    assert resumed.decoders.decoded[0].ema_state == whole.decoders.decoded[2].ema_state
    assert answer.video_duration_seconds == 16
    assert answer.usage.accelerator_seconds == 1.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda bench: setattr(bench, "source", FakeSource("version 2")), ErrorReason.OBJECT_CHANGED),
        (lambda bench: bench.encoders.models.pop(0), ErrorReason.MODEL_CHANGED),
        (lambda bench: setattr(bench.decoders, "bank", TextBankInfo(digest="bank 2")), ErrorReason.TEXT_BANK_CHANGED),
    ],
    ids=["object", "model", "text bank"],
)
async def test_a_token_is_refused_once_what_it_depends_on_has_changed(change, reason):
    whole = Bench()
    await whole.analyze()
    resumed = Bench()
    change(resumed)
    with pytest.raises(FailedPrecondition) as caught:
        await resumed.analyze(start=resumed.resumption(whole.events.tokens[0]))
    assert caught.value.reason == reason
    assert resumed.encoders.started == []
    assert resumed.is_at_rest()


async def test_every_instant_belongs_to_one_part_of_the_timing():
    bench = Bench(chunks=3)
    bench.encoders.released.clear()
    call = asyncio.create_task(bench.analyze())
    await until(lambda: len(bench.encoders.started) == 3)
    await asyncio.sleep(0.1)
    bench.encoders.released.set()
    timing = (await call).timing
    stages = (timing.download, timing.sample, timing.encode, timing.decode)
    parts = sum(stage.queue_seconds + stage.compute_seconds for stage in stages)
    assert parts + timing.unattributed_seconds == pytest.approx(timing.total_seconds)
    assert timing.unattributed_seconds <= 0.02 * timing.total_seconds
    # The encoder reports 0.25 s of computation a chunk, more than has passed: only what has passed is counted.
    assert timing.encode.queue_seconds + timing.encode.compute_seconds >= 0.1
