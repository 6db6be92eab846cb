"""The ideal compared with what is known of it, and the alternatives with what they promise."""

import numpy as np
import pytest

from benchmarks.dispatch.alternatives import central_queue, least_outstanding, random_encoder
from benchmarks.dispatch.workload import SINGLE, Chunk, Poisson

SERVICE = 0.0226


@pytest.mark.parametrize(("encoders", "load"), [(1, 0.7), (4, 0.7), (10, 0.8)])
def test_chunks_wait_as_long_on_average_as_in_an_m_d_c_queue(encoders: int, load: float) -> None:
    arrivals = Poisson(SINGLE, load * encoders / SERVICE, seed=5)
    chunks = arrivals.chunks(30_000 / arrivals.chunks_per_second)
    central_queue(chunks, [1.0] * encoders, SERVICE)
    waited = np.mean([chunk.seconds - SERVICE for chunk in chunks])
    assert waited == pytest.approx(mean_wait_of_m_d_c(encoders, load) * SERVICE, rel=0.1)


def test_the_reference_agrees_with_pollaczek_and_khinchine_for_one_encoder() -> None:
    assert mean_wait_of_m_d_c(1, 0.8) == pytest.approx(0.8 / (2 * (1 - 0.8)))


def test_of_idle_encoders_the_fastest_works() -> None:
    chunk = Chunk(video=0, ingress=0, arrived=1.0, work=1.0)
    central_queue([chunk], [0.5, 1.0], SERVICE)
    assert chunk.done == 1.0 + SERVICE


def test_a_busy_encoder_takes_the_next_chunk_when_it_is_done() -> None:
    chunks = [Chunk(video=0, ingress=0, arrived=0.0, work=1.0) for _ in range(3)]
    central_queue(chunks, [1.0], 2.0, before=0.5, after=0.25)
    assert [chunk.done for chunk in chunks] == [2.75, 4.75, 6.75]


def test_with_the_least_outstanding_one_ingress_puts_nothing_behind_another_while_one_is_idle():
    chunks = [Chunk(video=0, ingress=0, arrived=0.0, work=1.0) for _ in range(6)]
    least_outstanding(chunks, [1.0] * 3, 2.0)
    assert sorted(chunk.seconds for chunk in chunks) == [2.0] * 3 + [4.0] * 3


def test_a_random_encoder_serves_every_chunk_in_the_order_of_its_queue():
    chunks = [Chunk(video=0, ingress=0, arrived=0.1 * number, work=1.0) for number in range(50)]
    random_encoder(chunks, [1.0] * 3, 2.0)
    assert all(chunk.seconds > 1.999 for chunk in chunks)
    assert max(chunk.arrived + chunk.seconds for chunk in chunks) > 50 / 3 * 2.0


def mean_wait_of_m_d_c(servers: int, load: float) -> float:
    """In service times. After each, who was served has left, and a Poisson number has come (Crommelin, 1932)."""
    states = 400
    rate = load * servers
    come = np.exp(np.cumsum(np.log([rate / max(n, 1) if n else 1.0 for n in range(states)])) - rate)
    present = np.eye(states)[0]
    for _ in range(500):
        left = np.concatenate([[present[: servers + 1].sum()], present[servers + 1 :], np.zeros(servers)])
        present = np.convolve(left, come)[:states]
    waiting = float(np.maximum(np.arange(states) - servers, 0) @ present)
    return waiting / rate
