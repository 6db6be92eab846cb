"""Both clients against a real server: every test of what is said in the stream runs with each of them."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from videoanalysis import tensors
from videoanalysis.analysis_options import AnalysisOptions
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    Overloaded,
    ServiceError,
    Unavailable,
    Unimplemented,
)
from videoanalysis.partial_analysis import PartialAnalysis
from videoanalysis.status import status_code, trailing_metadata
from videoanalysis.v1 import analysis_pb2_grpc
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    RedecodeAccepted,
    RedecodeVideoResponse,
    Scene,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.decoder_pb2 import SceneChange, TagScore
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import VideoAnalysis

ROOT = Path(__file__).parents[1]
URI = "s3://bucket/clip.mp4"
Event = StreamAnalyzeVideoResponse


@dataclass
class Call:
    """What a service does in one call: send `events`, then end well, fail, or hang."""

    events: Sequence[Event] = ()
    failure: ServiceError | None = None
    # Fails with a bare code, as gRPC itself does.
    code: grpc.StatusCode | None = None
    words: str = "said without details"
    hangs: bool = False


@dataclass
class Service(analysis_pb2_grpc.VideoAnalysisServiceServicer):
    """Does `calls` one after the other, and the last one ever after."""

    calls: Sequence[Call]
    requests: list[AnalyzeVideoRequest] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def StreamAnalyzeVideo(self, request, context):
        self.tokens.append(request.resume_token)
        async for event in self.perform(request.analysis, context):
            yield event

    async def perform(self, request, context):
        call = self.calls[min(len(self.requests), len(self.calls) - 1)]
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.called.set()
        try:
            for event in call.events:
                yield event
            if call.hangs:
                await asyncio.Event().wait()
        finally:
            self.left.set()
        if call.failure is not None:
            await context.abort(status_code(call.failure), str(call.failure), trailing_metadata(call.failure))
        if call.code is not None:
            await context.abort(call.code, call.words)


@asynccontextmanager
async def serving(
    service: Service, health: health_aio.HealthServicer | None = None, at: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if health is not None:
        add_HealthServicer_to_server(health, server)
    analysis_pb2_grpc.add_VideoAnalysisServiceServicer_to_server(service, server)
    port = server.add_insecure_port(at)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


OF_CLIENTS = {"retry_timeout_seconds", "metadata"}


async def with_async_client(address: str, **arguments: object) -> VideoAnalysis:
    async with AsyncClient(address, **_of_client(arguments)) as client:
        return await client.analyze(URI, **arguments)


async def with_client(address: str, **arguments: object) -> VideoAnalysis:
    of_client = _of_client(arguments)

    def analyze() -> VideoAnalysis:
        with Client(address, **of_client) as client:
            return client.analyze(URI, **arguments)

    return await asyncio.to_thread(analyze)


def _of_client(arguments: dict[str, object]) -> dict[str, object]:
    """The arguments that a client itself takes; removes them from the others."""
    return {name: arguments.pop(name) for name in OF_CLIENTS & arguments.keys()}


STORED = AnalyzeVideoResponse(
    chunks=[ChunkResult(chunk_index=0, embeddings=tensors.to_proto(np.ones((1, 4), np.float16)))]
)


async def redecoded_with_async_client(address: str, **arguments: object) -> VideoAnalysis:
    async with AsyncClient(address, **_of_client(arguments)) as client:
        return await client.redecode(STORED, **arguments)


async def redecoded_with_client(address: str, **arguments: object) -> VideoAnalysis:
    of_client = _of_client(arguments)

    def redecode() -> VideoAnalysis:
        with Client(address, **of_client) as client:
            return client.redecode(STORED, **arguments)

    return await asyncio.to_thread(redecode)


@pytest.fixture(params=[redecoded_with_async_client, redecoded_with_client], ids=["AsyncClient", "Client"])
def redecode(request: pytest.FixtureRequest) -> Iterator[Callable]:
    """redecode(address, retry_timeout_seconds=…, **arguments) of either client."""
    return request.param


@pytest.fixture(params=[with_async_client, with_client], ids=["AsyncClient", "Client"])
def analyze(request: pytest.FixtureRequest) -> Iterator[Callable]:
    """analyze(address, retry_timeout_seconds=…, **arguments) of either client."""
    return request.param


def progress(stage) -> Event:
    return Event(progress=Progress(stage=stage))


def chunk(index: int, start: float, token: bytes = b"") -> Event:
    """Of a chunk with one cut, a second after its start."""
    cut = SceneChange(timestamp_seconds=start + 1, chunk_index=index)
    result = ChunkResult(chunk_index=index, start_seconds=start, duration_seconds=10, scene_changes=[cut])
    return Event(chunk=result, resume_token=token, finished_scenes=[Scene(end_seconds=start + 1)])


def rest() -> Event:
    """The summary of a video that ends at 99 s."""
    return summary(scenes=[Scene(end_seconds=99)])


def summary(**fields: object) -> Event:
    return Event(summary=AnalyzeVideoResponse(**fields))


GOOD = Call([progress(STAGE_WAITING), chunk(0, 0), summary(stream_id="done")])
DRAINING = Unavailable("draining")


async def test_the_answer_is_the_summary_with_the_chunks_put_back(analyze):
    service = Service([Call([chunk(0, 0), chunk(1, 10), summary(stream_id="mine")])])
    async with serving(service) as address:
        analysis = await analyze(address)
    assert analysis.stream_id == "mine"
    assert [found.timestamp_seconds for found in analysis.scene_changes] == [1, 11]
    assert [(found.chunk_index, found.start_seconds) for found in analysis.chunks] == [(0, 0), (1, 10)]
    assert [found.scene_changes[0].timestamp_seconds for found in analysis.chunks] == [1, 11]
    assert [found.start_seconds for found in analysis.message.chunks] == [0, 10]


async def test_options_are_the_fields_of_the_request(analyze):
    service = Service([GOOD])
    async with serving(service) as address:
        await analyze(address, labels=["a", "b"], chunk_duration_seconds=2.5, top_k_tags=None, stream_id="mine")
    wanted = AnalyzeVideoRequest(video_uri=URI, labels=["a", "b"], chunk_duration_seconds=2.5, stream_id="mine")
    assert service.requests == [wanted]


def test_every_field_of_the_request_is_an_option():
    fields = {field.name for field in AnalyzeVideoRequest.DESCRIPTOR.fields}
    assert AnalysisOptions.__optional_keys__ == fields - {"video_uri"}


async def test_what_came_before_a_new_start_on_another_model_is_forgotten(analyze):
    service = Service([Call([chunk(0, 0), chunk(1, 10), chunk(0, 0.5), chunk(1, 10.5), summary()])])
    async with serving(service) as address:
        analysis = await analyze(address)
    assert [found.start_seconds for found in analysis.chunks] == [0.5, 10.5]


async def test_progress_is_received_in_order(analyze):
    received = []
    service = Service([Call([progress(STAGE_WAITING), progress(STAGE_ANALYZING), chunk(0, 0), summary()])])
    async with serving(service) as address:
        await analyze(address, on_progress=lambda progress: received.append(progress.stage))
    assert received == ["waiting", "analyzing"]


async def test_what_a_callback_raises_ends_the_work(analyze):
    service = Service([Call([progress(STAGE_WAITING)], hangs=True)])

    def refuse(_: object) -> None:
        raise KeyError("enough")

    async with serving(service) as address:
        with pytest.raises(KeyError):
            await analyze(address, on_progress=refuse)
        await asyncio.wait_for(service.left.wait(), 10)


async def test_the_services_error_is_raised_as_it_was_there(analyze):
    error = InvalidInput("no video in it", reason=ErrorReason.NOT_A_VIDEO, field="video_uri")
    service = Service([Call([progress(STAGE_WAITING)], error)])
    async with serving(service) as address:
        with pytest.raises(InvalidInput, match="no video in it") as caught:
            await analyze(address)
    assert (caught.value.reason, caught.value.field) == (ErrorReason.NOT_A_VIDEO, "video_uri")
    assert len(service.requests) == 1


async def test_an_answer_without_a_summary_is_no_answer(analyze):
    async with serving(Service([Call([chunk(0, 0)])])) as address:
        with pytest.raises(Unavailable) as caught:
            await analyze(address)
    assert caught.value.reason == ErrorReason.INCOMPLETE_ANSWER


async def test_a_service_that_is_away_is_unavailable(analyze):
    with pytest.raises(Unavailable):
        await analyze("127.0.0.1:9", retry_timeout_seconds=0)


async def test_the_time_limit_ends_the_call(analyze):
    async with serving(Service([Call(hangs=True)])) as address:
        with pytest.raises(DeadlineExceeded, match=r"^the time limit of 0.2 s has passed$"):
            await analyze(address, timeout_seconds=0.2)


async def test_a_stream_that_breaks_starts_again_from_the_beginning(analyze):
    reported = []
    broken = Call([chunk(0, 99), chunk(1, 109)], code=grpc.StatusCode.UNAVAILABLE)
    service = Service([broken, GOOD])
    async with serving(service) as address:
        analysis = await analyze(address, on_retry=lambda error, *_: reported.append(type(error)))
    assert [found.start_seconds for found in analysis.chunks] == [0]
    assert reported == [Unavailable]
    assert service.requests[0] == service.requests[1]
    assert service.requests[0].stream_id


@pytest.mark.parametrize(
    ("field", "options"), [("text_bank", {"text_bank": "\udcff"}), ("labels", {"labels": ["a car", "\udcff"]})]
)
async def test_text_that_is_not_utf8_is_refused_by_the_name_of_its_field(analyze, field, options):
    async with serving(service := Service([])) as address:
        with pytest.raises(InvalidInput, match=f"{field}: .*UTF-8") as caught:
            await analyze(address, **options)
    assert caught.value.field == field
    assert service.requests == []


LOST = grpc.StatusCode.UNAVAILABLE
TOKEN_REFUSALS = [
    (InvalidInput, ErrorReason.TOKEN_FORGED),
    *(
        (FailedPrecondition, reason)
        for reason in (
            ErrorReason.TOKEN_EXPIRED,
            ErrorReason.TOKEN_OF_ANOTHER_CALLER,
            ErrorReason.TOKEN_OF_ANOTHER_REQUEST,
            ErrorReason.OBJECT_CHANGED,
            ErrorReason.MODEL_CHANGED,
            ErrorReason.TEXT_BANK_CHANGED,
        )
    ),
]


def check_whole(analysis: VideoAnalysis, chunks: int) -> None:
    starts = [10.0 * index for index in range(chunks)]
    assert [found.start_seconds for found in analysis.chunks] == starts
    assert [found.timestamp_seconds for found in analysis.scene_changes] == [start + 1 for start in starts]
    assert [found.end_seconds for found in analysis.scenes] == [*(start + 1 for start in starts), 99]


async def test_a_stream_that_breaks_goes_on_behind_the_last_chunk_if_there_is_a_token(analyze):
    reported = []
    service = Service(
        [
            Call([chunk(0, 0, b"one"), chunk(1, 10, b"two")], code=LOST),
            Call([progress(STAGE_WAITING)], code=LOST),
            Call([chunk(2, 20, b"three")], code=LOST),
            Call([chunk(3, 30, b"four"), rest()]),
        ]
    )
    async with serving(service) as address:
        analysis = await analyze(address, on_retry=lambda error, seconds, resumes_at: reported.append(resumes_at))
    check_whole(analysis, 4)
    assert service.tokens == [b"", b"two", b"two", b"three"]
    assert reported == [20, 20, 30]


async def test_a_video_that_gets_ahead_may_be_cut_off_as_often_as_it_takes(analyze):
    calls = [Call([chunk(index, 10 * index, b"%d" % index)], code=LOST) for index in range(12)]
    service = Service([*calls, Call([rest()])])
    async with serving(service) as address:
        check_whole(await analyze(address, retry_timeout_seconds=0.1), 12)
    assert service.tokens == [b"", *(b"%d" % index for index in range(12))]


async def test_an_analysis_without_progress_fails_finally(analyze):
    service = Service([Call([chunk(0, 0, b"one")], code=LOST), Call([progress(STAGE_ANALYZING)], code=LOST)])
    async with serving(service) as address:
        with pytest.raises(Unavailable) as caught:
            await analyze(address, retry_timeout_seconds=0.1)
    assert service.tokens[:3] == [b"", b"one", b"one"]
    assert len(service.tokens) == 5
    assert caught.value.partial.resume_token == b"one"
    assert [received.chunk_index for received in caught.value.partial.chunks] == [0]


@pytest.mark.parametrize(("kind", "reason"), TOKEN_REFUSALS, ids=[reason for _, reason in TOKEN_REFUSALS])
async def test_whose_token_is_refused_starts_from_the_beginning(analyze, kind, reason):
    refusal = Call([progress(STAGE_WAITING), progress(STAGE_DOWNLOADING)], kind("no", reason=reason))
    service = Service(
        [
            Call([chunk(0, 5, b"one"), chunk(1, 15, b"two")], code=LOST),
            refusal,
            Call([chunk(0, 0, b"new one"), chunk(1, 10, b"new two"), rest()]),
        ]
    )
    async with serving(service) as address:
        check_whole(await analyze(address), 2)
    assert service.tokens == [b"", b"two", b""]


async def test_a_video_whose_tokens_are_always_refused_fails_finally_in_spite_of_progress(analyze):
    ahead = Call([chunk(0, 0, b"one")], code=LOST)
    refusal = Call(failure=InvalidInput("no", reason=ErrorReason.TOKEN_FORGED))
    service = Service([ahead, refusal] * 20)
    async with serving(service) as address:
        with pytest.raises(InvalidInput):
            await analyze(address)
    assert service.tokens == [b"", b"one"] * 6


async def test_an_object_that_changes_while_it_is_read_is_an_error_without_a_token(analyze):
    service = Service([Call(failure=FailedPrecondition("changed", reason=ErrorReason.OBJECT_CHANGED))])
    async with serving(service) as address:
        with pytest.raises(FailedPrecondition):
            await analyze(address)
    assert len(service.requests) == 1


async def test_a_new_start_on_another_model_within_a_resumed_call_forgets_what_was_before(analyze):
    service = Service(
        [
            Call([chunk(0, 5, b"one"), chunk(1, 15, b"two")], code=LOST),
            Call([chunk(2, 25, b"three"), chunk(0, 0, b"new one"), chunk(1, 10, b"new two"), rest()]),
        ]
    )
    async with serving(service) as address:
        check_whole(await analyze(address), 2)


async def test_after_a_chunk_without_a_token_there_is_none_to_go_on_with(analyze):
    service = Service([Call([chunk(0, 0, b"one"), chunk(1, 10)], code=LOST), Call([chunk(0, 0), chunk(1, 10), rest()])])
    async with serving(service) as address:
        check_whole(await analyze(address), 2)
    assert service.tokens == [b"", b""]


async def test_a_refusal_for_overload_is_retried_after_the_requested_delay(analyze):
    reported = []
    refused = Call([progress(STAGE_WAITING)], Overloaded("full", retry_after_seconds=0.05))
    service = Service([refused, refused, GOOD])
    async with serving(service) as address:
        analysis = await analyze(
            address, retry_timeout_seconds=0, on_retry=lambda _, seconds, __: reported.append(seconds)
        )
    assert analysis.stream_id == "done"
    assert len(reported) == 2
    assert all(seconds > 0.05 for seconds in reported)


async def test_overload_that_outlasts_the_time_limit_is_raised_at_once(analyze):
    service = Service([Call(failure=Overloaded("full", retry_after_seconds=30))])
    async with serving(service) as address:
        with pytest.raises(Overloaded) as caught:
            await analyze(address, timeout_seconds=20)
    assert caught.value.retry_after_seconds == 30
    assert len(service.requests) == 1


async def test_unavailability_is_final_after_the_retry_timeout_and_not_before_five_calls(analyze):
    service = Service([Call(failure=DRAINING)])
    async with serving(service) as address:
        with pytest.raises(Unavailable, match="draining"):
            await analyze(address, retry_timeout_seconds=0.1)
    assert len(service.requests) == 5


async def test_with_a_retry_timeout_of_0_the_first_failure_is_final(analyze):
    service = Service([Call(failure=DRAINING)])
    async with serving(service) as address:
        with pytest.raises(Unavailable, match="draining"):
            await analyze(address, retry_timeout_seconds=0)
    assert len(service.requests) == 1


async def test_a_service_that_starts_late_is_awaited(analyze):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    refused = asyncio.Event()
    loop = asyncio.get_running_loop()
    analysis = asyncio.ensure_future(
        analyze(address, on_retry=lambda *_: loop.call_soon_threadsafe(refused.set), timeout_seconds=60)
    )
    await asyncio.wait_for(refused.wait(), 10)
    async with serving(Service([GOOD]), at=address):
        assert (await analysis).stream_id == "done"


@pytest.mark.parametrize(
    ("code", "words"), [("UNKNOWN", "Stream removed"), ("INTERNAL", "Received RST_STREAM with error code 2")]
)
async def test_a_connection_that_breaks_in_the_words_of_grpc_is_retried(analyze, code, words):
    service = Service([Call([chunk(0, 0, b"one")], code=grpc.StatusCode[code], words=words), Call([rest()])])
    async with serving(service) as address:
        check_whole(await analyze(address), 1)
    assert service.tokens == [b"", b"one"]


async def test_another_service_is_named_as_such(analyze):
    async with serving(Service([Call(code=grpc.StatusCode.UNIMPLEMENTED)])) as address:
        with pytest.raises(Unimplemented, match="older release"):
            await analyze(address)


async def test_an_interrupted_analysis_continues_in_another_client_from_what_was_written(analyze):
    service = Service([Call([chunk(0, 0, b"one"), chunk(1, 10, b"two")], InvalidInput("no")), Call([rest()])])
    async with serving(service) as address:
        with pytest.raises(InvalidInput) as caught:
            await analyze(address)
        stored = PartialAnalysis.from_json(caught.value.partial.to_json())
        check_whole(await analyze(address, partial=stored), 2)
    assert service.tokens == [b"", b"two"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"resumeToken": 1}', '{"resumeToken": "é"}', '{"resumeToken": "", "chunks": 1}']
)
def test_what_is_no_partial_analysis_is_refused(text):
    with pytest.raises(InvalidInput, match="no partial analysis"):
        PartialAnalysis.from_json(text)


async def test_each_chunk_is_handed_over_as_it_arrives(analyze):
    received = []
    async with serving(Service([Call([chunk(0, 0), chunk(1, 10), rest()])])) as address:
        await analyze(address, on_chunk=received.append)
    assert [found.start_seconds for found in received] == [0, 10]


async def test_metadata_and_trace_context_go_with_each_call(analyze):
    service = Service([Call(failure=DRAINING), GOOD])
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with serving(service) as address:
        await analyze(address, metadata=[("x-team", "films")], traceparent=traceparent)
    assert [sent["x-team"] for sent in service.metadata] == ["films", "films"]
    assert [sent["traceparent"] for sent in service.metadata] == [traceparent, traceparent]


async def test_one_text_in_place_of_labels_is_refused(analyze):
    async with serving(service := Service([])) as address:
        with pytest.raises(TypeError, match="labels"):
            await analyze(address, labels="a car")
    assert service.requests == []


async def test_an_option_that_there_is_not_is_named(analyze):
    with pytest.raises(TypeError, match="top_k"):
        await analyze("127.0.0.1:9", top_k=3)


async def test_a_client_that_is_not_entered_connects_with_its_first_call():
    async with serving(Service([GOOD])) as address:
        client = AsyncClient(address)
        assert (await client.analyze(URI)).stream_id == "done"
        await client.close()
        synchronous = Client(address)
        assert (await asyncio.to_thread(synchronous.analyze, URI)).stream_id == "done"
        synchronous.close()


async def test_interceptors_surround_each_call():
    seen = []

    class Recorder(grpc.UnaryStreamClientInterceptor):
        def intercept_unary_stream(self, continuation, client_call_details, request):
            seen.append(client_call_details.method)
            return continuation(client_call_details, request)

    class AsyncRecorder(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation, client_call_details, request):
            seen.append(client_call_details.method)
            return await continuation(client_call_details, request)

    async with serving(Service([GOOD])) as address:
        async with AsyncClient(address, interceptors=[AsyncRecorder()]) as client:
            await client.analyze(URI)
        with Client(address, interceptors=[Recorder()]) as synchronous:
            await asyncio.to_thread(synchronous.analyze, URI)
    assert [str(method, "ascii") if isinstance(method, bytes) else method for method in seen] == [
        "/videoanalysis.v1.VideoAnalysisService/StreamAnalyzeVideo"
    ] * 2


def test_the_package_names_the_client_and_its_version():
    program = (
        "import videoanalysis; from videoanalysis import Client; print(Client.__name__, videoanalysis.__version__)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert printed == ["Client", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]]


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED"])
async def test_what_would_only_happen_again_is_not_repeated(analyze, code):
    service = Service([Call([chunk(0, 0)], code=grpc.StatusCode[code])])
    async with serving(service) as address:
        with pytest.raises(ServiceError):
            await analyze(address)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "failed",
    [
        Call([progress(STAGE_WAITING), progress(STAGE_ANALYZING)], DRAINING),
        Call([chunk(0, 0)], DRAINING),
        # It may have begun, and be at work still.
        Call(code=grpc.StatusCode.UNAVAILABLE),
    ],
    ids=["at work", "after a chunk", "connection lost"],
)
async def test_what_is_written_elsewhere_is_not_written_twice(analyze, failed):
    service = Service([failed, GOOD])
    async with serving(service) as address:
        with pytest.raises(Unavailable):
            await analyze(address, output_uri="s3://bucket/answer.json")
    assert len(service.requests) == 1


async def test_what_was_refused_before_it_began_is_repeated_although_it_writes(analyze):
    service = Service([Call([progress(STAGE_WAITING)], DRAINING), GOOD])
    async with serving(service) as address:
        await analyze(address, output_uri="s3://bucket/answer.json")
    assert len(service.requests) == 2


# ---- answers from stored embeddings

ACCEPTED = RedecodeVideoResponse(accepted=RedecodeAccepted())
AGAIN = RedecodeVideoResponse(chunk=ChunkResult(chunk_index=0), finished_scenes=[Scene(end_seconds=1)])
REDECODED = Call([ACCEPTED, AGAIN, RedecodeVideoResponse(summary=AnalyzeVideoResponse(stream_id="done"))])


class Redecoder(Service):
    async def RedecodeVideo(self, requests, context):
        header = (await anext(aiter(requests))).header
        async for event in self.perform(header.analysis, context):
            yield event


async def test_redecoding_that_is_refused_for_overload_is_called_again_after_the_delay(redecode):
    delays = []
    service = Redecoder([Call(failure=Overloaded("full", retry_after_seconds=0.05)), REDECODED])
    async with serving(service) as address:
        analysis = await redecode(
            address, retry_timeout_seconds=0, on_retry=lambda _, seconds, __: delays.append(seconds)
        )
    assert analysis.stream_id == "done"
    assert len(delays) == 1
    assert delays[0] > 0.05


@pytest.mark.parametrize("events", [[], [ACCEPTED], [ACCEPTED, AGAIN]], ids=["at once", "accepted", "after a chunk"])
async def test_redecoding_that_breaks_restarts_and_keeps_nothing_of_the_first_call(redecode, events):
    service = Redecoder([Call(events, code=grpc.StatusCode.UNAVAILABLE), REDECODED])
    async with serving(service) as address:
        analysis = await redecode(address)
    assert [found.chunk_index for found in analysis.chunks] == [0]
    assert len(analysis.scenes) == 1
    assert len({request.stream_id for request in service.requests}) == 1


async def test_redecoding_fails_after_the_retry_timeout(redecode):
    service = Redecoder([Call([ACCEPTED], DRAINING)])
    async with serving(service) as address:
        with pytest.raises(Unavailable, match="draining"):
            await redecode(address, retry_timeout_seconds=0)
    assert len(service.requests) == 1


async def test_redecoding_that_is_invalid_is_not_repeated(redecode):
    service = Redecoder([Call(failure=InvalidInput("labels: too many"))])
    async with serving(service) as address:
        with pytest.raises(InvalidInput, match="too many"):
            await redecode(address)
    assert len(service.requests) == 1


async def test_text_of_redecoding_that_is_not_utf8_is_refused_by_the_name_of_its_field(redecode):
    with pytest.raises(InvalidInput, match="text_bank: holds bytes that are not valid UTF-8"):
        await redecode("127.0.0.1:9", text_bank="\udcff")


async def test_one_client_serves_many_analyses_at_once():
    async with serving(Service([GOOD])) as address, AsyncClient(address) as client:
        found = await asyncio.gather(*(client.analyze(URI) for _ in range(8)))
    assert [analysis.stream_id for analysis in found] == ["done"] * 8


async def test_one_client_serves_many_threads_at_once():
    async with serving(Service([GOOD])) as address:
        with Client(address) as client:
            found = await asyncio.gather(*(asyncio.to_thread(client.analyze, URI) for _ in range(8)))
    assert [analysis.stream_id for analysis in found] == ["done"] * 8


async def test_a_channel_brings_its_own_credentials():
    credentials = grpc.ssl_channel_credentials()
    async with connect("127.0.0.1:1") as channel:
        for client in (AsyncClient, Client):
            with pytest.raises(ValueError, match="credentials: they go with an address"):
                client(channel, credentials=credentials)


async def test_the_token_of_each_attempt_goes_with_it():
    for blocking in (False, True):
        service = Service([Call(failure=DRAINING), GOOD])
        current = iter(["first", "second"])
        async with serving(service) as address:
            if blocking:

                def analyze(address: str = address, current: Iterator[str] = current) -> None:
                    with Client(address, token=lambda: next(current)) as client:
                        client.analyze(URI)

                await asyncio.to_thread(analyze)
            else:
                async with AsyncClient(address, token=lambda current=current: next(current)) as client:
                    await client.analyze(URI)
        assert [sent.get("authorization") for sent in service.metadata] == ["Bearer first", "Bearer second"]


async def test_a_channel_of_the_caller_stays_open():
    async with serving(Service([GOOD])) as address:
        async with connect(address) as channel:
            for _ in range(2):
                async with AsyncClient(channel) as client:
                    await client.analyze(URI)
        with grpc.insecure_channel(address) as channel:
            for _ in range(2):
                with Client(channel) as client:
                    await asyncio.to_thread(client.analyze, URI)


async def test_a_caller_that_is_cancelled_leaves_the_service():
    service = Service([Call([progress(STAGE_WAITING)], hangs=True)])
    async with serving(service) as address:
        waiting = asyncio.create_task(with_async_client(address))
        await asyncio.wait_for(service.called.wait(), 10)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await asyncio.wait_for(service.left.wait(), 10)


async def reaches(client: AsyncClient) -> bool:
    """Whether a call gets as far as to a service that hangs."""
    with pytest.raises((DeadlineExceeded, Unavailable)) as caught:
        await client.analyze(URI, timeout_seconds=0.2)
    return caught.type is DeadlineExceeded


async def test_a_draining_service_finishes_its_calls_and_gets_no_new_ones():
    release = asyncio.Event()

    class Draining(Service):
        async def StreamAnalyzeVideo(self, request, context):
            self.requests.append(request.analysis)
            yield progress(STAGE_WAITING)
            await release.wait()
            yield summary(stream_id="done")

    service, health = Draining([]), health_aio.HealthServicer()
    await health.set("readiness", HealthCheckResponse.SERVING)
    async with serving(service, health) as address, AsyncClient(address, retry_timeout_seconds=0) as client:
        under_way = asyncio.Event()
        call = asyncio.create_task(client.analyze(URI, on_progress=lambda _: under_way.set()))
        await asyncio.wait_for(under_way.wait(), 10)
        await health.set("readiness", HealthCheckResponse.NOT_SERVING)
        # Once word of it has come.
        while await reaches(client):
            assert len(service.requests) < 50
        release.set()
        assert (await asyncio.wait_for(call, 10)).stream_id == "done"


async def test_a_client_that_is_closed_ends_what_is_under_way():
    service = Service([Call([progress(STAGE_WAITING)], hangs=True)])
    async with serving(service) as address:
        received = threading.Event()
        with Client(address, retry_timeout_seconds=0) as client:
            under_way = asyncio.create_task(
                asyncio.to_thread(client.analyze, URI, on_progress=lambda _: received.set())
            )
            assert await asyncio.to_thread(received.wait, 10)
        with pytest.raises(ServiceError):
            await asyncio.wait_for(under_way, 10)
        await asyncio.wait_for(service.left.wait(), 10)


async def test_what_the_readme_shows_works(capfd):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    tags = [TagScore(text="a beach", probability=0.5)]
    changes = [SceneChange(cut_seconds=3.4)]
    async with serving(Service([Call([summary(tags=tags, scene_changes=changes)])])) as address:
        assert "ingress:50051" in program
        await asyncio.to_thread(exec, program.replace("ingress:50051", address), {})
    assert capfd.readouterr().out == " 50.0%  a beach\n    3.40 s\n"


def test_needs_nothing_of_the_services():
    heavy = {"torch", "av", "moto", "aiobotocore", "transformers", "numpy", "structlog", "pydantic"}
    program = f"import sys, videoanalysis.client; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "[]"
