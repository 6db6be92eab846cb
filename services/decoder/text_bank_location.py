"""The location of the text banks: a directory, or a prefix of an S3 bucket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from videoanalysis.storage import S3Uri, Storage

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Version:
    """Changes whenever the content of a file changes."""

    tag: str
    size: int


class Location(Protocol):
    """Where banks are stored. Both methods raise OSError or ServiceError while it is unavailable."""

    async def versions(self) -> Mapping[str, Version]:
        """The bank files that exist now, by address."""

    async def read(self, address: str, max_bytes: int) -> bytes: ...


class Directory:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def versions(self) -> Mapping[str, Version]:
        return await asyncio.to_thread(self._versions)

    async def read(self, address: str, max_bytes: int) -> bytes:
        return await asyncio.to_thread(Path(address).read_bytes)

    def _versions(self) -> Mapping[str, Version]:
        stats = {str(path): path.stat() for path in self._path.iterdir() if path.suffix == SUFFIX and path.is_file()}
        return {address: Version(f"{stat.st_mtime_ns}-{stat.st_ino}", stat.st_size) for address, stat in stats.items()}


class Bucket:
    """The objects under a prefix, at any depth."""

    def __init__(self, storage: Storage, prefix: S3Uri) -> None:
        self._storage = storage
        self._prefix = prefix

    async def versions(self) -> Mapping[str, Version]:
        objects = await self._storage.list(self._prefix)
        return {str(found.uri): Version(found.etag, found.size) for found in objects if found.uri.key.endswith(SUFFIX)}

    async def read(self, address: str, max_bytes: int) -> bytes:
        return await self._storage.read(S3Uri.parse(address, "banks"), max_bytes)


@asynccontextmanager
async def open_location(
    banks: str, open_storage: Callable[[], AbstractAsyncContextManager[Storage]]
) -> AsyncIterator[Location | None]:
    """The location that the setting `banks` names, None if it is empty."""
    if banks.startswith("s3://"):
        async with open_storage() as storage:
            yield Bucket(storage, S3Uri.parse(banks.rstrip("/") + "/", "banks"))
    else:
        yield Directory(Path(banks)) if banks else None
