"""Commands that report every failure with one line and an exit code, also where stdout is full or closed."""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.cli.failure import Failure
from videoanalysis.errors import ServiceError

# The `filename` of an OSError of the standard output.
STDOUT_NAME = "stdout"
CONTEXT = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """A command whose text values must be valid UTF-8; paths may be any bytes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                self._check_text(ctx)
                return super().invoke(ctx)
            finally:
                # While a failure can still be reported.
                sys.stdout.flush()
        except Failure as failure:
            error = failure
        except BrokenPipeError:
            raise typer.Exit(ExitCode.SIGPIPE) from None
        except (ServiceError, OSError) as failure:
            error = Failure.of(failure)
        error.show(as_json=_wants_json(ctx))
        raise typer.Exit(error.code)

    def _check_text(self, ctx: Any) -> None:
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not _is_utf8(text):
                    name = parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
                    raise Failure(f"{name}: holds bytes that are not valid UTF-8", ExitCode.USAGE, field=name)


class Application(TyperGroup):
    """The commands, as a program."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        if sys.stdout is None:
            Failure("stdout is closed; redirect it to a file or to /dev/null").show(as_json=False)
            sys.exit(ExitCode.FAILED)
        if sys.stdout is sys.__stdout__:
            sys.stdout = _Stdout.text()
        try:
            code = super().main(args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except TyperException as error:
            code = _show_usage_error(error)
        except BrokenPipeError:
            code = ExitCode.SIGPIPE
        except OSError as error:
            failure = Failure.of(error)
            failure.show(as_json=False)
            code = failure.code
        except Exception:
            traceback.print_exc()
            code = ExitCode.BUG
        sys.exit(code or ExitCode.OK)


class _Stdout(io.FileIO):
    """The standard output, whose errors name it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT_NAME
            # Otherwise the interpreter tries to write the rest when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise

    @classmethod
    def text(cls) -> io.TextIOWrapper:
        """Characters that the terminal cannot show are escaped."""
        raw = cls(sys.stdout.fileno(), "w", closefd=False)
        return io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=raw.isatty(),
        )


def _show_usage_error(error: TyperException) -> int:
    context: Any = getattr(error, "ctx", None)
    parameter: Any = getattr(error, "param", None)
    if not error.format_message().strip():
        # A group of commands without a command shows its help.
        return ExitCode.USAGE
    failure = Failure(
        f"{error.format_message().rstrip('.')}; see {context.command_path if context else 'videoanalysis'} --help",
        ExitCode.USAGE,
        field=parameter.opts[0] if parameter else None,
    )
    failure.show(as_json=context is not None and _wants_json(context))
    return ExitCode.USAGE


def _wants_json(context: Any) -> bool:
    return str(context.params.get("output", "")).startswith("json")


def _is_utf8(text: str) -> bool:
    """Bytes of the command line that are not valid UTF-8 arrive as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
