"""Answers written to S3 as JSON, besides being returned."""

from collections.abc import Sequence

from google.protobuf import json_format

from videoanalysis.errors import PermissionDenied
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_FIELD = "output_uri"


class Outputs:
    """Writes to URIs under one of `allowed_prefixes`; a prefix ends at a slash."""

    def __init__(self, storage: Storage, allowed_prefixes: Sequence[str]) -> None:
        self._storage = storage
        self._allowed = [prefix.rstrip("/") + "/" for prefix in allowed_prefixes]

    def locate(self, uri: str) -> S3Uri | None:
        """None for an empty `uri`; raises InvalidInput or PermissionDenied."""
        if not uri:
            return None
        parsed = S3Uri.parse(uri, _FIELD)
        parsed.check_dot_segments(_FIELD)
        if not any(uri.startswith(prefix) for prefix in self._allowed):
            raise PermissionDenied(
                f"{_FIELD}: this prefix is not allowed here; the operator allows it with "
                "INGRESS_ALLOWED_OUTPUT_PREFIXES",
                reason=ErrorReason.OUTPUT_NOT_ALLOWED,
                field=_FIELD,
            )
        return parsed

    async def write(self, uri: S3Uri, answer: AnalyzeVideoResponse) -> None:
        await self._storage.write(uri, json_format.MessageToJson(answer).encode(), "application/json")
