import random
from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.errors import InvalidOption
from loadtest.simulate.arrivals import DAY_SECONDS, ChunkMix, day, poisson, recorded, spike

ONE = ChunkMix({1: 1})


def test_poisson_arrivals_come_at_their_rate_and_irregularly():
    times = [at for at, _ in poisson(lambda _: 5, highest=5, seconds=4000, mix=ONE, rng=random.Random(1))]
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)

    assert mean == pytest.approx(1 / 5, rel=0.03)
    # Of an exponential distribution the deviation is the mean.
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)
    assert times == sorted(times)


def test_a_spike_multiplies_the_rate_while_it_lasts():
    rate = spike(3, 10, begins=100, lasts=50)
    times = [at for at, _ in poisson(rate, highest=30, seconds=300, mix=ONE, rng=random.Random(2))]

    assert sum(100 <= at < 150 for at in times) == pytest.approx(1500, rel=0.1)
    assert sum(at < 100 or at >= 150 for at in times) == pytest.approx(750, rel=0.15)


def test_a_day_is_quiet_at_four_in_the_morning_and_busy_at_four_in_the_afternoon():
    rate = day(100, quiet=0.2, noise=0, seed=1)

    assert rate(4 * 3600) == pytest.approx(20)
    assert rate(16 * 3600) == pytest.approx(100)
    assert rate(10 * 3600) == pytest.approx(60)
    assert max(map(rate, range(0, int(DAY_SECONDS), 60))) == pytest.approx(100)


def test_the_noise_of_a_day_at_most_doubles_it():
    rates = [day(100, quiet=1, noise=1, seed=1)(at) for at in range(0, int(DAY_SECONDS), 300)]

    assert max(rates) == 200
    assert min(rates) > 0
    assert len(set(rates)) > 100


def test_a_mix_is_drawn_by_its_weights():
    mix = ChunkMix({1: 70, 6: 25, 60: 5})
    rng = random.Random(3)
    drawn = [mix.draw(rng) for _ in range(20_000)]

    assert mix.mean == pytest.approx(0.7 + 1.5 + 3)
    assert drawn.count(6) == pytest.approx(5000, rel=0.05)
    assert set(drawn) == {1, 6, 60}


def test_reads_a_recorded_trace_in_order_and_from_zero(tmp_path: Path):
    path = tmp_path / "trace.csv"
    path.write_text("id,start_seconds,chunks\n0,1012.5,6\n1,1010,1\n")

    assert recorded(path) == [(0, 1), (2.5, 6)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no rows"),
        ("start_seconds\n1\n", "no column 'chunks'"),
        ("start_seconds,chunks\n", "no rows"),
        ("start_seconds,chunks\n1,0\n", "at least one chunk"),
        ("start_seconds,chunks\nnan,1\n", "finite"),
        ("start_seconds,chunks\nsoon,1\n", "soon"),
    ],
)
def test_rejects_a_trace_that_cannot_be_replayed(tmp_path: Path, content: str, complaint: str):
    path = tmp_path / "trace.csv"
    path.write_text(content)

    with pytest.raises(InvalidOption, match=complaint):
        recorded(path)


def test_a_missing_trace_is_named(tmp_path: Path):
    with pytest.raises(InvalidOption, match=r"none\.csv"):
        recorded(tmp_path / "none.csv")
