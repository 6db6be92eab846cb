"""Tags, captions and scene changes for any video in S3."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from videoanalysis.client import AsyncClient, Client
    from videoanalysis.errors import ServiceError
    from videoanalysis.partial_analysis import PartialAnalysis
    from videoanalysis.video_analysis import VideoAnalysis

__all__ = ["AsyncClient", "Client", "PartialAnalysis", "ServiceError", "VideoAnalysis", "__version__"]

# Imported when first used: the services also import this package, and do not need the client.
_MODULES = {
    "AsyncClient": "client",
    "Client": "client",
    "PartialAnalysis": "partial_analysis",
    "ServiceError": "errors",
    "VideoAnalysis": "video_analysis",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        try:
            return version("videoanalysis")
        except PackageNotFoundError:
            return "0+unknown"
    if name in _MODULES:
        return getattr(import_module(f"videoanalysis.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
