"""Ingresses at saturated encoders, each a process of its own. `python -m benchmarks.dispatch fairness` takes longer."""

import pytest

from benchmarks.dispatch.fairness import Case, ideal, measure

CASES = [
    Case((12, 1), encoders=1, service_ms=200),
    Case((18, 6, 2), encoders=2, service_ms=200),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_no_ingress_is_starved(case: Case):
    got = await measure(case, 3.0)
    for one, fair in zip(got, ideal(case, 40.0), strict=True):
        assert one.rate >= 0.7 * fair.rate
