import numpy as np

from loadtest.simulate.cost import Prices
from loadtest.simulate.outcome import Course, Outcome
from loadtest.simulate.plan import SERVICES
from loadtest.simulate.tables import verdicts
from loadtest.sweep.slo import parse_objective

HOUR = 3600.0


def outcome(answers: int, refusals: int) -> Outcome:
    """Answers after 3 s in 100 s."""
    nothing = np.zeros(1)
    return Outcome(
        seconds=100,
        times=nothing,
        courses={service: Course(nothing, nothing, nothing, nothing) for service in SERVICES},
        arrivals=np.zeros(answers),
        admissions=np.zeros(answers),
        answers=np.full(answers, 3.0),
        refusals=np.zeros(refusals),
        unanswered=0,
        interrupted=0,
        chunks=answers,
        encode_wait_seconds=0,
        node_seconds={"ingress": HOUR, "encoder": 2 * HOUR, "decoder": HOUR / 2},
        worked_seconds=0,
        events=1,
        cpu_seconds=1,
    )


def test_the_cost_is_that_of_gpus_and_cores():
    prices = Prices(gpu=2, core=0.5, ingress_cores=6, decoder_cores=1)

    assert prices.cost(outcome(1, 0)) == 2 * 2 + 6 * 0.5 + 0.5 * 0.5


def test_refused_requests_are_errors_of_an_objective():
    texts = ["p95=4s", "p95=1500ms", "errors=10", "errors=5", "errors=50%", "errors=10%", "rate=0.1/s", "rate=0.2/s"]

    found = verdicts([parse_objective(text) for text in texts], outcome(10, 10))

    assert [verdict.is_met for verdict in found] == [True, False] * 4


def test_without_an_answer_no_objective_of_latency_is_met():
    assert not verdicts([parse_objective("p95=2s")], outcome(0, 0))[0].is_met
