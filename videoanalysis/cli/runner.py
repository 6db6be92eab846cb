"""Runs a command's coroutine, which signals cancel, and reports its errors."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer

from videoanalysis import atomic_write
from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.cli.failure import Failure
from videoanalysis.stack import source_tree

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_Result = TypeVar("_Result")


def run(
    work: Coroutine[Any, Any, _Result],
    expected: type[Exception] | tuple[type[Exception], ...] = (),
    *,
    exit_code_of_sigterm: ExitCode = ExitCode.SIGTERM,
) -> _Result:
    """The result of `work`. The first SIGHUP, SIGINT or SIGTERM cancels it, the next one its clean-up as well.

    An error of the `expected` kind ends the command with its message.
    """
    signals: list[signal.Signals] = []

    async def interruptible() -> _Result:
        task = asyncio.current_task()
        assert task is not None

        def interrupt(signum: signal.Signals) -> None:
            signals.append(signum)
            task.cancel()

        for signum in _SIGNALS:
            # nohup ignores SIGHUP.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(signum, interrupt, signum)
        return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        code = ExitCode[signals[0].name]
        raise typer.Exit(exit_code_of_sigterm if code is ExitCode.SIGTERM else code) from None
    except expected as error:
        raise Failure(str(error)) from error


@contextmanager
def require_extra(name: str, code: ExitCode = ExitCode.FAILED) -> Iterator[None]:
    """Surrounds imports of packages that only the extra `name` installs."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        message = f"{package} is not installed; this command needs: pip install 'videoanalysis[{name}]'"
        raise Failure(message, code) from None


@contextmanager
def require_stack(alternative: str = "") -> Iterator[None]:
    """Surrounds the import of the stack; ends the command at once, naming the `alternative`, where none can run."""
    if problem := source_tree.missing_services():
        raise Failure(problem + alternative)
    with require_extra("stack"):
        yield


def usage_error(message: str, field: str | None = None) -> NoReturn:
    """`field` is the argument or option; a message that begins with an option is about it."""
    option = message.partition(":")[0] if message.startswith("--") else None
    raise Failure(message, ExitCode.USAGE, field=field or option)


def check_writable(option: str, path: Path) -> None:
    """A usage error that names `option` if `path` cannot be written: before the work, not after it."""
    try:
        atomic_write.check_writable(path)
    except OSError as error:
        usage_error(f"{option}: {error.filename}: {error.strerror}")
