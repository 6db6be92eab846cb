import pytest

from loadtest.errors import InvalidRun
from loadtest.sweep.record import Request, Sample, read_requests, read_samples, write_requests, write_samples

ANSWERED = Request(
    request_id=1,
    stream_id="loadtest-1",
    level="2 at a time",
    video='a, "quoted" clip',
    chunks=6,
    start_seconds=1.25,
    delay_ms=0.0625,
    end_seconds=2.5,
    latency_ms=1250,
    status="OK",
    first_chunk_ms=300.5,
    video_seconds=60,
    scene_changes=0,
    bytes_read=10**12,
    accelerator_seconds=0.000001,
    encode_compute_ms=700,
)
REFUSED = Request(
    request_id=2,
    stream_id="loadtest-2",
    level="2 at a time",
    video="clip",
    chunks=1,
    start_seconds=0,
    delay_ms=0,
    end_seconds=0.001,
    latency_ms=1,
    status="RESOURCE_EXHAUSTED",
    reason="OVERLOADED",
    error="256 requests are waiting",
)


def test_requests_are_read_as_written_and_none_stays_none(tmp_path):
    write_requests(tmp_path, [ANSWERED, REFUSED])
    assert read_requests(tmp_path) == [ANSWERED, REFUSED]


def test_samples_are_read_to_the_millisecond(tmp_path):
    write_samples(tmp_path, [Sample(1.0004, "queue.encoder", 3.0)])
    assert read_samples(tmp_path) == [Sample(1.0, "queue.encoder", 3.0)]


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(InvalidRun, match=r"requests\.csv"):
        read_requests(tmp_path)


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "requests.csv").write_text("request_id,level\n1,x\n")
    with pytest.raises(InvalidRun, match="not as a sweep writes it"):
        read_requests(tmp_path)
