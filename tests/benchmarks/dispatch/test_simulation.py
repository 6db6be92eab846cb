"""The simulated system loses nothing, takes no less time than physics allows, and shares encoders fairly."""

import pytest

from benchmarks.dispatch import fairness
from benchmarks.dispatch.simulation import HOP_SECONDS, SERVICE_SECONDS, UPLOAD_SECONDS, saturate, simulate
from benchmarks.dispatch.workload import BURSTS, SINGLE, Chunk, Poisson


def test_every_chunk_is_computed_once_and_nothing_is_held_in_the_end():
    arrivals = Poisson(BURSTS, 1.2 * 4 / SERVICE_SECONDS, ingresses=5, noise=0.3, upload_noise=0.5)
    chunks, _ = simulate(arrivals, [0.5, 1.0, 1.0, 1.0], 4.0)
    assert len(chunks) > 200
    assert all(chunk.done is not None for chunk in chunks)
    assert all(chunk.seconds >= chunk.work * SERVICE_SECONDS for chunk in chunks)


def test_a_chunk_that_meets_an_idle_encoder_takes_the_handshake_the_upload_and_its_service():
    chunks, _ = simulate(Poisson(SINGLE, 1.0), [1.0, 1.0], 5.0)
    alone = 4 * HOP_SECONDS + UPLOAD_SECONDS + SERVICE_SECONDS
    took = [chunk.seconds for chunk in chunks if is_alone(chunk, chunks)]
    assert len(took) >= 3
    assert took == pytest.approx([alone] * len(took))


@pytest.mark.parametrize("case", [case for case in fairness.CASES if case.encoders <= 2], ids=str)
def test_no_ingress_gets_less_than_its_share_of_saturated_encoders(case: fairness.Case):
    seconds = 300 * SERVICE_SECONDS
    case = case.at(1000 * SERVICE_SECONDS)
    times = saturate(case.outstanding, [1.0] * case.encoders, seconds)
    for one, best in zip(times, fairness.ideal(case, seconds), strict=True):
        got = fairness.received(one, 0.2 * seconds, seconds)
        assert got.rate >= 0.7 * best.rate
        assert got.p99_seconds <= 2 * best.mean_seconds
    work = sum(len(one) for one in times) * SERVICE_SECONDS
    assert work >= 0.95 * seconds * case.encoders


def is_alone(chunk: Chunk, chunks: list[Chunk]) -> bool:
    return all(abs(other.arrived - chunk.arrived) > 0.1 for other in chunks if other is not chunk)
