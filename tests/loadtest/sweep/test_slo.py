import pytest

from loadtest.errors import InvalidOption
from loadtest.sweep.slo import Objective, judge, parse_objective


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("p95=1200ms", Objective("p95=1200ms", "latency", 1200, "p95")),
        ("p99.9=2s", Objective("p99.9=2s", "latency", 2000, "p99.9")),
        ("mean=0.5s", Objective("mean=0.5s", "latency", 500, "mean")),
        ("max=5s", Objective("max=5s", "latency", 5000, "max")),
        ("errors=0", Objective("errors=0", "errors", 0)),
        ("errors=1%", Objective("errors=1%", "error_share", 0.01)),
        ("rate=60/s", Objective("rate=60/s", "rate", 60)),
    ],
)
def test_reads_objectives(text, objective):
    assert parse_objective(text) == objective


@pytest.mark.parametrize(
    "text", ["p95", "p95=1200", "p0=1s", "p100=1s", "p95<1s", "errors=1ms", "rate=5%", "mean95=1s", "x=1"]
)
def test_an_invalid_objective_is_named_with_valid_examples(text):
    with pytest.raises(InvalidOption, match="such as p95=1200ms"):
        parse_objective(text)


def verdict(text: str, latency: dict[str, float] | None = None, errors: int = 0, sent: int = 100, rate: float = 10):
    return judge(parse_objective(text), "2 at a time", latency=latency or {}, errors=errors, sent=sent, rate=rate)


def test_a_value_equal_to_the_limit_meets_it():
    assert verdict("p95=100ms", {"p95": 100}).is_met
    assert not verdict("p95=100ms", {"p95": 100.1}).is_met
    assert verdict("errors=1%", errors=1).is_met
    assert not verdict("errors=1%", errors=2).is_met
    assert not verdict("errors=0", errors=1).is_met


def test_a_rate_is_a_minimum():
    assert verdict("rate=10", rate=10).is_met
    assert not verdict("rate=10", rate=9.9).is_met


def test_without_answers_no_objective_of_latency_is_met():
    assert not verdict("p95=1000s").is_met
    assert not verdict("errors=50%", sent=0).is_met
