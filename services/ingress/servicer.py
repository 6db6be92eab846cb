"""VideoAnalysisService: messages to values, the pipeline, values to messages."""

import grpc
import structlog

from services.ingress import metrics
from services.ingress.admission.caller import Caller
from services.ingress.admission.deadline import Deadline
from services.ingress.answer.observers import StreamWriter, UnaryCollector
from services.ingress.answer.outputs import Outputs
from services.ingress.answer.size import check_unary
from services.ingress.job import AnalysisJob, read_job
from services.ingress.pipeline import Pipeline
from services.ingress.resume.token import RequestTokens, ResumeTokens, Resumption
from services.ingress.sources import Sources
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    StreamAnalyzeVideoRequest,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceServicer
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()


class VideoAnalysisServicer(VideoAnalysisServiceServicer):
    """Requests without a deadline, or with a later one, get one in `max_request_seconds`."""

    def __init__(
        self,
        pipeline: Pipeline,
        sources: Sources,
        outputs: Outputs,
        *,
        tokens: ResumeTokens,
        max_request_seconds: float,
        caller_header: str,
    ) -> None:
        self._pipeline = pipeline
        self._sources = sources
        self._outputs = outputs
        self._tokens = tokens
        self._max_request_seconds = max_request_seconds
        self._caller_header = caller_header

    async def AnalyzeVideo(
        self, request: AnalyzeVideoRequest, context: grpc.aio.ServicerContext
    ) -> AnalyzeVideoResponse:
        analysis = _read(request)
        output = self._outputs.locate(request.output_uri)
        observer = UnaryCollector(analysis)
        caller = Caller.of(context, self._caller_header)
        summary = await self._analyze(request.video_uri, analysis, caller, context, observer)
        answer = _whole(summary, observer)
        check_unary(answer.ByteSize())
        if output is not None:
            await self._outputs.write(output, answer)
        return answer

    async def StreamAnalyzeVideo(self, request: StreamAnalyzeVideoRequest, context: grpc.aio.ServicerContext) -> None:
        analysis = _read(request.analysis)
        output = self._outputs.locate(request.analysis.output_uri)
        observer = StreamWriter(context, keep=output is not None)
        video_uri, caller = request.analysis.video_uri, Caller.of(context, self._caller_header)
        tokens, start = None, None
        if output is None:
            tokens = self._tokens.of(caller.identity, video_uri, analysis)
            start = tokens.read(request.resume_token) if request.resume_token else None
        elif request.resume_token:
            raise InvalidInput(
                "resume_token: an analysis with an output_uri cannot be resumed; start from the beginning",
                reason=ErrorReason.NOT_RESUMABLE,
                field="resume_token",
            )
        summary = await self._analyze(video_uri, analysis, caller, context, observer, tokens, start)
        if output is not None:
            await self._outputs.write(output, _whole(summary, observer))
        await context.write(StreamAnalyzeVideoResponse(summary=summary))

    async def _analyze(
        self,
        video_uri: str,
        analysis: AnalysisJob,
        caller: Caller,
        context: grpc.aio.ServicerContext,
        observer: UnaryCollector | StreamWriter,
        tokens: RequestTokens | None = None,
        start: Resumption | None = None,
    ) -> AnalyzeVideoResponse:
        deadline = Deadline.of(context, self._max_request_seconds)
        source = self._sources.locate(video_uri)
        summary = await self._pipeline.analyze(source, analysis, caller, deadline, observer, tokens, start)
        metrics.analysed(summary)
        _log.info(
            "analysed",
            from_chunk=start.checkpoint.next_chunk if start else 0,
            seconds=round(summary.timing.total_seconds, 3),
            video_seconds=round(summary.video_duration_seconds, 3),
            scene_changes=len(summary.scene_changes),
            decode_failures=summary.decode_failures,
        )
        return summary


def _read(request: AnalyzeVideoRequest) -> AnalysisJob:
    analysis = read_job(request)
    # Stays bound to the end of the call, so that the line of a failed call has it too.
    structlog.contextvars.bind_contextvars(stream_id=analysis.stream_id)
    return analysis


def _whole(summary: AnalyzeVideoResponse, observer: UnaryCollector | StreamWriter) -> AnalyzeVideoResponse:
    """The answer with its chunks, in a message of its own."""
    answer = AnalyzeVideoResponse()
    answer.CopyFrom(summary)
    answer.chunks.extend(observer.chunks)
    return answer
