"""Clips changed at random, through sampling processes."""

import tempfile
import time
from fractions import Fraction

from structlog.testing import capture_logs

from services.ingress.admission import ByteBudget
from services.ingress.sampling import FrameBuffer, SamplingPool, SamplingSpec, WholeFile, WorkerLimits
from tests.fuzz.mutation import mutated
from videoanalysis.errors import InvalidInput
from videoanalysis.selftest.clips import CONTAINERS, clip

LIMITS = WorkerLimits(
    memory_bytes=512 << 20,
    cpu_seconds=60,
    stall_seconds=60,
    max_pixels=8192 * 4320,
    max_video_seconds=3600,
    max_packets=1_000_000,
)
SPEC = SamplingSpec(frames_per_chunk=4, chunk_duration=Fraction(60), image_size=32)


async def sampled(pool: SamplingPool, content: bytes) -> tuple[InvalidInput | None, list[str]]:
    """The refusal, if any, and why workers ended, other than by the limit of their memory."""
    refusal = None
    with tempfile.TemporaryFile() as file, capture_logs() as logs:
        file.write(content)
        file.flush()
        buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
        try:
            async with pool.sample(WholeFile.of(file.fileno()), SPEC) as video:
                await video.open()
                while await video.next_chunk(buffer) is not None:
                    pass
        except InvalidInput as error:
            refusal = error
        finally:
            buffer.close()
    ends = [str(entry["cause"])[-1000:] for entry in logs if entry["event"] == "sampling process ended"]
    return refusal, [end for end in ends if "memory" not in end]


async def run(seconds: float, seed: int) -> tuple[int, list[tuple[bytes, str]]]:
    """How many files were sampled, and those at which a worker ended or something else went wrong."""
    findings: list[tuple[bytes, str]] = []
    count = 0
    until = time.monotonic() + seconds
    async with SamplingPool(1, LIMITS) as pool:
        for content in mutated([clip(suffix) for suffix in CONTAINERS], seed):
            if time.monotonic() > until:
                return count, findings
            count += 1
            try:
                _, ends = await sampled(pool, content)
                findings += [(content, end) for end in ends]
            except Exception as error:
                findings.append((content, repr(error)))
    raise AssertionError("mutation never ends")
