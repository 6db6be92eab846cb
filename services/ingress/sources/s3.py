"""s3:// URIs: objects in buckets that the operator allows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from services.ingress.sources.media import FIELD, CheckVersion, Media, Progress, WholeMedia, any_version
from services.ingress.sources.scratch import ScratchSpace, disk_errors
from videoanalysis.errors import FailedPrecondition, NotFound, PermissionDenied
from videoanalysis.storage import S3Uri, Storage


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

        async def downloaded(done: int) -> None:
            await on_progress(done, found.size)

        async with self.scratch.file(found.size) as file:
            with _errors_of_field(), disk_errors():
                await self.storage.download(found, file, downloaded)
                await asyncio.to_thread(file.flush)
            yield WholeMedia(file.fileno(), found.size, version=found.etag)


@contextmanager
def _errors_of_field() -> Iterator[None]:
    """Name the request's field in errors about the object; the storage client does not know it."""
    try:
        yield
    except (NotFound, PermissionDenied, FailedPrecondition) as error:
        error.field = FIELD
        raise
