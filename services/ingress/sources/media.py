"""What every source yields: an open media file, and the errors that all sources share."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from services.ingress.sampling import Media as SampledMedia
from services.ingress.sampling import WholeFile
from videoanalysis.errors import FailedPrecondition
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FIELD = "video_uri"

# Receives the bytes so far and, where known, in all (else 0).
Progress = Callable[[int, int], Awaitable[None]]

# Receives the version of the object before anything is read of it; an exception it raises ends the reading.
CheckVersion = Callable[[str], None]


class Media(SampledMedia, Protocol):
    @property
    def version(self) -> str:
        """Equal versions of one URI have equal bytes; empty where unknown."""


@dataclass(frozen=True, slots=True)
class WholeMedia(WholeFile):
    """A file of which all bytes are there."""

    version: str = ""


class Source(Protocol):
    def open(self, on_progress: Progress, check_version: CheckVersion) -> AbstractAsyncContextManager[Media]:
        """The video, open for reading until the context is left.

        Raises NotFound, PermissionDenied, FailedPrecondition (over the byte limit, changed while it was read),
        Overloaded (scratch disk full), Unavailable, and what `check_version` raises.
        """


def any_version(version: str) -> None:
    """Accepts every version."""


def too_large(limit: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"{FIELD}: over the limit of {limit} bytes", reason=ErrorReason.OBJECT_OVER_LIMIT, field=FIELD
    )
