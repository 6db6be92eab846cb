"""One analysis over several calls: the request of the next call, and the results so far."""

from collections.abc import Callable

import grpc

from videoanalysis.errors import Unavailable
from videoanalysis.partial_analysis import PartialAnalysis
from videoanalysis.retries import Retries
from videoanalysis.status import carries_details
from videoanalysis.v1.analysis_pb2 import (
    STAGE_WAITING,
    AnalyzeVideoRequest,
    StreamAnalyzeVideoRequest,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import Chunk, Progress, VideoAnalysis

OnProgress = Callable[[Progress], None]
OnChunk = Callable[[Chunk], None]

# After these the analysis restarts from the beginning of the video.
_TOKEN_REJECTIONS = {
    ErrorReason.TOKEN_FORGED,
    ErrorReason.TOKEN_EXPIRED,
    ErrorReason.TOKEN_OF_ANOTHER_CALLER,
    ErrorReason.TOKEN_OF_ANOTHER_REQUEST,
    ErrorReason.OBJECT_CHANGED,
    ErrorReason.MODEL_CHANGED,
    ErrorReason.TEXT_BANK_CHANGED,
}


class Attempts:
    """Adds each response to `partial`, which is also an attribute of the error of a final failure."""

    def __init__(
        self,
        request: AnalyzeVideoRequest,
        partial: PartialAnalysis,
        retries: Retries,
        *,
        on_progress: OnProgress | None,
        on_chunk: OnChunk | None,
    ) -> None:
        self._request = request
        self._partial = partial
        self._retries = retries
        self._on_progress = on_progress
        self._on_chunk = on_chunk
        # Chunks received before the current call, and whether the service may have started work on it.
        self._earlier_chunks = 0
        self._has_started = False

    def begin(self) -> tuple[StreamAnalyzeVideoRequest, float]:
        """The request of the next call and its time limit in seconds."""
        if not self._partial.resume_token:
            self._partial.clear()
        self._earlier_chunks = len(self._partial.chunks)
        self._has_started = False
        request = StreamAnalyzeVideoRequest(analysis=self._request, resume_token=self._partial.resume_token)
        return request, self._retries.remaining_seconds()

    def receive(self, response: StreamAnalyzeVideoResponse) -> VideoAnalysis | None:
        """The complete analysis after the last message, otherwise None."""
        event = response.WhichOneof("event")
        self._has_started |= event != "progress" or response.progress.stage != STAGE_WAITING
        match event:
            case "progress" if self._on_progress:
                self._on_progress(Progress.from_message(response.progress))
            case "chunk":
                if response.chunk.chunk_index == 0:
                    # The service restarted the video on another model: earlier results are of the old model.
                    self._clear()
                self._partial.add(response)
                if self._partial.resume_token:
                    self._retries.reset()
                if self._on_chunk:
                    self._on_chunk(Chunk.from_message(response.chunk))
            case "summary":
                return VideoAnalysis.from_message(self._partial.completed(response.summary))
        return None

    def backoff_after(self, error: grpc.RpcError) -> float:
        """Seconds until the next call; raises ServiceError if the failure is final."""
        failure = self._retries.failure(error)
        failure.partial = self._partial
        is_from_service = carries_details(error)
        if self._earlier_chunks and is_from_service and failure.reason in _TOKEN_REJECTIONS:
            self._retries.restart_after(failure, error)
            self._clear()
            return 0.0
        has_started = self._has_started or not is_from_service
        if self._request.output_uri and has_started:
            raise failure from error
        return self._retries.backoff_after(
            failure,
            error,
            has_started=has_started,
            # A caller that was suspended, such as a laptop, resumes after its last chunk.
            is_transient=bool(self._partial.resume_token) and failure.reason == ErrorReason.CALLER_TOO_SLOW,
            resumes_at_seconds=self._partial.received_seconds if self._partial.resume_token else 0.0,
        )

    def incomplete(self) -> Unavailable:
        """The error of a call that ended with OK but without a summary."""
        failure = Unavailable("the service ended the call without a summary", reason=ErrorReason.INCOMPLETE_ANSWER)
        failure.partial = self._partial
        return failure

    def _clear(self) -> None:
        self._partial.clear()
        self._earlier_chunks = 0
