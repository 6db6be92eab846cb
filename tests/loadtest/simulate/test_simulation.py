"""Whole simulations, compared with results computed by hand."""

from dataclasses import replace

import pytest

from loadtest.simulate.arrivals import ChunkMix
from loadtest.simulate.autoscaler import Autoscaling
from loadtest.simulate.fleet import Start
from loadtest.simulate.ingresses import IngressLimits
from loadtest.simulate.outcome import Outcome
from loadtest.simulate.plan import ClosedLoad, Deployed, Deployment, Level, OpenLoad, Plan, Service
from loadtest.simulate.service_times import ServiceTimes
from loadtest.simulate.simulation import simulate

TIMES = ServiceTimes(
    download_seconds=0.5,
    sample_seconds=0.25,
    upload_seconds=0.125,
    encode_seconds=1,
    decode_seconds=0.0625,
    answer_seconds=0.03125,
)
AT_ONCE: dict[Service, Start] = {"ingress": Start(), "encoder": Start(), "decoder": Start()}


def fixed(ingress: int = 1, encoder: int = 1, decoder: int = 1, limits: IngressLimits | None = None) -> Deployment:
    services: dict[Service, Deployed] = {
        "ingress": Deployed(None, ingress),
        "encoder": Deployed(None, encoder),
        "decoder": Deployed(None, decoder),
    }
    return Deployment(services, limits or IngressLimits())


def play(
    deployment: Deployment, *arrivals: tuple[float, int], times: ServiceTimes = TIMES, seconds: float = 1000
) -> Outcome:
    return simulate(Plan(deployment, OpenLoad(lambda: iter(arrivals), seconds), times, AT_ONCE))


def test_a_video_of_one_chunk_takes_the_sum_of_its_stages():
    outcome = play(fixed(), (10, 1))

    assert outcome.latencies.tolist() == [0.5 + 0.25 + 0.125 + 1 + 0.0625 + 0.03125]
    assert outcome.waits.tolist() == [0]


def test_a_long_video_costs_the_time_of_its_slowest_stage():
    encode_bound = play(fixed(), (0, 20))
    sample_bound = play(fixed(), (0, 20), times=replace(TIMES, sample_seconds=1.5))

    assert encode_bound.latencies.tolist() == [0.5 + 0.25 + 0.125 + 20 * 1 + 0.0625 + 0.03125]
    assert sample_bound.latencies.tolist() == [0.5 + 20 * 1.5 + 0.125 + 1 + 0.0625 + 0.03125]


def test_chunks_of_a_video_are_encoded_in_parallel_and_decoded_in_order():
    outcome = play(fixed(encoder=20), (0, 6), times=replace(TIMES, sample_seconds=0, decode_seconds=0.5))

    assert outcome.latencies.tolist() == [0.5 + 0.125 + 1 + 6 * 0.5 + 0.03125]


def test_a_video_has_at_most_a_few_undelivered_chunks():
    # There are enough encoders: only the window, the chunks ahead and two, limits it.
    times = replace(TIMES, sample_seconds=0, decode_seconds=0)
    outcome = play(fixed(encoder=50, limits=IngressLimits(chunks_ahead=4)), (0, 18), times=times)

    assert outcome.latencies.tolist() == [0.5 + 3 * (0.125 + 1) + 0.03125]


def test_videos_wait_for_slots_and_are_refused_when_the_queue_is_full():
    limits = IngressLimits(max_videos=2, max_waiting=3)
    outcome = play(fixed(encoder=50, limits=limits), *[(0, 1)] * 8)

    one = 0.5 + 0.25 + 0.125 + 1 + 0.0625 + 0.03125
    assert len(outcome.refusals) == 3
    assert sorted(outcome.waits) == pytest.approx([0, 0, one, one, 2 * one], rel=0.05)


def test_requests_go_to_the_ingresses_in_turn():
    limits = IngressLimits(max_videos=1, max_waiting=0)

    assert len(play(fixed(3, 10, limits=limits), *[(0, 1)] * 3).answers) == 3


@pytest.mark.parametrize(("callers", "encoders"), [(1, 4), (8, 4), (20, 4)])
def test_a_closed_loop_is_limited_by_the_encoders(callers: int, encoders: int):
    times = ServiceTimes(0, 0, 0, encode_seconds=1, decode_seconds=0, answer_seconds=0)
    load = ClosedLoad([Level(0, callers)], 300, ChunkMix({1: 1}))

    outcome = simulate(Plan(fixed(5, encoders), load, times, AT_ONCE))

    assert len(outcome.answers) == pytest.approx(300 * min(callers, encoders), abs=callers)
    assert outcome.worked_seconds == pytest.approx(outcome.utilization * 300 * encoders)


def test_the_first_call_to_encoders_at_zero_waits_for_a_poll_and_a_cold_start():
    deployment = replace(
        fixed(), services={**fixed().services, "encoder": Deployed(Autoscaling(0, 10, 2, polling_seconds=5))}
    )
    starts = {**AT_ONCE, "encoder": Start(pull=60, load=20, discovery=1)}

    outcome = simulate(Plan(deployment, OpenLoad(lambda: iter([(100, 1)]), 1000), TIMES, starts))

    others = 0.25 + 0.125 + 1 + 0.0625 + 0.03125 + 0.5
    [latency] = outcome.latencies
    # The gauge counts the video from its admission on, so the cold start overlaps with download and sampling.
    assert 81 + others - 0.75 <= latency <= 81 + 5 + others
    # 300 s after the last poll that saw it, it is at zero again.
    assert outcome.courses["encoder"].desired[-1] == 0
    assert outcome.gpu_hours == pytest.approx((80 + 300 + latency - 81) / 3600, abs=10 / 3600)


def test_a_burst_scales_the_encoders_to_the_gauge_and_back():
    rule = Autoscaling(1, 10, 2, polling_seconds=5)
    deployment = replace(fixed(20), services={**fixed(20).services, "encoder": Deployed(rule)})

    outcome = play(deployment, *[(100, 10)] * 80, seconds=2000)

    encoders = outcome.courses["encoder"]
    assert encoders.desired.max() == 10
    assert encoders.desired[-1] == 1
    assert encoders.draining.max() <= 10
    assert outcome.chunks == 800


def test_every_video_is_answered_or_refused_and_none_is_left():
    rule = Autoscaling(1, 6, 2, polling_seconds=5)
    services: dict[Service, Deployed] = {
        name: Deployed(rule, grace_seconds=5) for name in ("ingress", "encoder", "decoder")
    }
    arrivals = [(number % 7 * 200 + number * 0.05, 1 + number % 20) for number in range(700)]

    outcome = play(Deployment(services, IngressLimits(max_waiting=20)), *sorted(arrivals), seconds=4000)

    assert len(outcome.answers) + len(outcome.refusals) == 700
    assert outcome.unanswered == 0
    assert len(outcome.refusals) > 0
    for course in outcome.courses.values():
        assert course.gauge[-1] == 0
        assert course.draining[-1] == 0


def test_the_same_seed_gives_the_same_outcome_and_another_one_another():
    times = replace(TIMES, variation=1)
    load = ClosedLoad([Level(0, 3)], 100, ChunkMix({1: 1, 5: 1}))
    plan = Plan(fixed(), load, times, AT_ONCE)

    assert simulate(plan).answers.tolist() == simulate(plan).answers.tolist()
    assert simulate(plan).answers.tolist() != simulate(replace(plan, seed=2)).answers.tolist()
