"""VideoAnalysisService: converts messages to a job, runs the pipeline and converts its answer to messages."""

from collections.abc import AsyncIterator
from dataclasses import replace

import grpc

from services.ingress import metrics
from services.ingress.admission import Deadline, current_caller
from services.ingress.answer import Observer, Observers, Outputs, RedecodedWriter, StreamWriter, UnaryCollector
from services.ingress.job import AnalysisJob, read_request
from services.ingress.pipeline import Pipeline
from services.ingress.resume import RequestTokens, ResumeTokens, Resumption
from services.ingress.sources import Sources
from services.ingress.stored_video import StoredJob, check_model
from videoanalysis import call_log
from videoanalysis.errors import InvalidInput, Violations
from videoanalysis.storage import S3Uri
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    ListBanksRequest,
    ListBanksResponse,
    RedecodeVideoRequest,
    StreamAnalyzeVideoRequest,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceServicer
from videoanalysis.v1.error_reason_pb2 import ErrorReason


class VideoAnalysisServicer(VideoAnalysisServiceServicer):
    """A request without a deadline, or with a later one, gets one of `max_request_seconds`.

    Streams are never silent for longer than `heartbeat_seconds`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        sources: Sources,
        outputs: Outputs,
        *,
        tokens: ResumeTokens,
        max_request_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        self._pipeline = pipeline
        self._sources = sources
        self._outputs = outputs
        self._tokens = tokens
        self._max_request_seconds = max_request_seconds
        self._heartbeat_seconds = heartbeat_seconds

    async def AnalyzeVideo(
        self, request: AnalyzeVideoRequest, context: grpc.aio.ServicerContext
    ) -> AnalyzeVideoResponse:
        job, output = self._job(request, context)
        collector = UnaryCollector(job.request)
        async with self._outputs.open(output) as document:
            summary = await self._analyze(job, Observers(collector, document))
            answer = collector.answer(summary)
            await document.finish(summary)
        return answer

    async def StreamAnalyzeVideo(self, request: StreamAnalyzeVideoRequest, context: grpc.aio.ServicerContext) -> None:
        job, output = self._job(request.analysis, context)
        writer = StreamWriter(context.write, self._heartbeat_seconds)
        tokens, start = None, None
        if output is None:
            tokens = self._tokens.of(job.caller.identity, request.analysis.video_uri, job.request)
            start = tokens.read(request.resume_token) if request.resume_token else None
        elif request.resume_token:
            raise InvalidInput(
                "resume_token: an analysis with an output_uri cannot be resumed; start from the beginning",
                reason=ErrorReason.NOT_RESUMABLE,
                field="resume_token",
            )
        async with writer.heartbeat(), self._outputs.open(output) as document:
            summary = await self._analyze(job, Observers(writer, document), tokens, start)
            await document.finish(summary)
        await writer.summary(summary)

    async def RedecodeVideo(
        self, requests: AsyncIterator[RedecodeVideoRequest], context: grpc.aio.ServicerContext
    ) -> None:
        header = (await anext(requests, RedecodeVideoRequest())).header
        violations = Violations()
        with violations:
            request = read_request(header.analysis)
        with violations:
            check_model(header.model)
        violations.check()
        call_log.bind(stream_id=request.stream_id)
        caller = current_caller()
        job = StoredJob(
            request=replace(
                request, priority=caller.permissions.priority(header.analysis.priority) or request.priority
            ),
            model=header.model,
            chunks=_chunks(requests),
            caller=caller,
            deadline=Deadline.of(context.time_remaining(), self._max_request_seconds),
        )
        writer = RedecodedWriter(context.write, self._heartbeat_seconds)
        async with writer.heartbeat():
            summary = await self._pipeline.redecode(job, writer)
        call_log.note(video_seconds=round(summary.video_duration_seconds, 3))
        await writer.summary(summary)

    async def ListBanks(self, request: ListBanksRequest, context: grpc.aio.ServicerContext) -> ListBanksResponse:
        deadline = Deadline.of(context.time_remaining(), self._max_request_seconds)
        return ListBanksResponse(text_banks=await self._pipeline.text_banks(deadline))

    def _job(self, message: AnalyzeVideoRequest, context: grpc.aio.ServicerContext) -> tuple[AnalysisJob, S3Uri | None]:
        """The job, and the object to which its answer is also written; raises InvalidInput naming every wrong field."""
        violations = Violations()
        with violations:
            source = self._sources.locate(message.video_uri)
        with violations:
            output = self._outputs.locate(message.output_uri)
        with violations:
            request = read_request(message)
        violations.check()
        call_log.bind(stream_id=request.stream_id)
        caller = current_caller()
        caller.permissions.check_source(message.video_uri)
        caller.permissions.check_output(message.output_uri)
        job = AnalysisJob(
            request=replace(request, priority=caller.permissions.priority(message.priority) or request.priority),
            source=source,
            caller=caller,
            deadline=Deadline.of(context.time_remaining(), self._max_request_seconds),
        )
        return job, output

    async def _analyze(
        self,
        job: AnalysisJob,
        observer: Observer,
        tokens: RequestTokens | None = None,
        start: Resumption | None = None,
    ) -> AnalyzeVideoResponse:
        summary = await self._pipeline.analyze(job, observer, tokens, start)
        metrics.analysed(summary)
        call_log.note(
            from_chunk=start.state.next_chunk if start else 0,
            video_seconds=round(summary.video_duration_seconds, 3),
            decode_failures=summary.decode_failures,
        )
        return summary


async def _chunks(requests: AsyncIterator[RedecodeVideoRequest]) -> AsyncIterator[ChunkResult]:
    async for request in requests:
        if not request.HasField("chunk"):
            raise InvalidInput("chunk: is required; only the first request is a header", field="chunk")
        yield request.chunk
