"""A media file comes in; the frames of its chunks in shared memory and the places of cuts come out.

A name is loaded when it is first used: worker processes import this package too, and need none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.ingress.sampling.frame_buffer import FrameBuffer
    from services.ingress.sampling.media import Media, WholeFile
    from services.ingress.sampling.pool import SamplingPool
    from services.ingress.sampling.sampled_chunk import (
        CONTEXT_SECONDS,
        DISSOLVE,
        FADE,
        Cut,
        LargestChange,
        SampledChunk,
        Transition,
    )
    from services.ingress.sampling.sampled_video import SampledVideo, SamplingSpec, VideoEnd, WorkerLimits
    from services.ingress.sampling.sandbox import MEASURES, REQUIRED_MEASURES

__all__ = [
    "CONTEXT_SECONDS",
    "DISSOLVE",
    "FADE",
    "MEASURES",
    "REQUIRED_MEASURES",
    "Cut",
    "FrameBuffer",
    "LargestChange",
    "Media",
    "SampledChunk",
    "SampledVideo",
    "SamplingPool",
    "SamplingSpec",
    "Transition",
    "VideoEnd",
    "WholeFile",
    "WorkerLimits",
]

_MODULES = ("frame_buffer", "media", "pool", "sampled_chunk", "sampled_video", "sandbox")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            if name in vars(loaded := import_module(f"{__name__}.{module}")):
                return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
