"""Reads and writes S3 objects with one client per process."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aioboto3
import aiohttp
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, ServiceError, Unavailable
from videoanalysis.limits import has_control_characters
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_READ_BYTES = 1 << 20
_SLOWEST_BYTES_PER_SECOND = 1 << 20
# S3 takes parts of 5 MiB or more, at most 10,000.
_PART_BYTES = 8 << 20
_FIRST_BACKOFF_SECONDS = 0.1
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# A bucket of 63 characters and a key of 1024 bytes.
_MAX_URI_CHARACTERS = 5 + 63 + 1 + 1024
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_FORBIDDEN = {"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CHANGED = {"412", "PreconditionFailed"}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
# Raised if storage does not answer or a transfer breaks off.
_CONNECTION_ERRORS = (BotoCoreError, TimeoutError, aiohttp.ClientError)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class S3Uri:
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, uri: str, field: str) -> "S3Uri":
        """The parts of s3://bucket/key; the key is taken as it stands, not URL-decoded.

        Raises InvalidInput, naming `field`.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        is_s3 = len(uri) <= _MAX_URI_CHARACTERS and uri.startswith("s3://")
        if not is_s3 or not _BUCKET.fullmatch(bucket) or not key or has_control_characters(key):
            raise InvalidInput(
                f"{field}: not of the form s3://bucket/key", reason=ErrorReason.MALFORMED_URI, field=field
            )
        if len(key.encode()) > 1024:
            raise InvalidInput(f"{field}: the key is over 1024 bytes", reason=ErrorReason.MALFORMED_URI, field=field)
        return cls(bucket, key)

    def check_dot_segments(self, field: str) -> None:
        """Raises InvalidInput, naming `field`, if a segment of the key is "." or "..".

        Some stores and proxies resolve these, so that the key means another object than the one that was checked.
        """
        if not {".", ".."}.isdisjoint(self.key.split("/")):
            raise InvalidInput(
                f'{field}: a segment of the key is "." or "..", which is not allowed here',
                reason=ErrorReason.MALFORMED_URI,
                field=field,
            )


@dataclass(frozen=True, slots=True)
class StoredObject:
    uri: S3Uri
    size: int
    etag: str


class RangesNotSupported(Exception):
    """The store sends whole objects only."""


async def _ignore(_: int) -> None: ...


class Storage:
    """S3, with these errors: NotFound, PermissionDenied, FailedPrecondition (object changed), Unavailable."""

    def __init__(self, client: Any, attempts: int, silence_seconds: float) -> None:
        self._client = client
        self._attempts = attempts
        self._timeout_seconds = attempts * silence_seconds
        self._aborting: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        endpoint_url: str | None = None,
        region: str | None = None,
        credentials: tuple[str, str] | None = None,
        *,
        attempts: int = 4,
        silence_seconds: float = 20,
    ) -> AsyncIterator["Storage"]:
        """A client with `credentials` (access key and secret), by default the process's own.

        `endpoint_url` is for S3-compatible stores. An attempt fails after `silence_seconds` without data; after
        `attempts` in a row the store counts as unavailable. Raises FailedPrecondition if the environment names a
        profile that does not exist.
        """
        config = Config(
            connect_timeout=5,
            read_timeout=silence_seconds,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # S3-compatible stores rarely have a host name per bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # An HTTP proxy of the environment does not apply to loopback.
            proxies={} if urlsplit(endpoint_url or "").hostname in _LOOPBACK else None,
        )
        access_key, secret = credentials or (None, None)
        session = aioboto3.Session(access_key, secret)
        opening = session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config)
        async with AsyncExitStack() as leaving:
            try:
                client = await leaving.enter_async_context(opening)
            except BotoCoreError as error:
                raise FailedPrecondition(
                    f"the AWS settings: {error}", reason=ErrorReason.STORAGE_MISCONFIGURED
                ) from error
            yield cls(client, attempts, silence_seconds)

    async def stat(self, uri: S3Uri) -> StoredObject:
        with _translated(uri):
            head = await self._client.head_object(Bucket=uri.bucket, Key=uri.key)
        return StoredObject(uri, head["ContentLength"], head["ETag"])

    async def download(
        self, source: StoredObject, file: BinaryIO, on_progress: Callable[[int], Awaitable[None]] = _ignore
    ) -> None:
        """Write exactly `source` to `file`; a broken transfer is resumed.

        `on_progress` is awaited after each block with the bytes written so far. Errors of `file`, such as OSError for a
        full disk, propagate unchanged.
        """
        done = 0
        async with aclosing(self.blocks(source, 0, source.size)) as blocks:
            async for block in blocks:
                await asyncio.to_thread(file.write, block)
                done += len(block)
                await on_progress(done)

    async def read(self, uri: S3Uri, max_bytes: int) -> bytes:
        """The whole object; FailedPrecondition if it is larger than `max_bytes`."""
        source = await self.stat(uri)
        if source.size > max_bytes:
            raise FailedPrecondition(f"{uri}: over {max_bytes} bytes", reason=ErrorReason.OBJECT_OVER_LIMIT)
        return b"".join([block async for block in self.blocks(source, 0, source.size)])

    async def write(self, uri: S3Uri, data: bytes | BinaryIO, content_type: str) -> None:
        """One request, so at most 5 GB; a file is sent from its current position."""
        timeout = self._timeout_seconds + _remaining(data) / _SLOWEST_BYTES_PER_SECOND
        with _translated(uri):
            # The HTTP library has no write timeout.
            async with asyncio.timeout(timeout):
                await self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data, ContentType=content_type)

    @asynccontextmanager
    async def upload(self, uri: S3Uri, content_type: str) -> AsyncIterator["Upload"]:
        """An object that is written in pieces. It exists once `Upload.complete` is called.

        A context that ends before leaves nothing behind.
        """
        upload = Upload(self._client, uri, content_type, self._timeout_seconds)
        try:
            yield upload
        finally:
            # Goes on if it is cancelled a second time.
            aborting = asyncio.create_task(upload.abort())
            self._aborting.add(aborting)
            aborting.add_done_callback(self._aborting.discard)
            await asyncio.shield(aborting)

    async def list(self, prefix: S3Uri) -> list[StoredObject]:
        """Every object whose key starts with the key of `prefix`."""
        found: list[StoredObject] = []
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.key)
            async for page in pages:
                for item in page.get("Contents", ()):
                    found.append(StoredObject(S3Uri(prefix.bucket, item["Key"]), item["Size"], item["ETag"]))
        return found

    async def create_bucket(self, bucket: str) -> None:
        with _translated(S3Uri(bucket, "")):
            await self._client.create_bucket(Bucket=bucket)

    async def blocks(self, source: StoredObject, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes of `source` from `start` to `end`, going on where a broken transfer stopped.

        Raises Unavailable after `attempts` transfers in a row without any, and RangesNotSupported before the first
        block if the store sends more than the range.
        """
        done, attempt = start, 0
        while done < end:
            if attempt == self._attempts:
                raise Unavailable(
                    f"{source.uri}: the transfer broke off repeatedly", reason=ErrorReason.STORAGE_UNAVAILABLE
                )
            # No retry library: it would repeat the whole transfer, and progress restores the attempts here.
            if attempt > 0:
                await asyncio.sleep(_FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1))
            attempt += 1
            try:
                async with aclosing(self._transfer(source, done, end)) as blocks:
                    async for block in blocks:
                        done += len(block)
                        attempt = 0
                        yield block
            except RangesNotSupported as error:
                if done == start:
                    raise
                message = f"{source.uri}: the transfer broke off, and the store cannot go on in the middle"
                raise Unavailable(message, reason=ErrorReason.STORAGE_UNAVAILABLE) from error

    async def _transfer(self, source: StoredObject, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes of `source` from `start` to `end`, until the transfer ends or breaks off."""
        uri = source.uri
        with _translated(uri):
            # If-Match: reads the version whose size is known.
            response = await self._client.get_object(
                Bucket=uri.bucket, Key=uri.key, IfMatch=source.etag, Range=f"bytes={start}-{end - 1}"
            )
        body = response["Body"]
        # `async with` binds the HTTP library's response, which cannot be read in blocks.
        async with body:
            if response.get("ETag", source.etag) != source.etag:
                raise _changed(uri)
            whole = response.get("ContentRange") is None and response.get("ContentLength") == source.size
            if whole and (start, end) != (0, source.size):
                raise RangesNotSupported
            if not whole and response.get("ContentRange") != f"bytes {start}-{end - 1}/{source.size}":
                raise Unavailable(
                    f"{uri}: storage returned another range than requested", reason=ErrorReason.STORAGE_UNAVAILABLE
                )
            with suppress(*_CONNECTION_ERRORS):
                while block := await body.read(_READ_BYTES):
                    yield block


def _changed(uri: S3Uri) -> FailedPrecondition:
    return FailedPrecondition(f"{uri}: the object changed while it was read", reason=ErrorReason.OBJECT_CHANGED)


class Upload:
    """Pieces of an object: sent in one request if they are few, otherwise part by part."""

    def __init__(self, client: Any, uri: S3Uri, content_type: str, timeout_seconds: float) -> None:
        self._client = client
        self._uri = uri
        self._content_type = content_type
        self._timeout_seconds = timeout_seconds + _PART_BYTES / _SLOWEST_BYTES_PER_SECOND
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._etags: list[str] = []

    async def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _PART_BYTES:
            await self._send_part(_PART_BYTES)

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
                _log.warning("parts of an upload were not removed", uri=str(self._uri), error=error.message)

    async def _send_part(self, size: int) -> None:
        if self._upload_id is None:
            begun = await self._call("create_multipart_upload", ContentType=self._content_type)
            self._upload_id = begun["UploadId"]
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        sent = await self._call("upload_part", UploadId=self._upload_id, PartNumber=len(self._etags) + 1, Body=part)
        self._etags.append(sent["ETag"])

    async def _call(self, method: str, **arguments: Any) -> Any:
        with _translated(self._uri):
            # The HTTP library has no write timeout.
            async with asyncio.timeout(self._timeout_seconds):
                return await getattr(self._client, method)(Bucket=self._uri.bucket, Key=self._uri.key, **arguments)


def _remaining(data: bytes | BinaryIO) -> int:
    """Bytes from the current position of `data` to its end."""
    if isinstance(data, bytes):
        return len(data)
    start = data.tell()
    end = data.seek(0, os.SEEK_END)
    data.seek(start)
    return end - start


@contextmanager
def _translated(uri: S3Uri) -> Iterator[None]:
    """Translate botocore's errors, without their text."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise NotFound(f"{uri}: no such object or bucket", reason=ErrorReason.OBJECT_NOT_FOUND) from error
        if code in _FORBIDDEN:
            raise PermissionDenied(
                f"{uri}: the service has no permission for this; grant it access",
                reason=ErrorReason.STORAGE_ACCESS_DENIED,
            ) from error
        if code in _CHANGED:
            raise _changed(uri) from error
        raise Unavailable(f"{uri}: storage answered with an error", reason=ErrorReason.STORAGE_UNAVAILABLE) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PermissionDenied(
            f"{uri}: the service has no credentials", reason=ErrorReason.STORAGE_ACCESS_DENIED
        ) from error
    except _CONNECTION_ERRORS as error:
        raise Unavailable(f"{uri}: storage did not answer", reason=ErrorReason.STORAGE_UNAVAILABLE) from error
