"""Every file of the hostile corpus, through a sampling process: how it may end."""

import tempfile
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from services.ingress.admission import ByteBudget
from services.ingress.sampling import FrameBuffer, SamplingPool, SamplingSpec, WholeFile, WorkerLimits
from videoanalysis.errors import InvalidInput
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.corpus import corpus
from videoanalysis.v1.error_reason_pb2 import ErrorReason

LIMITS = WorkerLimits(
    memory_bytes=512 << 20,
    cpu_seconds=60,
    chunk_seconds=60,
    max_pixels=8192 * 4320,
    max_video_seconds=3600,
    max_packets=1_000_000,
)
SPEC = SamplingSpec(frames_per_chunk=4, chunk_duration=Fraction(60), image_size=32)
REFUSALS = {
    ErrorReason.NOT_A_VIDEO,
    ErrorReason.NO_VIDEO_STREAM,
    ErrorReason.TOO_MANY_DECODE_FAILURES,
    ErrorReason.VIDEO_OVER_LIMIT,
}


@pytest.fixture(scope="module")
def attacks() -> list[Attack]:
    """Each once: a worker does not see the suffixes under which the same script comes."""
    return list({attack.content: attack for attack in corpus("/secret.mp4", "127.0.0.1:9")}.values())


def test_the_corpus_is_the_same_every_time_small_and_of_many_families(attacks: list[Attack]) -> None:
    again = list(corpus("/secret.mp4", "127.0.0.1:9"))
    assert {attack.content for attack in again} == {attack.content for attack in attacks}
    assert sum(len(attack.content) for attack in again) < 2_000_000
    assert len({attack.family for attack in again}) > 60


def test_another_seed_damages_other_places(attacks: list[Attack]) -> None:
    damaged = {attack.content for attack in attacks if attack.family.startswith(("cut off", "bits"))}
    others = {
        a.content for a in corpus("/secret.mp4", "127.0.0.1:9", seed=2) if a.family.startswith(("cut off", "bits"))
    }
    assert damaged
    assert not damaged & others


async def test_each_is_sampled_or_refused_and_no_worker_crashes(attacks: list[Attack]) -> None:
    wrong: list[str] = []
    async with SamplingPool(2, LIMITS) as pool:
        for attack in attacks:
            with capture_logs() as logs:
                refusal = await sampled(pool, attack.content)
            name = f"{attack.family}, {attack.name}"
            if refusal is None and attack.must_be_refused:
                wrong.append(f"{name}: sampled, although it has no pictures of its own")
            if refusal is not None and refusal.reason not in REFUSALS:
                wrong.append(f"{name}: {refusal!r}")
            # The workers' memory is limited, and a file may reach the limit.
            ends = [str(entry["cause"]) for entry in logs if entry["event"] == "sampling process ended"]
            wrong += [f"{name}: {end[-500:]}" for end in ends if "memory" not in end]
    assert wrong == []


async def sampled(pool: SamplingPool, content: bytes) -> InvalidInput | None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
        try:
            async with pool.sample(WholeFile.of(file.fileno()), SPEC) as video:
                await video.open()
                while await video.next_chunk(buffer) is not None:
                    pass
        except InvalidInput as refusal:
            return refusal
        finally:
            buffer.close()
    return None
