"""Runs a command's coroutine and turns signals and errors into exit codes and one-line messages."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer

from videoanalysis.errors import Overloaded, ServiceError

_Result = TypeVar("_Result")


def run(
    work: Coroutine[Any, Any, _Result],
    expected: type[Exception] = ServiceError,
    *,
    exit_code_of_sigterm: int = 128 + signal.SIGTERM,
) -> _Result:
    """The result of `work`. The first SIGINT or SIGTERM cancels it, the next one cancels its clean-up as well.

    Errors of services, files and the `expected` kind end the process with exit code 1 and their message.
    """
    exit_codes = {signal.SIGINT: 128 + signal.SIGINT, signal.SIGTERM: exit_code_of_sigterm}
    signals: list[signal.Signals] = []

    async def interruptible() -> _Result:
        task = asyncio.current_task()
        assert task is not None

        def interrupt(signum: signal.Signals) -> None:
            signals.append(signum)
            task.cancel()

        for signum in exit_codes:
            asyncio.get_running_loop().add_signal_handler(signum, interrupt, signum)
        return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise typer.Exit(exit_codes[signals[0]]) from None
    except Exception as error:
        if not isinstance(error, ServiceError | OSError | expected):
            raise
        retry = f"; try again in {error.retry_after_seconds:.0f} s" if isinstance(error, Overloaded) else ""
        fail(f"{error}{retry}")


@contextmanager
def require_extra(name: str, exit_code: int = 1) -> Iterator[None]:
    """Surrounds imports of packages that only the extra `name` installs."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; this command needs: pip install 'videoanalysis[{name}]'", exit_code)


def usage_error(message: str) -> NoReturn:
    fail(message, exit_code=2)


def fail(message: str, exit_code: int = 1) -> NoReturn:
    typer.secho("error: ", fg="red", nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(exit_code)
