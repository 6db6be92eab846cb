"""An object that is written in pieces: in one request if it is small, otherwise as a multipart upload."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from videoanalysis.errors import ServiceError
from videoanalysis.storage.s3_uri import S3Uri

# S3 takes parts of 5 MiB or more, at most 10,000.
PART_BYTES = 8 << 20

_log = structlog.get_logger()


class Upload:
    """Pieces of an object: sent in one request if they are few, otherwise part by part."""

    def __init__(self, call: Callable[..., Awaitable[Any]], uri: S3Uri, content_type: str) -> None:
        """`call` sends a request of one of S3's methods about the object."""
        self._call = call
        self._uri = uri
        self._content_type = content_type
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._etags: list[str] = []

    async def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            await self._send_part(PART_BYTES)

    async def restart(self) -> None:
        """Discards what was written so far."""
        self._buffer.clear()
        await self.abort()

    async def complete(self) -> None:
        if self._upload_id is None:
            await self._call("put_object", Body=bytes(self._buffer), ContentType=self._content_type)
            return
        if self._buffer:
            await self._send_part(len(self._buffer))
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)]
        await self._call("complete_multipart_upload", UploadId=self._upload_id, MultipartUpload={"Parts": parts})
        self._upload_id = None

    async def abort(self) -> None:
        """Removes the parts that were sent. If storage is unavailable, they stay until it expires them."""
        upload_id, self._upload_id = self._upload_id, None
        self._etags.clear()
        if upload_id is not None:
            try:
                await self._call("abort_multipart_upload", UploadId=upload_id)
            except ServiceError as error:
                _log.warning(
                    "parts of an upload were not removed",
                    uri=str(self._uri),
                    error=error.message,
                    details=error.details,
                )

    async def _send_part(self, size: int) -> None:
        if self._upload_id is None:
            begun = await self._call("create_multipart_upload", ContentType=self._content_type)
            self._upload_id = begun["UploadId"]
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        sent = await self._call("upload_part", UploadId=self._upload_id, PartNumber=len(self._etags) + 1, Body=part)
        self._etags.append(sent["ETag"])
