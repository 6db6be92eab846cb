"""What a video may ask of a sampling process."""

from dataclasses import dataclass

from services.ingress.sampling.video_file import refused
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """Beyond them a video is refused."""

    max_pixels: int = 8192 * 4320  # of any one frame
    max_duration_seconds: float = 6 * 3600.0
    max_packets: int = 4_000_000
    max_bytes_ahead: int = 128 * 2**20  # of packets to plan with, about 1.2 chunks; beyond, every frame is decoded

    def too_long(self) -> InvalidInput:
        return refused(ErrorReason.VIDEO_OVER_LIMIT, f"The video is longer than {self.max_duration_seconds:g} seconds.")
