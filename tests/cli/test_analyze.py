"""`videoanalysis analyze` with a service with scripted answers: outputs, exit codes, errors."""

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from google.protobuf import json_format

from tests.cli.command_line import COMMAND, FakeService, call, serving
from tests.rendering import render, steady
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unauthenticated,
)
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ONE, OTHER = "s3://bucket/one.mp4", "s3://bucket/other.mp4"


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def address(service):
    with serving(service) as address:
        yield address


def test_the_address_is_taken_from_the_environment(service, address):
    ended = call("analyze", ONE, "-o", "json", VIDEOANALYSIS_ADDRESS=address)
    assert ended.exit_code == 0, ended.stderr
    assert json_format.Parse(ended.stdout, AnalyzeVideoResponse()).tags[0].text == ONE
    assert len(service.requests) == 1


def test_scenes_are_a_table_with_times(address):
    lines = call("analyze", ONE, "--address", address).stdout.splitlines()
    header, row = next((line, lines[i + 2]) for i, line in enumerate(lines) if line.startswith("scene "))
    assert header.split() == ["scene", "start", "end", "length", "tag", "caption"]
    assert row.split() == ["1", "0:00.0", "0:06.0", "0:06.0", ONE, "Waves"]


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_no_line_is_longer_than_the_terminal_is_wide(address, columns):
    shown = call("analyze", ONE, "--address", address, COLUMNS=str(columns)).stdout
    assert max(map(len, shown.splitlines())) <= columns


def test_quiet_leaves_the_result_alone(address, tmp_path):
    ended = call("analyze", ONE, "--address", address, "--quiet", "--scenes", tmp_path / "scenes.csv")
    assert ended.stderr == ""
    assert "Written" not in ended.stdout
    assert "Waves" in ended.stdout
    assert "Waves" in (tmp_path / "scenes.csv").read_text()


def test_several_videos_are_analysed_in_one_command(service, address):
    ended = call("analyze", ONE, OTHER, "--address", address, "-o", "jsonl")
    assert ended.exit_code == 0
    entries = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [entry["video"] for entry in entries] == [ONE, OTHER]
    assert [entry["analysis"]["tags"][0]["text"] for entry in entries] == [ONE, OTHER]

    ended = call("analyze", ONE, OTHER, "--address", address, "-o", "json")
    assert json.loads(ended.stdout) == entries

    ended = call("analyze", ONE, OTHER, "--address", address)
    assert ended.stdout.index("one.mp4   ") < ended.stdout.index("other.mp4   ")


def test_a_video_that_fails_does_not_stop_the_others(service, address):
    service.failures[ONE] = NotFound(f"{ONE}: no such object", reason=ErrorReason.OBJECT_NOT_FOUND, field="video_uri")
    ended = call("analyze", ONE, OTHER, "--address", address, "-o", "jsonl")
    failed, succeeded = map(json.loads, ended.stdout.splitlines())
    assert (failed["video"], failed["error"]["reason"]) == (ONE, "OBJECT_NOT_FOUND")
    assert succeeded["analysis"]
    assert ended.exit_code == 65

    ended = call("analyze", ONE, OTHER, "--address", address)
    assert f"error: one.mp4: {ONE}: no such object" in ended.stderr
    assert "other.mp4   " in ended.stdout
    assert ended.exit_code == 65


def test_failures_of_several_kinds_are_exit_code_1(service, address):
    service.failures = {ONE: NotFound("none"), OTHER: PermissionDenied("not allowed")}
    assert call("analyze", ONE, OTHER, "--address", address).exit_code == 1


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InvalidInput("top_k_tags: must be 1 to 100", field="top_k_tags"), 65),
        (NotFound("none"), 65),
        (FailedPrecondition("too large"), 65),
        (Unauthenticated("no token"), 77),
        (PermissionDenied("not allowed"), 77),
        (Overloaded("full", retry_after_seconds=9000), 75),
        (DeadlineExceeded("too late"), 124),
        (ServiceError("internal error"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ServiceError) else str(value),
)
def test_each_kind_of_error_has_its_exit_code_and_is_json_with_reason_and_field(service, address, failure, code):
    service.failures[ONE] = failure
    ended = call("analyze", ONE, "--address", address)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr.splitlines()[-1].startswith(f"error: {failure.message}")

    ended = call("analyze", ONE, "--address", address, "-o", "json")
    assert (ended.exit_code, ended.stdout) == (code, "")
    error = json.loads(ended.stderr)["error"]
    assert (error["reason"], error["field"], error["exit_code"]) == (failure.reason_name, failure.field, code)
    assert error["violations"] == ([{"field": "top_k_tags", "message": failure.message}] if failure.field else [])
    assert error["retry_after_seconds"] == getattr(failure, "retry_after_seconds", None)


def test_errors_of_the_command_line_are_json_too():
    for arguments, field in ((["nowhere.mp4"], "VIDEO"), (["sample://clip", "--top-k", "0"], "--top-k")):
        ended = call("analyze", *arguments, "-o", "json")
        assert (ended.exit_code, ended.stdout) == (2, "")
        error = json.loads(ended.stderr)["error"]
        assert (error["reason"], error["field"]) == ("USAGE", field)


@pytest.mark.parametrize("output", ["table", "jsonl"])
def test_a_reader_of_the_results_that_has_ended_ends_the_command_silently(service, address, output):
    reading, writing = os.pipe()
    os.close(reading)
    command = [COMMAND, "analyze", ONE, OTHER, "--address", address, "--quiet", "-o", output]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert ended.returncode == 141
    assert "error" not in ended.stderr
    assert len(service.requests) == 1


def test_what_has_arrived_is_kept_and_the_same_command_goes_on_from_there(service, address, tmp_path):
    kept = tmp_path / "kept.json"
    analyze = ["analyze", ONE, "--address", address, "-q", "-o", "json", "--resume", kept]
    service.failures[ONE], service.fails_late = PermissionDenied("not any more"), True
    ended = call(*analyze)
    assert ended.exit_code == 77
    note, error = ended.stderr.splitlines()
    assert note == f"0:06.0 of the video are kept in {kept}; the same command continues from there"
    assert json.loads(error)["error"]["reason"] == "PERMISSION_DENIED"

    service.failures.clear()
    ended = call(*analyze)
    assert ended.exit_code == 0, ended.stderr
    assert service.tokens == [b"", b"token"]
    answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    assert [chunk.duration_seconds for chunk in answer.chunks] == [6]
    assert not kept.exists()


def test_ctrl_c_keeps_what_has_arrived_and_names_the_command_to_continue(service, address, tmp_path):
    kept = tmp_path / "kept.json"
    service.hangs = True
    analyze = ["analyze", ONE, "--address", address, "--resume", kept]
    with subprocess.Popen([COMMAND, *analyze], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        shown = iter(process.stderr.readline, "")
        assert any(line == "analysing 6 s\n" for line in shown)
        process.send_signal(signal.SIGINT)
        assert list(shown) == [f"0:06.0 of the video are kept in {kept}; the same command continues from there\n"]
        assert process.stdout.read() == ""
    assert process.returncode == 130
    service.hangs = False
    ended = call(*analyze)
    assert (ended.exit_code, service.tokens) == (0, [b"", b"token"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "my own notes", "{}", '{"chunks": []}'])
def test_a_file_that_holds_something_else_is_not_taken_for_a_kept_analysis(service, address, tmp_path, content):
    path = tmp_path / "notes"
    path.write_text(content)
    ended = call("analyze", ONE, "--address", address, "--resume", path)
    assert ended.exit_code == 2
    assert ended.stderr == f"error: --resume: {path} holds something else than an interrupted analysis\n"
    assert path.read_text() == content
    assert not service.requests


def test_another_grpc_service_is_named_as_no_ingress():
    with serving(None) as address:
        ended = call("analyze", ONE, "--address", address, "--quiet")
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {address} is no ingress of this release: ")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("http://ingress:50051", "is a URL; name the service by host:port"),
        ("https://ingress", "is a URL; name the service by host:port"),
        ("ingress", "is not host:port, such as ingress:50051"),
        ("ingress:", "is not host:port, such as ingress:50051"),
        ("ingress:http", "is not host:port"),
        ("ingress:99999", "is not host:port"),
        (":50051", "is not host:port"),
        ("::1:50051", "brackets, as in [::1]:50051"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_the_remedy(address, remedy):
    ended = call("analyze", ONE, "--address", address)
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert remedy in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}"], "is a directory; name its files, such as {tmp}/*.mp4"),
        (["{tmp}/none.mp4"], "no such file"),
        ([ONE, "--report", "{tmp}"], "--report: {tmp}: Is a directory"),
        ([ONE, "--report", "{tmp}/none/report.html"], "--report: {tmp}/none: No such file or directory"),
        ([ONE, "--scenes", "{tmp}/none/scenes.csv"], "--scenes: {tmp}/none: No such file or directory"),
        ([ONE, "--report", "{tmp}/file/report.html"], "--report: {tmp}/file: Not a directory"),
        ([ONE, "--output-dir", "{tmp}/file/out"], "--output-dir: {tmp}/file/out: Not a directory"),
        ([ONE, OTHER, "--report", "{tmp}/report.html"], "with --output-dir"),
        ([ONE, "s3://elsewhere/one.mov", "--output-dir", "{tmp}"], "two videos would be written to {tmp}/one.json"),
        ([ONE, "--report", "-", "-o", "json"], "stdout takes one result"),
        ([ONE, "--report", "-", "--scenes", "-"], "stdout takes one result"),
        ([ONE, "--start", "10", "--end", "1:0"], None),
        ([ONE, "--start", "0:10", "--end", "5"], "--end: 5 s is not after --start, 10 s"),
        ([ONE, OTHER, "--resume", "{tmp}/kept"], "--resume: is for one video"),
        ([ONE, "--resume", "{tmp}/none/kept"], "--resume: {tmp}/none: No such file or directory"),
        ([ONE, "--start", "soon"], "soon is not a time; give seconds such as 83.5, or [HH:]MM:SS"),
        (["{tmp}/file", "{tmp}/file2", "--upload", "s3://bucket/key"], "several files need a prefix, s3://bucket/key/"),
        (["{tmp}/file", "--upload", "s3://My_Bucket/key"], "My_Bucket"),
    ],
)
def test_what_cannot_work_is_said_before_the_work(service, address, tmp_path, arguments, says):
    (tmp_path / "file").touch()
    (tmp_path / "file2").touch()
    ended = call("analyze", *(one.format(tmp=tmp_path) for one in arguments), "--address", address)
    if says is None:
        assert ended.exit_code == 0, ended.stderr
        return
    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert says.format(tmp=tmp_path) in line
    assert not service.requests


def test_times_are_seconds_or_read_off_a_clock(service, address):
    call("analyze", ONE, "--address", address, "--start", "83.5", "--end", "1:02:03.5")
    call("analyze", ONE, "--address", address, "--start", "1:23.5", "--end", "3723.5s")
    assert [(one.start_seconds, one.end_seconds) for one in service.requests] == [(83.5, 3723.5)] * 2


def test_the_minimum_length_of_scenes_is_sent_to_the_service(service, address):
    call("analyze", ONE, "--address", address, "--min-scene-len", "0:01.5")
    assert [one.min_scene_seconds for one in service.requests] == [1.5]


def test_each_video_has_its_files_in_the_output_directory(address, tmp_path):
    ended = call("analyze", ONE, OTHER, "--address", address, "--output-dir", tmp_path / "out", "-q")
    assert ended.exit_code == 0, ended.stderr
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        f"{stem}.{suffix}" for stem in ("one", "other") for suffix in ("json", "html", "csv")
    )
    stored = json_format.Parse((tmp_path / "out" / "other.json").read_text(), AnalyzeVideoResponse())
    assert stored.tags[0].text == OTHER
    assert "Waves" in (tmp_path / "out" / "one.csv").read_text()
    assert "one.mp4" in (tmp_path / "out" / "one.html").read_text()


@contextmanager
def stdin_from(content: bytes) -> Iterator[None]:
    """The standard input is a pipe, which cannot be read twice."""
    pipe, end = os.pipe()
    kept = os.dup(0)
    os.dup2(pipe, 0)
    with os.fdopen(end, "wb") as written:
        writer = threading.Thread(target=lambda: (written.write(content), written.close()))
        writer.start()
        try:
            yield
        finally:
            os.dup2(kept, 0)
            os.close(pipe)
            os.close(kept)
            writer.join()


def test_a_video_is_read_from_stdin_and_its_report_goes_to_stdout(
    service, address, tmp_path, s3_endpoint, s3_credentials, capfd
):
    async def bucket_made() -> None:
        async with Storage.open(s3_endpoint) as storage:
            await storage.create_bucket(uri.bucket)

    async def stored() -> bytes:
        async with Storage.open(s3_endpoint) as storage:
            return await storage.read(uri, 1 << 20)

    clip, uri = render(tmp_path / "clip.mp4", steady(10, 6)), S3Uri(f"test-{uuid4().hex}", "clip.mp4")
    asyncio.run(bucket_made())
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    options = ["--address", address, "--upload", uri, "--report", "-", "--quiet"]
    with stdin_from(clip.read_bytes()):
        ended = call("analyze", "-", *options, AWS_ENDPOINT_URL=s3_endpoint, **aws)
    assert (ended.exit_code, ended.stdout) == (0, ""), ended.stderr
    page = capfd.readouterr().out
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert "<title>stdin" in page
    # Of the two frames that were sampled.
    assert page.count("<image ") == 2
    assert asyncio.run(stored()) == clip.read_bytes()
    assert [one.video_uri for one in service.requests] == [str(uri)]


def test_scenes_on_stdout_are_all_that_is_there(address, capfd):
    ended = call("analyze", ONE, "--address", address, "-q", "--scenes", "-")
    assert (ended.exit_code, ended.stdout) == (0, "")
    header, scene = capfd.readouterr().out.splitlines()
    assert header == "scene,start,end,start_seconds,end_seconds,tags,caption"
    assert scene == f"1,00:00:00.000,00:00:06.000,0.000,6.000,{ONE},Waves"


def test_undecodable_bytes_of_the_service_and_control_characters_do_not_reach_the_terminal(service, address):
    service.failures[ONE] = NotFound("\x1b[31mred\x07 name")
    ended = call("analyze", ONE, "--address", address)
    assert ended.stderr.splitlines()[-1] == "error: \\x1b[31mred\\x07 name"


def test_a_name_that_is_not_valid_utf8_is_shown_escaped(tmp_path):
    ended = call("analyze", os.fsdecode(bytes(tmp_path) + b"/\xff.mp4"))
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert line.endswith("no such file") or "not valid UTF-8" in line
