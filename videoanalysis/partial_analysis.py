"""An incomplete analysis: the chunks received so far, and the token from which it continues."""

import base64
import binascii
import json
from typing import Self

from google.protobuf import json_format

from videoanalysis.errors import InvalidInput
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Scene, StreamAnalyzeVideoResponse


class PartialAnalysis:
    """Receives the chunks of an analysis; passed to `analyze` again, the analysis continues after them.

    The second call needs the same video and options. Without a `resume_token` it starts from the beginning.
    """

    def __init__(self) -> None:
        self.chunks: list[ChunkResult] = []
        # Those that have ended.
        self.scenes: list[Scene] = []
        self.resume_token = b""

    @property
    def received_seconds(self) -> float:
        """Seconds of the video up to which results have been received."""
        return self.chunks[-1].start_seconds + self.chunks[-1].duration_seconds if self.chunks else 0.0

    def clear(self) -> None:
        self.chunks.clear()
        self.scenes.clear()
        self.resume_token = b""

    def add(self, response: StreamAnalyzeVideoResponse) -> None:
        """A response with a chunk."""
        self.chunks.append(response.chunk)
        self.scenes += response.finished_scenes
        self.resume_token = response.resume_token

    def completed(self, summary: AnalyzeVideoResponse) -> AnalyzeVideoResponse:
        """The summary, with the chunks and scenes of all calls."""
        answer = AnalyzeVideoResponse(chunks=self.chunks, scenes=self.scenes)
        for chunk in self.chunks:
            answer.scene_changes.extend(chunk.scene_changes)
            answer.cuts.extend(chunk.cuts)
            answer.transitions.extend(chunk.transitions)
        answer.MergeFrom(summary)
        return answer

    def to_json(self) -> str:
        received = json_format.MessageToDict(AnalyzeVideoResponse(chunks=self.chunks, scenes=self.scenes))
        return json.dumps({"resumeToken": base64.b64encode(self.resume_token).decode(), **received})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises InvalidInput for anything that `to_json` did not write."""
        partial = cls()
        try:
            stored = json.loads(text)
            partial.resume_token = base64.b64decode(stored.pop("resumeToken"), validate=True)
            received = json_format.ParseDict(stored, AnalyzeVideoResponse())
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, json_format.ParseError) as error:
            raise InvalidInput("this is no partial analysis as one was written when it was interrupted") from error
        partial.chunks += received.chunks
        partial.scenes += received.scenes
        return partial
