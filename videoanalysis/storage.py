"""Objects in S3, through one client that lives as long as the service."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aioboto3
import aiohttp
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unavailable

_READ_BYTES = 1 << 20
_BODY_ATTEMPTS = 4
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_FORBIDDEN = {"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CHANGED = {"412", "PreconditionFailed"}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


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
        if not uri.startswith("s3://") or not _BUCKET.fullmatch(bucket) or not key or _CONTROL.search(key):
            raise InvalidInput(f"{field}: not of the form s3://bucket/key", reason="MALFORMED_URI", field=field)
        if len(key.encode()) > 1024:
            raise InvalidInput(f"{field}: the key is over 1024 bytes", reason="MALFORMED_URI", field=field)
        return cls(bucket, key)


@dataclass(frozen=True, slots=True)
class StoredObject:
    uri: S3Uri
    size: int
    etag: str


class Storage:
    """S3 with our errors: NotFound, PermissionDenied, FailedPrecondition (object changed), Unavailable."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(
        cls, endpoint_url: str | None = None, region: str | None = None, credentials: tuple[str, str] | None = None
    ) -> AsyncIterator["Storage"]:
        """A client with `credentials` (access key and secret), by default the process's own.

        `endpoint_url` is for S3-compatible stores.
        """
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 4},
            # A store of one's own rarely has a name for each bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # An HTTP proxy of the environment is never meant for this machine.
            proxies={} if urlsplit(endpoint_url or "").hostname in _LOOPBACK else None,
        )
        access_key, secret = credentials or (None, None)
        session = aioboto3.Session(access_key, secret)
        async with session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config) as client:
            yield cls(client)

    async def stat(self, uri: S3Uri) -> StoredObject:
        with _translated(uri):
            head = await self._client.head_object(Bucket=uri.bucket, Key=uri.key)
        return StoredObject(uri, head["ContentLength"], head["ETag"])

    async def download(
        self, source: StoredObject, file: BinaryIO, on_progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Write exactly `source` to `file`, going on where a broken transfer stopped.

        `on_progress` hears the bytes written so far.
        """
        done = 0
        for attempt in range(_BODY_ATTEMPTS):
            try:
                async for block in self._blocks(source, done):
                    await asyncio.to_thread(file.write, block)
                    done += len(block)
                    on_progress(done)
                if done == source.size:
                    return
            except (TimeoutError, aiohttp.ClientError):
                pass
            await asyncio.sleep(0.1 * 2**attempt)
        raise Unavailable(f"{source.uri}: the transfer broke off {_BODY_ATTEMPTS} times", reason="STORAGE_UNAVAILABLE")

    async def read(self, uri: S3Uri, max_bytes: int) -> bytes:
        """The whole object; FailedPrecondition if it is larger than `max_bytes`."""
        source = await self.stat(uri)
        if source.size > max_bytes:
            raise FailedPrecondition(f"{uri}: over {max_bytes} bytes", reason="OBJECT_OVER_LIMIT")
        return b"".join([block async for block in self._blocks(source, 0)])

    async def write(self, uri: S3Uri, data: bytes | BinaryIO, content_type: str) -> None:
        with _translated(uri):
            await self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data, ContentType=content_type)

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

    async def _blocks(self, source: StoredObject, start: int) -> AsyncIterator[bytes]:
        if start == source.size:
            return
        uri = source.uri
        with _translated(uri):
            # If-Match: the object that was measured is the one that is read.
            response = await self._client.get_object(
                Bucket=uri.bucket, Key=uri.key, IfMatch=source.etag, Range=f"bytes={start}-{source.size - 1}"
            )
        body = response["Body"]
        # What `async with` would bind is the HTTP library's own response, which cannot be read in blocks.
        async with body:
            while block := await body.read(_READ_BYTES):
                yield block


@contextmanager
def _translated(uri: S3Uri) -> Iterator[None]:
    """Raise our errors for botocore's, without the text from inside."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise NotFound(f"{uri}: no such object or bucket", reason="OBJECT_NOT_FOUND") from error
        if code in _FORBIDDEN:
            raise PermissionDenied(
                f"{uri}: the service's identity may not do this; grant it access", reason="STORAGE_ACCESS_DENIED"
            ) from error
        if code in _CHANGED:
            raise FailedPrecondition(f"{uri}: the object changed while it was read", reason="OBJECT_CHANGED") from error
        raise Unavailable(f"{uri}: storage answered with an error", reason="STORAGE_UNAVAILABLE") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PermissionDenied(f"{uri}: the service has no credentials", reason="STORAGE_ACCESS_DENIED") from error
    except (BotoCoreError, TimeoutError, aiohttp.ClientError) as error:
        raise Unavailable(f"{uri}: storage did not answer", reason="STORAGE_UNAVAILABLE") from error
