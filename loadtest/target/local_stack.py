"""A stack on this machine to put under load, with encoders that only take time."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from loadtest.sweep.samples import Source
from loadtest.target.processes import Machine, Processes, scaling_pages
from videoanalysis.stack.stack import Kind, Stack


@dataclass(frozen=True, slots=True)
class StackOptions:
    ingresses: int = 1
    encoders: int = 2
    decoders: int = 1
    service_ms: float = 22.6
    image_size: int = 384
    # Videos in progress at each ingress; None leaves the service's own.
    max_videos: int | None = None

    def settings(self) -> dict[Kind, dict[str, object]]:
        ingress: dict[str, object] = {"scaling_port": 0}
        if self.max_videos is not None:
            ingress["max_videos"] = self.max_videos
        encoder: dict[str, object] = {
            "synthetic_service_ms": self.service_ms,
            "synthetic_image_size": self.image_size,
        }
        return {"ingress": ingress, "encoder": encoder}

    def described(self) -> dict[str, object]:
        return {"engine": "synthetic: the GPU is simulated, an encoder takes service_ms per 16 frames", **asdict(self)}


def synthetic_stack(options: StackOptions, on_step: Callable[[str], None]) -> Stack:
    return Stack(
        engine="synthetic",
        ingresses=options.ingresses,
        encoders=options.encoders,
        decoders=options.decoders,
        settings=options.settings(),
        on_step=on_step,
    )


def sources_of(stack: Stack) -> list[Source]:
    """Its queues, replicas and CPU, and that of the machine. Raises OSError."""
    return [scaling_pages(stack), Processes(stack), Machine()]
