import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoanalysis.scores import Calibration


@given(st.floats(-1, 1), st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_probability_is_the_sigmoid(cosine, scale, bias):
    logit = scale * cosine + bias
    expected = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    assert Calibration(scale, bias).probability(cosine) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("scale", "bias", "expected"), [(1e308, 1e308, 1.0), (1e308, -1e308, 0.5), (1e-300, -1e308, 0.0), (1, 0, None)]
)
def test_extreme_calibrations_neither_overflow_nor_give_nan(scale, bias, expected):
    probability = Calibration(scale, bias).probability(1.0)
    assert probability == pytest.approx(expected if expected is not None else 1 / (1 + math.exp(-1)))
