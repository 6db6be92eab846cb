"""A stack on this machine to put under load, with encoders that only take time."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from loadtest.target.processes import Machine, Processes, scaling_pages
from loadtest.target.source import Source
from videoanalysis.stack.stack import Stack


@dataclass(frozen=True, slots=True)
class StackOptions:
    """A `max_videos` (videos in progress at each ingress) of None keeps the default of the service."""

    ingresses: int = 1
    encoders: int = 2
    decoders: int = 1
    service_ms: float = 22.6
    image_size: int = 384
    max_videos: int | None = None

    def described(self) -> dict[str, object]:
        return {"engine": "synthetic: the GPU is simulated, an encoder takes service_ms per 16 frames", **asdict(self)}


def synthetic_stack(options: StackOptions, on_step: Callable[[str], None]) -> Stack:
    ingress: dict[str, object] = {"scaling_port": 0}
    if options.max_videos is not None:
        ingress["max_videos"] = options.max_videos
    encoder = {"synthetic_service_ms": options.service_ms, "synthetic_image_size": options.image_size}
    return Stack(
        engine="synthetic",
        ingresses=options.ingresses,
        encoders=options.encoders,
        decoders=options.decoders,
        settings={"ingress": ingress, "encoder": encoder},
        on_step=on_step,
    )


def sources_of(stack: Stack) -> list[Source]:
    """Its queues, replicas and CPU, and the CPU of the machine. Raises OSError."""
    return [scaling_pages(stack), Processes(stack), Machine()]
