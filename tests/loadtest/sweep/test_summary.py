import pytest

from loadtest.sweep.levels import Level
from loadtest.sweep.summary import Sent, service_times, summarise
from tests.loadtest.runs import answered, measured, refused

LEVEL = Level("closed", 2)


def summary(failures: int = 0):
    run = measured([LEVEL], failures)
    return summarise(run.sent[0], run.requests, run.samples, ["p42"])


def test_the_warm_up_is_left_out_and_the_rest_is_kept():
    level = summary()
    # The slow ones are 20; whole fives are dropped.
    assert level["steady_state"]["warm_up_requests"] == 20
    assert level["steady_state"]["is_steady"]
    assert level["steady_state"]["begin_seconds"] == pytest.approx(2.0)
    assert (level["requests"], level["kept"], level["failed"]) == (200, 180, 0)
    assert level["latency_ms"]["max"] == pytest.approx(230, rel=2e-3)
    assert level["latency_ms"]["p42"] == pytest.approx(210, rel=2e-3)


def test_rates_are_those_of_the_steady_state():
    level = summary()
    assert level["offered_rate"] == pytest.approx(10, rel=0.01)
    assert level["rate"] == pytest.approx(10, rel=0.1)


def test_failures_are_counted_by_status_and_reason_not_by_message():
    level = summary(failures=7)
    assert level["failed"] == 7
    assert level["errors"] == [
        {"status": "RESOURCE_EXHAUSTED", "reason": "OVERLOADED", "count": 7, "example": "1000 requests are waiting"}
    ]
    # They are no latencies: each took a millisecond.
    assert level["latency_ms"]["min"] >= 199


def test_stages_have_queue_and_compute_and_add_up_to_the_latency_of_the_client():
    level = summary()
    stages = level["stages_ms"]
    assert (stages["encode_compute"], stages["download_queue"], stages["outside"]) == (100, 1, 8)
    parts = [value for name, value in stages.items() if name not in ("server_total", "outside")]
    assert sum(parts) == pytest.approx(stages["server_total"])
    assert stages["server_total"] + stages["outside"] == pytest.approx(level["latency_ms"]["mean"], rel=1e-3)


def test_cost_is_per_minute_of_video():
    cost = summary()["cost"]
    # A tenth of a second of GPU for 8 s of video; half a core in the ingress for 10 videos a second.
    assert cost["accelerator_seconds_per_video_minute"] == pytest.approx(0.75)
    assert cost["cpu_seconds"] == {"ingress": pytest.approx(9.0)}
    assert cost["cpu_seconds_per_video_minute"] == pytest.approx(9.0 / (cost["video_minutes"]))


def test_series_are_those_of_the_steady_state():
    series = summary()["series"]
    assert series["machine_cpu"] == {"mean": 0.25, "max": 0.25}
    assert series["ready.encoder"]["max"] == 4
    assert "cpu_seconds.ingress" not in series


def test_an_open_loop_that_falls_behind_is_not_steady_even_with_constant_latencies():
    """Long answers that come after the sending has ended are none of its rate."""
    level = Level("open", 10)
    requests = [answered(level.name, number, number / 10, 15_000) for number in range(200)]
    found = summarise(Sent(level, 0, 20), requests, [])
    assert not found["steady_state"]["is_steady"]
    assert "more slowly" in found["steady_state"]["remark"]


def test_a_level_without_an_answer_has_errors_and_no_latencies():
    level = Level("closed", 2)
    found = summarise(Sent(level, 0, 1), [refused(level.name, 1, 0.5)], [])
    assert (found["kept"], found["failed"], found["latency_ms"], found["stages_ms"]) == (0, 1, {}, {})
    assert found["cost"]["accelerator_seconds_per_video_minute"] is None


def test_service_times_are_those_of_videos_of_one_chunk():
    short = [answered("x", number, number, 200.0) for number in range(3)]
    long = [answered("x", 9, 0, 2000.0, accelerator_seconds=5.0)]
    long = [type(one)(**{**{name: getattr(one, name) for name in one.__slots__}, "chunks": 6}) for one in long]
    assert service_times(short + long) == {
        "download_seconds": pytest.approx(0.010),
        "sample_seconds": pytest.approx(0.020),
        "encode_seconds": pytest.approx(0.1),
        "decode_seconds": pytest.approx(0.002),
    }
    assert service_times(long) == {}
