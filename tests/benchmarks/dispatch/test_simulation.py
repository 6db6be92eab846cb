"""The simulated system keeps its books, whatever the policy."""

from dataclasses import replace
from math import inf

import pytest
from benchmarks.dispatch.encoder import COPY_SECONDS, HOP_SECONDS, SERVICE_SECONDS
from benchmarks.dispatch.policy import LEAST_OUTSTANDING, PARK_AT_TWO, RANDOM, REFUSE, ROUND_ROBIN, Choice, Policy

from benchmarks.dispatch.simulation import simulate
from benchmarks.dispatch.workload import BURSTS, SINGLE, Chunk, Poisson

OURS = Policy()
POLICIES = {
    "random": RANDOM,
    "round robin": ROUND_ROBIN,
    "least outstanding": LEAST_OUTSTANDING,
    "refuse": REFUSE,
    "park at two": PARK_AT_TWO,
    "ours": OURS,
    "by report, few parked, for a moment": replace(OURS, choice=Choice.REPORTED, max_parked=2, park_seconds=0.02),
    "no delay of the further place": replace(OURS, lead=inf, apart=0.0, offers=4),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_every_chunk_is_computed_once_and_nothing_is_held_in_the_end(policy: Policy) -> None:
    arrivals = Poisson(BURSTS, 1.2 * 4 / SERVICE_SECONDS, ingresses=5, noise=0.3, copy_noise=0.5)
    chunks, outcome = simulate(policy, arrivals, [0.5, 1.0, 1.0, 1.0], 4.0, max_waiting=40, drain_seconds=30.0)
    done = [chunk for chunk in chunks if chunk.done is not None]
    assert len(done) > 200
    assert all(chunk.refused for chunk in chunks if chunk.done is None)
    assert not any(chunk.refused for chunk in done)
    assert outcome.computed == len(done)
    assert outcome.held == 0


def test_a_chunk_that_meets_an_idle_encoder_takes_the_handshake_the_copy_and_its_service() -> None:
    arrivals = Poisson(SINGLE, 1.0)
    chunks, _ = simulate(OURS, arrivals, [1.0, 1.0], 5.0, drain_seconds=1.0)
    alone = 4 * HOP_SECONDS + COPY_SECONDS + SERVICE_SECONDS
    took = [chunk.seconds for chunk in chunks if is_alone(chunk, chunks)]
    assert len(took) >= 3
    assert took == pytest.approx([alone] * len(took))


def test_no_chunk_is_done_sooner_than_its_service_takes() -> None:
    arrivals = Poisson(BURSTS, 0.9 * 2 / SERVICE_SECONDS, ingresses=2, noise=0.3)
    chunks, _ = simulate(OURS, arrivals, [1.0, 1.0], 4.0, drain_seconds=10.0)
    assert chunks
    assert all(chunk.seconds >= chunk.work * SERVICE_SECONDS for chunk in chunks)


def test_encoders_are_never_busier_than_they_can_be() -> None:
    arrivals = Poisson(SINGLE, 3 * 2 / SERVICE_SECONDS, ingresses=4)
    _, outcome = simulate(OURS, arrivals, [1.0, 1.0], 5.0, max_waiting=30)
    assert 0.97 < outcome.throughput <= 1.01


def is_alone(chunk: Chunk, chunks: list[Chunk]) -> bool:
    return all(abs(other.arrived - chunk.arrived) > 0.1 for other in chunks if other is not chunk)
