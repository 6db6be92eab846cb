"""Every file of the hostile corpus, through a sampling process: how it may end."""

import pytest

from services.ingress.sampling import SamplingPool
from tests.fuzz.media import LIMITS, sampled
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.corpus import corpus
from videoanalysis.v1.error_reason_pb2 import ErrorReason

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
            refusal, ends = await sampled(pool, attack.content)
            name = f"{attack.family}, {attack.name}"
            if refusal is None and attack.must_be_refused:
                wrong.append(f"{name}: sampled, although it has no pictures of its own")
            if refusal is not None and refusal.reason not in REFUSALS:
                wrong.append(f"{name}: {refusal!r}")
            wrong += [f"{name}: {end}" for end in ends]
    assert wrong == []
