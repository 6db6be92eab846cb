"""A disk that is full is named, with the way out, and nothing is half done."""

import os
import subprocess
import tempfile

import pytest

from tests.cli.command_line import COMMAND, FakeService, call, serving


@pytest.fixture
def full_disk(tmp_path):
    """A directory on a file system of its own, with less free space than anything needs."""
    path = tmp_path / "full"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system can be mounted only as root of a machine")
    yield path
    subprocess.run(["umount", path], check=True)


REMEDY = "No space left on device; free some space, or name another directory with TMPDIR"


def test_a_report_that_does_not_fit_leaves_the_old_one(full_disk):
    report = full_disk / "report.html"
    report.write_bytes(bytes(60_000))
    with serving(FakeService()) as address:
        ended = call("analyze", "s3://bucket/one.mp4", "--address", address, "-q", "--report", report)
    assert ended.exit_code == 1
    assert ended.stderr == f"error: {report}: {REMEDY}\n"
    assert report.read_bytes() == bytes(60_000)
    assert os.listdir(full_disk) == ["report.html"]


def test_a_video_from_stdin_that_does_not_fit_is_not_analysed(full_disk):
    service = FakeService()
    with serving(service) as address:
        analyze = [COMMAND, "analyze", "-", "--address", address, "--upload", "s3://bucket/clip.mp4"]
        environment = {**os.environ, "TMPDIR": str(full_disk)}
        command = subprocess.run(
            analyze, input=bytes(1 << 20), env=environment, capture_output=True, timeout=60, check=False
        )
    assert (command.returncode, command.stdout) == (1, b"")
    assert command.stderr.decode() == f"error: {full_disk}: {REMEDY}\n"
    assert os.listdir(full_disk) == []
    assert not service.requests


@pytest.mark.parametrize("command", [["up"], ["analyze", "sample://clip", "-q"]])
def test_a_stack_does_not_start_without_space_for_its_files(full_disk, monkeypatch, command):
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    ended = call(*command)
    assert (ended.exit_code, ended.stderr) == (1, f"error: {full_disk}: {REMEDY}\n")
    assert os.listdir(full_disk) == []
