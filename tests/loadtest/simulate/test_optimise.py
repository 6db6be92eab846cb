from dataclasses import replace

import numpy as np
import pytest

from loadtest.simulate.autoscaling import Autoscaling
from loadtest.simulate.optimise import Prices, excess, optimise, settings
from loadtest.simulate.outcome import Course, Outcome
from loadtest.simulate.plan import SERVICES, Deployed, Deployment
from loadtest.sweep.slo import parse_objective

P95 = [parse_objective("p95=2s")]


def outcome(latency: float, gpu_hours: float = 1.0, refused: int = 0, answers: int = 10) -> Outcome:
    nothing = np.zeros(1)
    return Outcome(
        seconds=100,
        times=nothing,
        courses={service: Course(nothing, nothing, nothing, nothing) for service in SERVICES},
        arrivals=np.zeros(answers),
        admissions=np.zeros(answers),
        answers=np.full(answers, latency),
        refusals=np.zeros(refused),
        unanswered=0,
        interrupted=0,
        chunks=answers,
        encode_wait_seconds=0,
        node_seconds={"ingress": 0.0, "encoder": gpu_hours * 3600, "decoder": 0.0},
        worked_seconds=0,
        events=1,
        cpu_seconds=1,
    )


def deployment(minimum: int = 1) -> Deployment:
    return Deployment({service: Deployed(Autoscaling(minimum, 10, 2)) for service in SERVICES})


def rule_of(deployment: Deployment) -> Autoscaling:
    rule = deployment.services["encoder"].autoscaling
    assert rule is not None
    return rule


def linear(deployment: Deployment) -> Outcome:
    """A world in which every encoder at rest halves the latency of 8 s, and costs an hour."""
    minimum = rule_of(deployment).min_replicas
    return outcome(8 / 2**minimum, gpu_hours=max(0.1, minimum))


def test_finds_the_cheapest_that_meets_the_objective():
    found = optimise(deployment(minimum=6), linear, P95, Prices())

    assert rule_of(found.deployment).min_replicas == 2
    assert found.excess == 0
    assert found.price == pytest.approx(2 * Prices().gpu)


def test_pays_what_it_takes_where_the_present_settings_miss():
    assert rule_of(optimise(deployment(minimum=0), linear, P95, Prices()).deployment).min_replicas == 2


def test_comes_as_close_as_it_can_and_says_by_how_much_it_misses():
    found = optimise(deployment(), lambda _: outcome(3), P95, Prices())

    assert found.excess == pytest.approx(0.5)


def test_never_asks_for_more_than_the_chart_allows():
    tried: list[int] = []

    def note(candidate: Deployment) -> Outcome:
        tried.append(rule_of(candidate).min_replicas)
        return linear(candidate)

    optimise(deployment(), note, P95, Prices())

    assert max(tried) == 10


def test_leaves_a_service_alone_that_nothing_scales():
    fixed = replace(deployment(), services={service: Deployed(None, 3) for service in SERVICES})

    assert optimise(fixed, lambda _: outcome(1), P95, Prices()).deployment == fixed
    assert settings(fixed) == {}


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("p95=4s", 0),
        ("p95=1500ms", 1),
        ("max=2s", 0.5),
        ("mean=3s", 0),
        ("errors=0", 10),
        ("errors=5", 1),
        ("errors=50%", 0),
        ("errors=10%", 4),
        ("rate=0.2/s", 0.5),
        ("rate=0.1/s", 0),
    ],
)
def test_tells_by_how_much_an_objective_is_missed(objective: str, expected: float):
    # Ten answers after 3 s and ten refusals in 100 s.
    assert excess(parse_objective(objective), outcome(3, refused=10)) == pytest.approx(expected)


def test_no_answer_meets_no_objective():
    assert excess(P95[0], outcome(0, answers=0)) == float("inf")


def test_a_price_is_that_of_gpus_and_cores():
    hours = replace(outcome(1), node_seconds={"ingress": 3600.0, "encoder": 7200.0, "decoder": 1800.0})

    assert Prices(gpu=2, core=0.5, ingress_cores=6, decoder_cores=1).of(hours) == 2 * 2 + 6 * 0.5 + 0.5 * 0.5
