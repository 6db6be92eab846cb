"""What every command does, whatever it is for: help, version, completion, stdout that fails, bugs."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.command_line import COMMAND, FakeService, call, serving
from videoanalysis.cli.command import Application, Command


def shell(command: str, **variables: str) -> subprocess.CompletedProcess:
    """`command` in bash, where `videoanalysis` is the command line."""
    path = os.pathsep.join([str(COMMAND.parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [[], ["analyze"], ["textbank"], ["textbank", "build"], ["scale", "explain"]])
def test_h_is_help(words):
    ended = call(*words, "-h")
    assert ended.exit_code == 0
    assert "Usage: videoanalysis" in ended.stdout.replace("root", "videoanalysis")


def test_version_is_that_of_the_package():
    ended = call("--version")
    assert ended.exit_code == 0
    name, version = ended.stdout.split()
    assert name == "videoanalysis"
    assert version.count(".") == 2


@pytest.mark.parametrize("words", [[], ["textbank"]])
def test_without_a_command_the_help_is_shown_and_nothing_else(words):
    ended = call(*words)
    assert ended.exit_code == 2
    assert "show" in ended.stdout or "analyze" in ended.stdout
    assert ended.stderr == ""


def test_an_unknown_option_is_one_line_with_the_way_to_the_help():
    ended = call("analyze", "sample://clip", "--no-such-option")
    assert (ended.exit_code, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: No such option: --no-such-option")
    assert line.endswith("analyze --help")


def test_bash_completes_commands_options_and_values():
    completed = (
        "source <(videoanalysis completion bash); "
        'for line in "videoanalysis an" "videoanalysis analyze --out" "videoanalysis analyze x -o "; do '
        'COMP_WORDS=($line); [ "${line% }" = "$line" ] || COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
        '_videoanalysis_completion videoanalysis; echo "${COMPREPLY[@]}"; done'
    )
    ended = shell(completed)
    assert ended.stdout.splitlines() == ["analyze", "--output --output-dir", "table json jsonl"], ended.stderr


@pytest.mark.parametrize(
    ("shell_name", "variables"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "videoanalysis an"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "videoanalysis an", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_other_shells_have_a_script_that_asks_the_command(shell_name, variables):
    script = call("completion", shell_name)
    assert script.exit_code == 0
    assert f"_VIDEOANALYSIS_COMPLETE=complete_{shell_name}" in script.stdout
    ended = shell("videoanalysis", _VIDEOANALYSIS_COMPLETE=f"complete_{shell_name}", **variables)
    assert "analyze" in ended.stdout
    assert "textbank" not in ended.stdout


def test_a_full_stdout_is_one_line():
    ended = shell("videoanalysis completion bash > /dev/full")
    assert (ended.returncode, ended.stderr) == (1, "error: stdout: No space left on device\n")


def test_a_closed_stdout_is_one_line():
    ended = shell("videoanalysis --version >&-")
    assert (ended.returncode, ended.stderr) == (1, "error: stdout is closed; redirect it to a file or to /dev/null\n")


def test_a_reader_of_stdout_that_has_ended_ends_the_command_silently():
    ended = shell("set -o pipefail; videoanalysis completion bash | true")
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_closed_stderr_does_not_change_the_exit_code():
    assert shell("videoanalysis nonsense 2>&-").returncode == 2


def test_a_terminal_without_unicode_gets_all_else():
    ended = shell("videoanalysis analyze -h", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--output-dir" in ended.stdout


def test_a_bug_is_a_traceback_with_an_exit_code_of_its_own():
    app = typer.Typer(cls=Application)

    @app.command(cls=Command)
    def one() -> None:
        raise KeyError("no such key")

    app.command()(lambda: None)
    ended = CliRunner().invoke(app, ["one"])
    assert ended.exit_code == 70
    assert "Traceback" in ended.stderr
    assert "no such key" in ended.stderr


PROGRAM = """
import json, os, sys
from videoanalysis.cli import app
for arguments, variables in json.loads(sys.argv[1]):
    os.environ.update(variables)
    try:
        app(arguments)
    except SystemExit:
        print("|", flush=True)
    for name in variables:
        del os.environ[name]
"""


def on_terminal(*calls: tuple[list[str], dict[str, str]]) -> list[str]:
    """All that each of the `calls`, arguments and variables, writes to a terminal, with its escape sequences."""
    terminal, process_side = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        env=inherited,
        stdin=subprocess.DEVNULL,
        stdout=process_side,
        stderr=process_side,
    ) as process:
        os.close(process_side)
        written = b""
        # EIO: the process has ended.
        with suppress(OSError):
            while data := os.read(terminal, 1 << 16):
                written += data
    os.close(terminal)
    assert process.returncode == 0, written
    return written.decode().split("|\r\n")[:-1]


COLOUR = re.compile(r"\x1b\[(\d+;)*(3[0-8]|9[0-7])[;m]")
XTERM, NO_COLOR, DUMB = {"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}


def test_colours_and_bars_follow_the_terminal():
    with serving(FakeService()) as address:
        analyze = ["analyze", "s3://bucket/one.mp4", "--address", address]
        error, usage = ["analyze", "nowhere.mp4"], ["analyze", "-h"]
        calls = [(words, variables) for words in (analyze, error, usage) for variables in (XTERM, NO_COLOR, DUMB)]
        results = on_terminal(*calls)
    for coloured, without, dumb in zip(results[::3], results[1::3], results[2::3], strict=True):
        assert COLOUR.search(coloured)
        assert not COLOUR.search(without)
        assert "\x1b" not in dumb
    assert all("Waves" in shown for shown in results[:3])
    assert results[4] == results[5] == "error: nowhere.mp4: no such file\r\n"
