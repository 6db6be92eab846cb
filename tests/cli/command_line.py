"""The command line within the process of a test, and a service for it with scripted answers."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from typer.testing import CliRunner, Result

from videoanalysis.cli import app
from videoanalysis.errors import ServiceError
from videoanalysis.status import status_code, trailing_metadata
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    ListBanksResponse,
    Progress,
    Scene,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceServicer, add_VideoAnalysisServiceServicer_to_server
from videoanalysis.v1.decoder_pb2 import CaptionScore, TagScore, TextBankInfo

COMMAND = Path(sys.executable).with_name("videoanalysis")
FOREIGN = ("AWS_", "INGRESS_", "ENCODER_", "DECODER_", "VIDEOANALYSIS_")


def call(*arguments: object, **variables: str) -> Result:
    """What `videoanalysis` does with `arguments`."""
    foreign = {name: None for name in os.environ if name.startswith(FOREIGN)}
    environment = {**foreign, "COLUMNS": "120", **variables}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


@dataclass
class FakeService(VideoAnalysisServiceServicer):
    """Answers the requests for each video with its failure, or with a scene."""

    failures: dict[str, ServiceError] = field(default_factory=dict)
    # Fails after the first chunk, instead of before it.
    fails_late: bool = False
    # After the first chunk and the progress that follows it.
    hangs: bool = False
    tokens: list[bytes] = field(default_factory=list)
    banks: list[TextBankInfo] = field(default_factory=list)
    requests: list[AnalyzeVideoRequest] = field(default_factory=list)

    def StreamAnalyzeVideo(self, request, context) -> Iterator[StreamAnalyzeVideoResponse]:
        self.requests.append(request.analysis)
        self.tokens.append(request.resume_token)
        failure = self.failures.get(request.analysis.video_uri)
        if failure and not self.fails_late:
            self._fail(context, failure)
        if not request.resume_token:
            chunk = ChunkResult(duration_seconds=6, frame_times_seconds=[0, 3])
            yield StreamAnalyzeVideoResponse(chunk=chunk, resume_token=b"token")
        if failure:
            self._fail(context, failure)
        if self.hangs:
            yield StreamAnalyzeVideoResponse(progress=Progress(stage=STAGE_ANALYZING, analyzed_seconds=6))
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        yield StreamAnalyzeVideoResponse(summary=answer(request.analysis.video_uri))

    def ListBanks(self, request, context) -> ListBanksResponse:
        return ListBanksResponse(text_banks=self.banks)

    def _fail(self, context: grpc.ServicerContext, failure: ServiceError) -> None:
        context.set_trailing_metadata(trailing_metadata(failure))
        context.abort(status_code(failure), failure.message)


def answer(tag: str) -> AnalyzeVideoResponse:
    """Of a video with one scene, whose tag is `tag`."""
    scene = Scene(end_seconds=6, tags=[TagScore(text=tag)], caption=CaptionScore(text="Waves"))
    return AnalyzeVideoResponse(
        scenes=[scene], tags=[TagScore(text=tag, probability=0.5)], video_duration_seconds=6, stream_id="id"
    )


@contextmanager
def serving(
    service: VideoAnalysisServiceServicer | None, handlers: Sequence[grpc.GenericRpcHandler] = ()
) -> Iterator[str]:
    """The address of `service`; without one, of a server that has other services."""
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=handlers)
        if service is not None:
            add_VideoAnalysisServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()
