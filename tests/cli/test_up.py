"""What `videoanalysis up` refuses before it starts anything."""

import os
import socket

import pytest

from tests.cli.command_line import call


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("INGRESS_PORT", "unset it, and use --port"),
        ("ENCODER_MODEL", "unset it, and use --model"),
        ("ENCODER_ENGINE", "unset it, and use --engine"),
        ("DECODER_BANKS", "unset it"),
        ("INGRESS_ENCODERS", "unset it"),
        ("DECODER_HOST", "unset it"),
    ],
)
@pytest.mark.parametrize("command", [["up"], ["analyze", "sample://clip", "-q"]])
def test_a_variable_that_the_stack_overrides_is_refused(command, variable, remedy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = call(*command, **{variable: "1"})
    assert ended.exit_code == 1
    assert ended.stderr == f"error: {variable}: the stack sets it itself; {remedy}\n"
    assert os.listdir(tmp_path) == []


def test_a_port_that_is_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        ended = call("up", "--port", port)
    assert ended.exit_code == 2
    assert ended.stderr == f"error: --port: {port} cannot be used: [Errno 98] Address already in use\n"
    assert call("up", "--port", 65535, "--ingresses", 2).exit_code == 2


def test_a_state_file_that_cannot_be_written_is_refused(tmp_path):
    ended = call("up", "--state", tmp_path / "none" / "state.json")
    assert ended.exit_code == 2
    assert ended.stderr == f"error: --state: {tmp_path / 'none'}: No such file or directory\n"
