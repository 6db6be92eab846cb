import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
import typer

from videoanalysis.cli import runner
from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.cli.failure import Failure


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    """The tests themselves may run under it."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=lambda value: str(value),
)
def test_a_signal_cancels_the_work_which_cleans_up(signum, code):
    cleaned_up = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signum)
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(True)

    with pytest.raises(typer.Exit) as ended:
        runner.run(work())
    assert ended.value.exit_code == code
    assert cleaned_up


def test_a_supervisor_may_end_it_with_another_exit_code():
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    with pytest.raises(typer.Exit) as ended:
        runner.run(work(), exit_code_of_sigterm=ExitCode.OK)
    assert ended.value.exit_code == 0


def test_under_nohup_it_outlives_the_terminal():
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        return "done"

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert runner.run(work()) == "done"
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_an_expected_error_is_a_failure_and_any_other_a_bug():
    async def work() -> None:
        raise LookupError("nothing there")

    with pytest.raises(Failure, match="nothing there"):
        runner.run(work(), LookupError)
    with pytest.raises(LookupError):
        runner.run(work())
