import pytest

from loadtest.errors import InvalidOption
from loadtest.sweep.levels import Level, parse_levels


def test_closed_levels_come_before_open_ones_each_in_the_order_given():
    assert parse_levels("8,2", "0.5,10", "fixed") == [
        Level("closed", 8, "poisson"),
        Level("closed", 2, "poisson"),
        Level("open", 0.5, "fixed"),
        Level("open", 10, "fixed"),
    ]


def test_names_distinguish_callers_from_arrivals():
    assert [level.name for level in parse_levels("8", "2.5", "poisson")] == ["8 at a time", "2.5 a second"]


@pytest.mark.parametrize(
    ("concurrency", "rate", "named"),
    [
        ("2;4", "", "--concurrency"),
        ("1.5", "", "--concurrency"),
        ("0", "", "--concurrency"),
        ("1000000", "", "--concurrency"),
        ("nan", "", "--concurrency"),
        ("", "-1", "--rate"),
        ("", "fast", "--rate"),
        ("2,2", "", "twice"),
        ("", "", "--rate"),
    ],
)
def test_an_invalid_level_names_its_option(concurrency, rate, named):
    with pytest.raises(InvalidOption, match=named):
        parse_levels(concurrency, rate, "poisson")
