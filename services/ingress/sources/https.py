"""https:// URIs: objects on servers that the operator allows."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import aiohttp

from services.ingress.sources.media import FIELD, CheckVersion, Media, Progress, WholeMedia, any_version
from services.ingress.sources.public_addresses import AddressNotAllowed, Networks, PublicAddresses, check_literal
from services.ingress.sources.ranged_media import RangedMedia
from services.ingress.sources.scratch import ScratchSpace, disk_errors
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unavailable
from videoanalysis.proxies import proxy_of
from videoanalysis.storage import RangesNotSupported
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_BLOCK_BYTES = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=20)
_MAY_PASS = (408, 425, 429)  # too slow, too early, too many requests
_UNENCODED = {"Accept-Encoding": "identity"}
_ATTEMPTS = 4  # of a range, in a row without any byte
_FIRST_BACKOFF_SECONDS = 0.1
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LEAST_BYTES_PER_SECOND = 16 << 10


@dataclass(frozen=True, slots=True)
class HttpsObject:
    """`networks` are those the operator allows in addition to public addresses.

    A server must begin its answer within `pace_seconds`, and from then on send it at a least pace.
    """

    uri: str
    scratch: ScratchSpace
    tls: ssl.SSLContext
    networks: Networks = ()
    pace_seconds: float = 30.0

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._session())
            remote = _RemoteObject(self.uri, session, self.tls, self.pace_seconds)
            if (size := await remote.head()) is not None:
                check_version(remote.version)
                self.scratch.check_size(size)
                await on_progress(0, size)
                file = await stack.enter_async_context(self.scratch.file(size))
                ranged = RangedMedia.open(file.fileno(), size, remote.version, remote)
                yield await stack.enter_async_context(ranged)
            else:
                yield await self._whole(remote, on_progress, check_version, stack)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        addresses = PublicAddresses(self.networks)
        proxy = proxy_of(self.uri)
        with _https_errors():
            check_literal(self.uri, self.networks)
            if proxy is not None:
                await addresses.check_name(self.uri)
        # Without a proxy, the connection goes to the addresses that were checked; a proxy may have a private one, and
        # resolves the name itself. Encoded content is never decoded: it could be larger than the scratch space that is
        # reserved for it.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=addresses if proxy is None else None),
            timeout=_TIMEOUT,
            auto_decompress=False,
            proxy=proxy,
        ) as session:
            yield session

    async def _whole(
        self, remote: "_RemoteObject", on_progress: Progress, check_version: CheckVersion, stack: AsyncExitStack
    ) -> Media:
        """Downloads the object before it is sampled: from servers without ranges, sizes or versions."""
        done = 0
        with disk_errors():
            async with remote.get({}) as response:
                _check_status(response.status)
                version = _version(response.headers)
                check_version(version)
                size = response.content_length
                self.scratch.check_size(size or 0)
                await on_progress(0, size or 0)
                file = await stack.enter_async_context(self.scratch.file(size))
                async for block in remote.paced(response):
                    done += len(block)
                    self.scratch.check_size(done)
                    await asyncio.to_thread(file.write, block)
                    await on_progress(done, size or 0)
                await asyncio.to_thread(file.flush)
        return WholeMedia(file.fileno(), done, version=version)


class _RemoteObject:
    """Requests for one object."""

    def __init__(self, uri: str, session: aiohttp.ClientSession, tls: ssl.SSLContext, pace_seconds: float) -> None:
        self.version = ""
        self._uri = uri
        self._session = session
        self._tls = tls
        self._pace_seconds = pace_seconds
        self._size = 0

    async def head(self) -> int | None:
        """The size, if the server states one, sends ranges, and names a version that they can be pinned to.

        None also if HEAD fails: not every server supports it, and GET reports the reason.
        """
        with suppress(Unavailable):
            async with self.get({}, method="HEAD") as response:
                etag, size = response.headers.get("ETag", ""), response.content_length
                has_ranges = response.status == 200 and response.headers.get("Accept-Ranges", "") == "bytes"
                if has_ranges and etag and not etag.startswith("W/") and size is not None:
                    self.version, self._size = etag, size
                    return size
        return None

    async def blocks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`, going on where a broken transfer stopped.

        Raises Unavailable after `_ATTEMPTS` transfers in a row without any, and RangesNotSupported before the first
        byte if the server can only send all.
        """
        done, attempt = start, 0
        while done < end:
            attempt += 1
            try:
                async with aclosing(self._transfer(done, end)) as blocks:
                    async for block in blocks:
                        done += len(block)
                        attempt = 0
                        yield block
            except _BrokenOff:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1))
            except RangesNotSupported as error:
                if done == start:
                    raise
                raise _broken_off() from error

    async def _transfer(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`, of the version that `head` found, in one request."""
        headers = {"If-Match": self.version, "Range": f"bytes={start}-{end - 1}"}
        async with self.get(headers) as response:
            if response.status == 412 or response.headers.get("ETag", self.version) != self.version:
                raise FailedPrecondition(
                    f"{FIELD}: the object changed while it was read", reason=ErrorReason.OBJECT_CHANGED, field=FIELD
                )
            if response.status == 200 and (start, end) != (0, self._size):
                raise RangesNotSupported
            _check_status(response.status, partial=True)
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                message = f"{FIELD}: the server sent another range than requested"
                raise Unavailable(message, reason=ErrorReason.STORAGE_UNAVAILABLE, field=FIELD)
            done = 0
            async for block in self.paced(response):
                done += len(block)
                if done > end - start:
                    break
                yield block
            if done != end - start:
                raise _broken_off()

    @asynccontextmanager
    async def get(self, headers: dict[str, str], method: str = "GET") -> AsyncIterator[aiohttp.ClientResponse]:
        with _https_errors():
            # Redirects are not followed: they could lead to servers that the operator has not allowed.
            request = self._session.request(
                method, self._uri, ssl=self._tls, allow_redirects=False, headers={**_UNENCODED, **headers}
            )
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._pace_seconds):
                    response = await stack.enter_async_context(request)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    message = f"{FIELD}: the server encodes the object (Content-Encoding); it must send it as it is"
                    raise InvalidInput(message, reason=ErrorReason.NOT_A_VIDEO, field=FIELD)
                yield response

    async def paced(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The content, unless it comes slower than a working server sends it."""
        start, done = time.monotonic(), 0
        async for block in response.content.iter_chunked(_BLOCK_BYTES):
            done += len(block)
            seconds = time.monotonic() - start
            if seconds > self._pace_seconds and done < seconds * _LEAST_BYTES_PER_SECOND:
                raise Unavailable(f"{FIELD}: the server sends too slowly", reason=ErrorReason.STORAGE_UNAVAILABLE)
            yield block


def _version(headers: Mapping[str, str]) -> str:
    """The ETag, or else the time of change; a weak ETag does not promise equal bytes."""
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    changed = headers.get("Last-Modified", "")
    return f"{changed}/{headers.get('Content-Length', '')}" if changed else ""


def _check_status(status: int, partial: bool = False) -> None:
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
    if status in _TRANSIENT:
        raise _BrokenOff(f"{FIELD}: the server answered with status {status}", reason=ErrorReason.STORAGE_UNAVAILABLE)
    if 400 <= status < 500 and status not in _MAY_PASS:
        raise FailedPrecondition(
            f"{FIELD}: the server rejects the request (status {status}), and would again",
            reason=ErrorReason.OBJECT_NOT_READABLE,
            field=FIELD,
        )
    if status != 200 and not (partial and status == 206):
        raise Unavailable(f"{FIELD}: the server answered with status {status}", reason=ErrorReason.STORAGE_UNAVAILABLE)


class _BrokenOff(Unavailable):
    """Another attempt may succeed."""


def _broken_off() -> _BrokenOff:
    return _BrokenOff(
        f"{FIELD}: the server did not answer, or broke off", reason=ErrorReason.STORAGE_UNAVAILABLE, field=FIELD
    )


@contextmanager
def _https_errors() -> Iterator[None]:
    try:
        yield
    except AddressNotAllowed as error:
        raise PermissionDenied(
            f"{FIELD}: the host has an address that is not public; the operator allows such networks with "
            "INGRESS_ALLOWED_HTTPS_NETWORKS",
            reason=ErrorReason.HOST_NOT_ALLOWED,
            field=FIELD,
        ) from error
    except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
        raise Unavailable(
            f"{FIELD}: the proxy to the server did not answer, or refused; the operator sets it with HTTPS_PROXY and "
            "NO_PROXY",
            reason=ErrorReason.STORAGE_UNAVAILABLE,
            field=FIELD,
        ) from error
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise _broken_off() from error
