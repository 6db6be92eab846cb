"""https:// URIs: objects on servers that the operator allows."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp

from services.ingress.sources.media import FIELD, CheckVersion, Media, Progress, WholeMedia, any_version
from services.ingress.sources.scratch import ScratchSpace, disk_errors
from videoanalysis.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_BLOCK_BYTES = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=20)
_UNENCODED = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class HttpsObject:
    uri: str
    scratch: ScratchSpace
    tls: ssl.SSLContext

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        async with AsyncExitStack() as stack:
            with _https_errors(), disk_errors():
                # Redirects are not followed: they could lead to servers that the operator has not allowed.
                async with (
                    aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                    session.get(self.uri, ssl=self.tls, allow_redirects=False, headers=_UNENCODED) as response,
                ):
                    _check_status(response.status)
                    version = _version(response.headers)
                    check_version(version)
                    size = response.content_length
                    self.scratch.check_size(size or 0)
                    await on_progress(0, size or 0)
                    file = await stack.enter_async_context(self.scratch.file(size))
                    done = 0
                    async for block in response.content.iter_chunked(_BLOCK_BYTES):
                        done += len(block)
                        self.scratch.check_size(done)
                        await asyncio.to_thread(file.write, block)
                        await on_progress(done, size or 0)
                    await asyncio.to_thread(file.flush)
            yield WholeMedia(file.fileno(), done, version=version)


def _version(headers: Mapping[str, str]) -> str:
    """The ETag, or else the time of change; a weak ETag does not promise equal bytes."""
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    changed = headers.get("Last-Modified", "")
    return f"{changed}/{headers.get('Content-Length', '')}" if changed else ""


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise NotFound(f"{FIELD}: the server has no such object", reason=ErrorReason.OBJECT_NOT_FOUND, field=FIELD)
    if status in (401, 403):
        raise PermissionDenied(
            f"{FIELD}: the server refuses access", reason=ErrorReason.STORAGE_ACCESS_DENIED, field=FIELD
        )
    if 300 <= status < 400:
        raise InvalidInput(
            f"{FIELD}: redirects are not followed; name the target", reason=ErrorReason.REDIRECTED, field=FIELD
        )
    if status != 200:
        raise Unavailable(f"{FIELD}: the server answered with status {status}", reason=ErrorReason.STORAGE_UNAVAILABLE)


@contextmanager
def _https_errors() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(
            f"{FIELD}: the server did not answer, or broke off", reason=ErrorReason.STORAGE_UNAVAILABLE, field=FIELD
        ) from error
