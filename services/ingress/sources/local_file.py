"""file:// URIs: files under directories that the operator allows."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.ingress.sources.media import FIELD, CheckVersion, Media, Progress, WholeMedia, any_version, too_large
from videoanalysis.errors import InvalidInput, NotFound, PermissionDenied
from videoanalysis.v1.error_reason_pb2 import ErrorReason


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    max_bytes: int
    version: str = ""  # default: made of size, time of change and inode

    @asynccontextmanager
    async def open(self, on_progress: Progress, check_version: CheckVersion = any_version) -> AsyncIterator[Media]:
        try:
            # Non-blocking, so that opening a pipe without a writer returns.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{FIELD}: no such file", reason=ErrorReason.OBJECT_NOT_FOUND, field=FIELD) from error
        except OSError as error:
            raise PermissionDenied(
                f"{FIELD}: the service may not read this file", reason=ErrorReason.STORAGE_ACCESS_DENIED, field=FIELD
            ) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"{FIELD}: not a regular file", reason=ErrorReason.NOT_A_VIDEO, field=FIELD)
            if status.st_size > self.max_bytes:
                raise too_large(self.max_bytes)
            version = self.version or f"{status.st_size}/{status.st_mtime_ns}/{status.st_ino}"
            check_version(version)
            await on_progress(status.st_size, status.st_size)
            yield WholeMedia(fd, status.st_size, version=version)
        finally:
            os.close(fd)
