import json
import random
from pathlib import Path

import pytest

from loadtest.errors import InvalidOption
from loadtest.simulate.service_times import ServiceTimes


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(content))
    return path


def test_missing_times_keep_their_defaults(tmp_path: Path):
    times = ServiceTimes.read(written(tmp_path, {"encode_seconds": 0.7, "sample_seconds": 0.2, "note": "by hand"}))

    assert (times.encode_seconds, times.sample_seconds) == (0.7, 0.2)
    assert times.decode_seconds == ServiceTimes().decode_seconds


def test_reads_the_times_of_a_summary(tmp_path: Path):
    summary = {"levels": [], "service_times": {"encode_seconds": 0.3}}

    assert ServiceTimes.read(written(tmp_path, summary)).encode_seconds == 0.3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({}, "no service times"),
        ([1], "no service times"),
        ({"encode_seconds": "0.3"}, "encode_seconds"),
        ({"encode_seconds": -1}, "encode_seconds"),
        ({"encode_seconds": True}, "encode_seconds"),
    ],
)
def test_rejects_invalid_times_by_name(tmp_path: Path, content: object, complaint: str):
    with pytest.raises(InvalidOption, match=complaint):
        ServiceTimes.read(written(tmp_path, content))


def test_rejects_a_file_that_is_not_json(tmp_path: Path):
    path = tmp_path / "summary.json"
    path.write_text("encode_seconds: 3")

    with pytest.raises(InvalidOption, match=r"summary\.json"):
        ServiceTimes.read(path)


@pytest.mark.parametrize("variation", [0, 0.3, 1, 2])
def test_draws_have_the_given_mean_and_variation(variation: float):
    draw = ServiceTimes(encode_seconds=0.5, variation=variation).draw("encode_seconds", random.Random(1))
    drawn = [draw() for _ in range(50_000)]
    mean = sum(drawn) / len(drawn)
    deviation = (sum((one - mean) ** 2 for one in drawn) / len(drawn)) ** 0.5

    assert mean == pytest.approx(0.5, rel=0.03)
    assert deviation == pytest.approx(variation * 0.5, rel=0.05)
