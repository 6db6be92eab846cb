"""Reads and writes S3 objects with one client per process."""

import asyncio
import os
import random
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.exceptions import BotoCoreError

from videoanalysis.errors import FailedPrecondition, ServiceError, Unavailable
from videoanalysis.storage import answers
from videoanalysis.storage.answers import Answer
from videoanalysis.storage.aws_errors import CONNECTION_ERRORS, answer_to, metadata_of, translated
from videoanalysis.storage.credentials import CredentialProvider, RenewedCredentials, load_credentials
from videoanalysis.storage.http_session import SessionConfig
from videoanalysis.storage.s3_uri import S3Uri
from videoanalysis.storage.upload import PART_BYTES, Upload
from videoanalysis.v1.error_reason_pb2 import ErrorReason

AddressingStyle = Literal["auto", "path", "virtual"]

_READ_BYTES = 1 << 20
_SLOWEST_BYTES_PER_SECOND = 1 << 20
_BACKOFF_SECONDS = 0.1
_THROTTLED_BACKOFF = 5  # times as long
_PAUSE_OF_CREDENTIALS = 10  # times as long as the first backoff: a second
_MAX_BACKOFF_SECONDS = 10.0
_REGION = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class StoredObject:
    uri: S3Uri
    size: int
    etag: str


class RangesNotSupported(Exception):
    """The store sends whole objects only."""


class Storage:
    """S3, with these errors: NotFound, PermissionDenied, FailedPrecondition (object changed), Unavailable."""

    def __init__(
        self,
        client: Any,
        attempts: int,
        silence_seconds: float,
        *,
        backoff_seconds: float = _BACKOFF_SECONDS,
        request_payer: bool = False,
        credentials: RenewedCredentials | None = None,
    ) -> None:
        self._client = client
        self._attempts = attempts
        self._timeout_seconds = attempts * silence_seconds
        self._backoff_seconds = backoff_seconds
        self._payer = {"RequestPayer": "requester"} if request_payer else {}
        self._credentials = credentials
        self._aborting: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        endpoint_url: str | None = None,
        region: str | None = None,
        credentials: tuple[str, str] | None = None,
        *,
        addressing_style: AddressingStyle | None = None,
        unsigned: bool = False,
        request_payer: bool = False,
        ca_bundle: Path | None = None,
        attempts: int = 4,
        silence_seconds: float = 20,
        backoff_seconds: float = _BACKOFF_SECONDS,
    ) -> AsyncIterator["Storage"]:
        """A client with `credentials` (access key and secret), by default the process's own.

        What is None is as the AWS settings say. `endpoint_url` is for S3-compatible stores, which `auto` addresses by
        path. `ca_bundle` has the CAs that are trusted instead of the usual ones. An attempt fails after
        `silence_seconds` without data; after `attempts` in a row, the second about `backoff_seconds` after the first,
        the store counts as unavailable. Raises FailedPrecondition if the AWS settings or the bundle are not usable.
        """
        config = SessionConfig(
            connect_timeout=5,
            read_timeout=silence_seconds,
            max_pool_connections=32,
            # Repeated here, by the table of answers.
            retries={"mode": "standard", "total_max_attempts": 1},
            **({"s3": {"addressing_style": addressing_style}} if addressing_style else {}),
            **({"signature_version": UNSIGNED} if unsigned else {}),
        )
        session = AioSession()
        renewed = None
        if credentials is None and not unsigned:
            renewed = RenewedCredentials(partial(load_credentials, region), _PAUSE_OF_CREDENTIALS * backoff_seconds)
            session.register_component("credential_provider", CredentialProvider(renewed))
        access_key, secret = credentials or (None, None)
        async with AsyncExitStack() as leaving:
            try:
                if ca_bundle is not None:
                    ssl.create_default_context(cafile=ca_bundle)
                client = await leaving.enter_async_context(
                    session.create_client(
                        "s3",
                        endpoint_url=endpoint_url,
                        region_name=region,
                        config=config,
                        verify=str(ca_bundle) if ca_bundle is not None else None,
                        aws_access_key_id=access_key,
                        aws_secret_access_key=secret,
                    )
                )
            except (BotoCoreError, OSError, ValueError) as error:
                raise FailedPrecondition(
                    f"the settings of the storage: {error}", reason=ErrorReason.STORAGE_MISCONFIGURED
                ) from error
            client.meta.events.register_first("needs-retry.s3", _allow_redirect)
            yield cls(
                client,
                attempts,
                silence_seconds,
                backoff_seconds=backoff_seconds,
                request_payer=request_payer,
                credentials=renewed,
            )

    async def stat(self, uri: S3Uri) -> StoredObject:
        try:
            head = await self._call("head_object", uri, Key=uri.key)
        except ServiceError as error:
            # An answer to HEAD has no body, so no error code: GET returns one.
            if error.details.get("code") not in ("400", "403"):
                raise
            head = await self._call("get_object", uri, Key=uri.key, Range="bytes=0-0")
            head["Body"].close()
            head["ContentLength"] = head.get("ContentRange", "").rpartition("/")[2]
        with translated(uri):
            return StoredObject(uri, int(head["ContentLength"]), head["ETag"])

    async def read(self, uri: S3Uri, max_bytes: int) -> bytes:
        """The whole object; FailedPrecondition if it is larger than `max_bytes`."""
        source = await self.stat(uri)
        if source.size > max_bytes:
            raise FailedPrecondition(f"{uri}: over {max_bytes} bytes", reason=ErrorReason.OBJECT_OVER_LIMIT)
        return b"".join([block async for block in self.blocks(source, 0, source.size)])

    async def write(self, uri: S3Uri, data: bytes | BinaryIO, content_type: str) -> None:
        """One request, so at most 5 GB; a file is sent from its current position."""
        seconds = self._timeout_seconds + _remaining(data) / _SLOWEST_BYTES_PER_SECOND
        sent = await self._call("put_object", uri, seconds, Key=uri.key, Body=data, ContentType=content_type)
        with translated(uri):
            _ = sent["ETag"]  # every S3 store returns one

    @asynccontextmanager
    async def upload(self, uri: S3Uri, content_type: str) -> AsyncIterator[Upload]:
        """An object that is written in pieces. It exists once `Upload.complete` has ended.

        If the context ends before, the parts sent so far are removed.
        """
        seconds = self._timeout_seconds + PART_BYTES / _SLOWEST_BYTES_PER_SECOND
        upload = Upload(partial(self._call, uri=uri, seconds=seconds, Key=uri.key), uri, content_type)
        try:
            yield upload
        finally:
            # Continues if this task is cancelled a second time.
            aborting = asyncio.create_task(upload.abort())
            self._aborting.add(aborting)
            aborting.add_done_callback(self._aborting.discard)
            await asyncio.shield(aborting)

    async def list(self, prefix: S3Uri) -> list[StoredObject]:
        """Every object whose key starts with the key of `prefix`."""
        found: list[StoredObject] = []
        next_page: dict[str, Any] = {}
        while True:
            page = await self._call("list_objects_v2", prefix, Prefix=prefix.key, **next_page)
            with translated(prefix):
                for item in page.get("Contents", ()):
                    found.append(StoredObject(S3Uri(prefix.bucket, item["Key"]), item["Size"], item["ETag"]))
                if not page["IsTruncated"]:
                    return found
                next_page = {"ContinuationToken": page["NextContinuationToken"]}

    async def create_bucket(self, bucket: str) -> None:
        with translated(S3Uri(bucket, "")):
            await self._client.create_bucket(Bucket=bucket)

    async def _call(self, method: str, uri: S3Uri, seconds: float | None = None, **arguments: Any) -> Any:
        """The answer of the store, after repeats where they may help, within `seconds` in all.

        The HTTP library has no time limit of its own for writes.
        """
        body: Any = arguments.get("Body")
        start = body.tell() if body is not None and not isinstance(body, bytes) else None
        call = getattr(self._client, method)
        attempt = 1
        has_renewed = self._credentials is None
        with translated(uri):
            async with asyncio.timeout(seconds):
                while True:
                    if start is not None:
                        body.seek(start)
                    try:
                        return await call(Bucket=uri.bucket, **self._payer, **arguments)
                    except Exception as error:
                        answer = answer_to(error)
                        may_repeat = answer is not None and answer.repeat and attempt < self._attempts
                        if answer is None or not may_repeat or (answer.renew_credentials and has_renewed):
                            raise
                        if answer.renew_credentials and self._credentials is not None:
                            self._credentials.renew()
                            has_renewed = True
                        await asyncio.sleep(self._delay(answer, error, attempt))
                    attempt += 1

    def _delay(self, answer: Answer, error: Exception, attempt: int) -> float:
        """Exponential backoff with jitter, at least the store's Retry-After."""
        first = self._backoff_seconds * (_THROTTLED_BACKOFF if answer.throttled else 1)
        seconds: float = first * 2 ** (attempt - 1) * random.uniform(0.5, 1)
        retry_after: str = metadata_of(error).get("HTTPHeaders", {}).get("retry-after", "")
        return min(_MAX_BACKOFF_SECONDS, max(seconds, float(retry_after) if retry_after.isdecimal() else 0.0))

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
            # Not a retry library: it would repeat the whole transfer, and here progress resets the attempts.
            if attempt > 0:
                await asyncio.sleep(self._backoff_seconds * 2 ** (attempt - 1))
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
                message = f"{source.uri}: the transfer broke off, and the store cannot send the rest alone"
                raise Unavailable(message, reason=ErrorReason.STORAGE_UNAVAILABLE) from error

    async def _transfer(self, source: StoredObject, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes of `source` from `start` to `end`, until the transfer ends or breaks off."""
        uri = source.uri
        # If-Match: reads the version whose size is known.
        response = await self._call(
            "get_object", uri, Key=uri.key, IfMatch=source.etag, Range=f"bytes={start}-{end - 1}"
        )
        body = response["Body"]
        # `async with` binds the HTTP library's response, which cannot be read in blocks.
        async with body:
            if response.get("ETag", source.etag) != source.etag:
                raise answers.CHANGED.of(uri, {})
            whole = response.get("ContentRange") is None and response.get("ContentLength") == source.size
            if whole and (start, end) != (0, source.size):
                raise RangesNotSupported
            if not whole and response.get("ContentRange") != f"bytes {start}-{end - 1}/{source.size}":
                raise Unavailable(
                    f"{uri}: storage returned another range than requested", reason=ErrorReason.STORAGE_UNAVAILABLE
                )
            with suppress(*CONNECTION_ERRORS):
                while block := await body.read(_READ_BYTES):
                    yield block


def _remaining(data: bytes | BinaryIO) -> int:
    """Bytes from the current position of `data` to its end."""
    if isinstance(data, bytes):
        return len(data)
    start = data.tell()
    end = data.seek(0, os.SEEK_END)
    data.seek(start)
    return end - start


def _allow_redirect(request_dict: Any, response: Any, **_: object) -> None:
    """Allows one redirect to the region that an answer names, before the AWS library follows it; forbids any other.

    Without a named region the library would send another request for it, which may be redirected, too.
    """
    if response is None:
        return
    headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or response[1].get("Error", {}).get("Region")
    redirect = request_dict.get("context", {}).get("s3_redirect")
    if redirect is not None and not (isinstance(region, str) and _REGION.fullmatch(region)):
        redirect["redirected"] = True
