"""Against generated series with a known warm-up and trend."""

import numpy as np
import pytest

from loadtest.sweep.steady_state import confidence, detect

RNG_SEEDS = range(10)


def correlated(count: int, rho: float, seed: int) -> np.ndarray:
    """An autoregressive series of mean 0 and deviation 1."""
    noise = np.random.default_rng(seed).standard_normal(count) * (1 - rho**2) ** 0.5
    series = np.zeros(count)
    for index in range(1, count):
        series[index] = rho * series[index - 1] + noise[index]
    return series


def steady(series: np.ndarray, videos: list[str] | None = None):
    return detect(series.tolist(), videos or ["clip"] * len(series))


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_a_slow_warm_up_is_dropped_and_little_more(seed):
    latencies = 1000 + 50 * correlated(1000, 0.3, seed)
    latencies[:120] += 4000 * np.exp(-np.arange(120) / 30)
    found = steady(latencies)
    assert found.is_steady
    # By then the excess is 4000·e^-2: most of it lies before.
    assert 60 <= found.dropped <= 300


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_a_step_is_found_where_it_is(seed):
    """As when the second replica becomes ready."""
    latencies = 1000 + 50 * correlated(1000, 0, seed)
    latencies[:200] += 1000
    found = steady(latencies)
    assert found.is_steady
    assert 200 <= found.dropped <= 260


def test_little_is_dropped_of_a_series_that_is_steady_from_the_start():
    dropped = [steady(1000 + 100 * correlated(1000, 0.5, seed)).dropped for seed in RNG_SEEDS]
    assert sorted(dropped)[len(dropped) // 2] <= 50
    assert all(steady(1000 + 100 * correlated(1000, 0.5, seed)).is_steady for seed in RNG_SEEDS)


def test_equal_latencies_are_steady_and_all_kept():
    found = steady(np.full(100, 700.0))
    assert (found.dropped, found.is_steady) == (0, True)


def test_an_overload_never_becomes_steady():
    found = steady(1000 + 20.0 * np.arange(500))
    assert not found.is_steady
    assert "no steady state" in found.remark


def test_a_slow_rise_in_noise_is_reported_with_its_size():
    found = steady(1000 + 300 * correlated(2000, 0, 1) + np.linspace(0, 400, 2000))
    assert not found.is_steady
    assert found.dropped < 500
    # A straight line from 0 to 400 has means of tenths from 20 to 380, over a mean of 1200.
    assert found.drift == pytest.approx(0.3, abs=0.1)
    assert "rises" in found.remark


def test_a_mix_of_short_and_long_videos_does_not_hide_the_warm_up():
    rng = np.random.default_rng(3)
    videos = rng.choice(["short", "long"], 1000, p=[0.8, 0.2]).tolist()
    latencies = np.array([500.0 if video == "short" else 30_000.0 for video in videos])
    latencies *= 1 + 0.03 * rng.standard_normal(1000)
    latencies[:150] *= 2
    found = steady(latencies, videos)
    assert found.is_steady
    assert 150 <= found.dropped <= 200


def test_too_few_answers_are_all_kept_and_not_steady():
    found = steady(np.full(49, 700.0))
    assert (found.dropped, found.is_steady) == (0, False)
    assert "fewer than 50" in found.remark


def test_an_empty_series_is_not_steady():
    assert not detect([], []).is_steady


def test_the_confidence_interval_contains_the_true_mean_at_its_rate():
    intervals = [(1000 + 100 * correlated(2000, 0.8, seed)) for seed in range(200)]
    held = sum(abs(series.mean() - 1000) <= confidence(series.tolist()) for series in intervals)
    # 95 % of 200 is 190; batch means of a correlated series fall a little short.
    assert 175 <= held <= 200


def test_no_interval_for_too_few():
    assert confidence([1.0] * 19) is None
