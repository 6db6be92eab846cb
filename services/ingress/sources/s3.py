"""s3:// URIs: objects in buckets that the operator allows."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

from services.ingress.sources.media import FIELD, CheckVersion, Media, Progress, any_version
from services.ingress.sources.ranged_media import RangedMedia
from services.ingress.sources.scratch import ScratchSpace
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from videoanalysis.storage import S3Uri, Storage, StoredObject


@dataclass(frozen=True, slots=True)
class S3Object:
    uri: S3Uri
    storage: Storage
    scratch: ScratchSpace

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        with _errors_of_field():
            found = await self.storage.stat(self.uri)
        check_version(found.etag)
        self.scratch.check_size(found.size)
        await on_progress(0, found.size)
        remote = _RemoteObject(found, self.storage)
        async with (
            self.scratch.file(found.size) as file,
            RangedMedia.open(file.fileno(), found.size, found.etag, remote) as media,
        ):
            yield media


@dataclass(frozen=True, slots=True)
class _RemoteObject:
    found: StoredObject
    storage: Storage

    async def blocks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        with _errors_of_field():
            async with aclosing(self.storage.blocks(self.found, start, end)) as blocks:
                async for block in blocks:
                    yield block


@contextmanager
def _errors_of_field() -> Iterator[None]:
    """Sets the request's field in errors about the object; the storage client does not have it."""
    try:
        yield
    except (InvalidInput, NotFound, PermissionDenied, FailedPrecondition) as error:
        error.field = FIELD
        raise
