"""The service under load: sends a request over one of several connections and returns its record."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from itertools import cycle
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from loadtest.sweep.load import clock
from loadtest.sweep.mix import Video
from loadtest.sweep.record import INCOMPLETE, NOT_SENT, STAGES, Request
from loadtest.target.access import Access
from videoanalysis import channels
from videoanalysis.errors import ServiceError
from videoanalysis.status import carries_details, from_rpc_error
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    StreamAnalyzeVideoRequest,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

Method = Literal["unary", "stream"]

_ERROR_CHARACTERS = 200
_LARGEST_ANSWER_BYTES = 64 << 20
_OPTIONS = [
    *channels.OPTIONS,
    ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
    # Otherwise channels to one address share a connection and with it a replica.
    ("grpc.use_local_subchannel_pool", 1),
    # Rejected requests are counted, not retried.
    ("grpc.enable_retries", 0),
    # As the client library does: calls skip a replica that drains.
    channels.READY_REPLICAS,
]


class Unreachable(ConnectionError):
    """The service cannot be reached, or stopped answering."""


class Service:
    """`connections` channels to each of `addresses`, used in turn while this is entered. Nothing is retried.

    `origin` is the start of the run on the clock of `loadtest.sweep.load`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        connections: int,
        method: Method,
        timeout_seconds: float,
        access: Access,
        ready_seconds: float = 10.0,
    ) -> None:
        self.addresses = list(addresses)
        self.method: Method = method
        self.in_flight = 0
        self.origin = clock()
        self._connections = connections
        self._timeout_seconds = timeout_seconds
        self._ready_seconds = ready_seconds
        self._access = access
        self._channels: list[grpc.aio.Channel] = []
        self._number = 0

    async def __aenter__(self) -> Self:
        # Consecutive calls go to different addresses.
        ring = [address for _ in range(self._connections) for address in self.addresses]
        self._channels = [self._connect(address) for address in ring]
        self._stubs = cycle([VideoAnalysisServiceStub(channel) for channel in self._channels])  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close(0)

    def _connect(self, address: str) -> grpc.aio.Channel:
        if self._access.credentials is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        return grpc.aio.secure_channel(address, self._access.credentials, options=_OPTIONS)

    async def until_ready(self) -> None:
        """Raises Unreachable, naming the address, unless all channels connect within `ready_seconds`."""
        ready = [asyncio.create_task(channel.channel_ready()) for channel in self._channels]
        _, missing = await asyncio.wait(ready, timeout=self._ready_seconds)
        for task in ready:
            task.cancel()
        if missing:
            failed = {self.addresses[ready.index(task) % len(self.addresses)] for task in missing}
            raise Unreachable(
                f"no connection to {', '.join(sorted(failed))} within {self._ready_seconds:g} s: is the service "
                "running and ready, and does it want TLS (--tls)?"
            )

    async def first(self, video_uri: str) -> AnalyzeVideoResponse:
        """One analysis before the load, for the chunks and the duration of the video. Raises ServiceError."""
        request = AnalyzeVideoRequest(video_uri=video_uri, stream_id="loadtest-first")
        answer, chunks = AnalyzeVideoResponse(), []
        try:
            call = next(self._stubs).StreamAnalyzeVideo(
                StreamAnalyzeVideoRequest(analysis=request),
                timeout=self._timeout_seconds,
                metadata=self._access.metadata(),
            )
            async for event in call:
                if event.HasField("chunk"):
                    chunks.append(event.chunk)
                elif event.HasField("summary"):
                    answer = event.summary
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        answer.chunks.extend(chunks)
        return answer

    async def call(self, level: str, video: Video, due: float) -> tuple[Request, bool]:
        """The record of one request, and whether the service answered it rather than a broken connection."""
        number, self._number = self._number, self._number + 1
        request = AnalyzeVideoRequest(video_uri=video.uri, stream_id=f"loadtest-{secrets.token_hex(4)}")
        sent = clock()
        first_chunk: float | None = None

        def on_chunk() -> None:
            nonlocal first_chunk
            first_chunk = first_chunk or clock()

        outcome: dict[str, Any]
        has_answered = True
        self.in_flight += 1
        try:
            answer = await self._analyze(request, on_chunk)
            outcome = (
                _answer_fields(answer)
                if answer
                else {"status": INCOMPLETE, "error": "the call ended without a summary"}
            )
        except grpc.RpcError as error:
            has_answered = carries_details(error)
            outcome = _failure(error.code(), from_rpc_error(error), has_answered)
        finally:
            self.in_flight -= 1
        end = clock()
        if first_chunk is not None:
            outcome["first_chunk_ms"] = (first_chunk - due) * 1000
        return self._request(number, request.stream_id, level, video, due, sent, end, outcome), has_answered

    def skipped(self, level: str, video: Video, due: float) -> Request:
        """The record of a request that was due but not sent."""
        number, self._number = self._number, self._number + 1
        outcome = {"status": NOT_SENT, "error": "as many requests as --max-in-flight were in flight"}
        now = clock()
        return self._request(number, "", level, video, due, now, now, outcome)

    async def _analyze(self, request: AnalyzeVideoRequest, on_chunk: Callable[[], None]) -> AnalyzeVideoResponse | None:
        stub = next(self._stubs)
        if self.method == "unary":
            answer: AnalyzeVideoResponse = await stub.AnalyzeVideo(
                request, timeout=self._timeout_seconds, metadata=self._access.metadata()
            )
            return answer
        parts, summary = AnalyzeVideoResponse(), None
        call = stub.StreamAnalyzeVideo(
            StreamAnalyzeVideoRequest(analysis=request), timeout=self._timeout_seconds, metadata=self._access.metadata()
        )
        async for event in call:
            if event.HasField("chunk"):
                on_chunk()
                parts.scene_changes.extend(event.chunk.scene_changes)
            elif event.HasField("summary"):
                summary = event.summary
                summary.MergeFrom(parts)
        return summary

    def _request(
        self,
        number: int,
        stream_id: str,
        level: str,
        video: Video,
        due: float,
        sent: float,
        end: float,
        outcome: dict[str, Any],
    ) -> Request:
        return Request(
            request_id=number,
            stream_id=stream_id,
            level=level,
            video=video.name,
            chunks=video.chunks,
            start_seconds=due - self.origin,
            delay_ms=(sent - due) * 1000,
            end_seconds=end - self.origin,
            latency_ms=(end - due) * 1000,
            **outcome,
        )


def _answer_fields(answer: AnalyzeVideoResponse) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "status": "OK",
        "video_seconds": answer.video_duration_seconds,
        "scene_changes": len(answer.scene_changes),
        "bytes_read": answer.usage.bytes_read,
        "frames_decoded": answer.usage.frames_decoded,
        "accelerator_seconds": answer.usage.accelerator_seconds,
        "unattributed_ms": answer.timing.unattributed_seconds * 1000,
        "server_total_ms": answer.timing.total_seconds * 1000,
    }
    for stage in STAGES:
        spent = getattr(answer.timing, stage)
        fields[f"{stage}_queue_ms"] = spent.queue_seconds * 1000
        fields[f"{stage}_compute_ms"] = spent.compute_seconds * 1000
    return fields


def _failure(code: grpc.StatusCode, error: ServiceError, is_from_service: bool) -> dict[str, Any]:
    return {
        "status": code.name,
        # Failures of gRPC itself carry no reason.
        "reason": error.reason_name if is_from_service else "",
        "error": " ".join(error.message.split())[:_ERROR_CHARACTERS],
    }
