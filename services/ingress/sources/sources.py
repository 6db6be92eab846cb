"""Where videos come from, and how their bytes get into a file of ours.

Downloads go into files without a name, so that nothing is left on disk however the process ends.
"""

import asyncio
import errno
import functools
import hashlib
import os
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp

from services.ingress.admission.byte_budget import ByteBudget
from videoanalysis.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unavailable,
)
from videoanalysis.storage import S3Uri, Storage

SAMPLE_CLIP_URI = "sample://clip"

_SAMPLE_CLIP = Path(__file__).with_name("sample_clip.mp4")
_FIELD = "video_uri"
_BLOCK_BYTES = 1 << 20
_HTTPS_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=20)
_AS_IT_IS = {"Accept-Encoding": "identity"}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
# By then a video that holds the disk may be done.
_DISK_RETRY_SECONDS = 10.0

# Hears the bytes so far and, where known, in all (else 0).
Progress = Callable[[int, int], Awaitable[None]]


# Hears the version of the object before anything is read of it; what it raises ends that.
CheckVersion = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Media:
    """The descriptor of a file with a whole video; equal versions of one URI have equal bytes, empty where unknown."""

    fd: int
    version: str


def any_version(version: str) -> None:
    """Accepts every version."""


class Source(Protocol):
    def open(
        self, on_progress: Progress, check_version: CheckVersion = any_version
    ) -> AbstractAsyncContextManager[Media]:
        """The video, open for reading until the context is left.

        Raises NotFound, PermissionDenied, FailedPrecondition (over the byte limit, changed while it was read),
        Overloaded (scratch disk full), Unavailable, and what `check_version` raises.
        """


@dataclass(frozen=True, slots=True)
class Allowed:
    """What callers may name. `buckets` may hold "*"; the others are directories and prefixes up to a slash."""

    buckets: Sequence[str] = ()
    file_roots: Sequence[Path] = ()
    https_prefixes: Sequence[str] = ()


class Sources:
    """Videos of at most `max_object_bytes` each; `scratch` bounds the downloads in `scratch_dir` together.

    `trusted` says which https servers are believed to be who they are; by default those whom the system trusts.
    """

    def __init__(
        self,
        storage: Storage,
        allowed: Allowed,
        scratch: ByteBudget,
        scratch_dir: Path | None,
        max_object_bytes: int,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self._storage = storage
        self._allowed = allowed
        self._scratch = scratch
        self._scratch_dir = scratch_dir
        self._max_object_bytes = max_object_bytes
        self._trusted = trusted or ssl.create_default_context()

    def locate(self, uri: str) -> Source:
        """The source that `uri` names; raises InvalidInput or PermissionDenied without touching it."""
        if uri == SAMPLE_CLIP_URI:
            return LocalFile(_SAMPLE_CLIP, self._max_object_bytes, _sample_version())
        match uri.partition("://")[0]:
            case "s3":
                return self._s3(uri)
            case "file":
                return self._file(uri)
            case "https":
                return self._https(uri)
        raise InvalidInput(
            f"{_FIELD}: not of the form s3://bucket/key or {SAMPLE_CLIP_URI}", reason="MALFORMED_URI", field=_FIELD
        )

    def _s3(self, uri: str) -> Source:
        parsed = S3Uri.parse(uri, _FIELD)
        if "*" not in self._allowed.buckets and parsed.bucket not in self._allowed.buckets:
            raise _forbidden("BUCKET_NOT_ALLOWED", f"bucket {parsed.bucket!r}", "INGRESS_ALLOWED_BUCKETS")
        return S3Object(parsed, self._storage, self)

    def _file(self, uri: str) -> Source:
        parts = urlsplit(uri)
        if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/") or "%00" in uri:
            raise InvalidInput(f"{_FIELD}: not of the form file:///path", reason="MALFORMED_URI", field=_FIELD)
        # Links are followed before the check, so that none leads out of an allowed directory.
        path = Path(unquote(parts.path)).resolve()
        if not any(path.is_relative_to(root.resolve()) for root in self._allowed.file_roots):
            raise _forbidden("FILE_NOT_ALLOWED", "this path", "INGRESS_ALLOWED_FILE_ROOTS")
        return LocalFile(path, self._max_object_bytes)

    def _https(self, uri: str) -> Source:
        try:
            parts = urlsplit(uri)
            malformed = (
                not parts.hostname or "@" in parts.netloc or ".." in unquote(parts.path) or not uri.isprintable()
            )
        except ValueError:
            malformed = True
        if malformed:
            raise InvalidInput(f"{_FIELD}: not of the form https://host/path", reason="MALFORMED_URI", field=_FIELD)
        if not any(uri.startswith(prefix.rstrip("/") + "/") for prefix in self._allowed.https_prefixes):
            raise _forbidden("HOST_NOT_ALLOWED", "this address", "INGRESS_ALLOWED_HTTPS_PREFIXES")
        return HttpsObject(uri, self, self._trusted)

    def check_size(self, size: int) -> None:
        if size > self._max_object_bytes:
            raise _too_large(self._max_object_bytes)

    @asynccontextmanager
    async def scratch_file(self, size: int | None) -> AsyncIterator[BinaryIO]:
        """A new file for a download of `size` bytes, as large as allowed if unknown; waits until there is room."""
        async with self._scratch.reserve(self._max_object_bytes if size is None else size):
            # Also what it still has in memory when it is closed may find no room.
            with _disk_errors(), tempfile.TemporaryFile(dir=self._scratch_dir) as file:
                yield file


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    max_bytes: int
    # By default told by size, time of change and inode.
    version: str = ""

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        try:
            # Not blocked by a pipe that nobody writes to.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{_FIELD}: no such file", reason="OBJECT_NOT_FOUND", field=_FIELD) from error
        except OSError as error:
            raise PermissionDenied(
                f"{_FIELD}: the service may not read this file", reason="STORAGE_ACCESS_DENIED", field=_FIELD
            ) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"{_FIELD}: not a regular file", reason="NOT_A_VIDEO", field=_FIELD)
            if status.st_size > self.max_bytes:
                raise _too_large(self.max_bytes)
            version = self.version or f"{status.st_size}/{status.st_mtime_ns}/{status.st_ino}"
            check_version(version)
            await on_progress(status.st_size, status.st_size)
            yield Media(fd, version)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class S3Object:
    uri: S3Uri
    storage: Storage
    sources: Sources

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        with _blame_field():
            found = await self.storage.stat(self.uri)
        check_version(found.etag)
        self.sources.check_size(found.size)
        await on_progress(0, found.size)

        async def downloaded(done: int) -> None:
            await on_progress(done, found.size)

        async with self.sources.scratch_file(found.size) as file:
            with _blame_field(), _disk_errors():
                await self.storage.download(found, file, downloaded)
                await asyncio.to_thread(file.flush)
            yield Media(file.fileno(), found.etag)


@dataclass(frozen=True, slots=True)
class HttpsObject:
    uri: str
    sources: Sources
    trusted: ssl.SSLContext

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        async with AsyncExitStack() as stack:
            with _https_errors(), _disk_errors():
                # Redirects could lead anywhere: only what the operator has named is asked.
                async with (
                    aiohttp.ClientSession(timeout=_HTTPS_TIMEOUT) as session,
                    session.get(self.uri, ssl=self.trusted, allow_redirects=False, headers=_AS_IT_IS) as response,
                ):
                    _check_status(response.status)
                    version = _https_version(response.headers)
                    check_version(version)
                    size = response.content_length
                    self.sources.check_size(size or 0)
                    await on_progress(0, size or 0)
                    file = await stack.enter_async_context(self.sources.scratch_file(size))
                    done = 0
                    async for block in response.content.iter_chunked(_BLOCK_BYTES):
                        done += len(block)
                        self.sources.check_size(done)
                        await asyncio.to_thread(file.write, block)
                        await on_progress(done, size or 0)
                    await asyncio.to_thread(file.flush)
            yield Media(file.fileno(), version)


@functools.cache
def _sample_version() -> str:
    # Not of the file: every image has its own.
    return hashlib.sha256(_SAMPLE_CLIP.read_bytes()).hexdigest()


def _https_version(headers: Mapping[str, str]) -> str:
    """The ETag, or else the time of change; a weak ETag does not promise equal bytes."""
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    changed = headers.get("Last-Modified", "")
    return f"{changed}/{headers.get('Content-Length', '')}" if changed else ""


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise NotFound(f"{_FIELD}: the server has no such object", reason="OBJECT_NOT_FOUND", field=_FIELD)
    if status in (401, 403):
        raise PermissionDenied(f"{_FIELD}: the server refuses it", reason="STORAGE_ACCESS_DENIED", field=_FIELD)
    if 300 <= status < 400:
        raise InvalidInput(f"{_FIELD}: redirects are not followed; name the target", reason="REDIRECTED", field=_FIELD)
    if status != 200:
        raise Unavailable(f"{_FIELD}: the server answered with status {status}", reason="STORAGE_UNAVAILABLE")


def _forbidden(reason: str, what: str, setting: str) -> PermissionDenied:
    return PermissionDenied(
        f"{_FIELD}: {what} is not allowed here; the operator allows it with {setting}", reason=reason, field=_FIELD
    )


def _too_large(limit: int) -> FailedPrecondition:
    return FailedPrecondition(f"{_FIELD}: over the limit of {limit} bytes", reason="OBJECT_OVER_LIMIT", field=_FIELD)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise Overloaded(
            "the scratch disk is full", reason="SCRATCH_FULL", retry_after_seconds=_DISK_RETRY_SECONDS
        ) from error


@contextmanager
def _blame_field() -> Iterator[None]:
    """Storage knows no fields: what it says of the object, it says of ours."""
    try:
        yield
    except (NotFound, PermissionDenied, FailedPrecondition) as error:
        error.field = _FIELD
        raise


@contextmanager
def _https_errors() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(
            f"{_FIELD}: the server did not answer, or broke off", reason="STORAGE_UNAVAILABLE", field=_FIELD
        ) from error
