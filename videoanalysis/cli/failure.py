"""A command's failure: one line for people, or JSON for programs, and an exit code."""

import errno
import json
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.text import Text

from videoanalysis.cli.exit_code import ExitCode, exit_code
from videoanalysis.errors import InvalidInput, Overloaded, ServiceError

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Failure(Exception):
    """Ends the command. `reason` is for programs; `field` is the option or the field of the request to change."""

    def __init__(
        self,
        message: str,
        code: ExitCode = ExitCode.FAILED,
        *,
        reason: str | None = None,
        field: str | None = None,
        retry_after_seconds: float | None = None,
        violations: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or code.name
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.violations = violations or []

    @classmethod
    def of(cls, error: ServiceError | OSError) -> "Failure":
        if isinstance(error, OSError):
            return cls(_of_file(error))
        retry_after = error.retry_after_seconds if isinstance(error, Overloaded) else None
        violations = error.violations if isinstance(error, InvalidInput) else ()
        return cls(
            f"{error.message}; try again in {retry_after:.0f} s" if retry_after is not None else error.message,
            exit_code(error),
            reason=error.reason_name,
            field=error.field,
            retry_after_seconds=retry_after,
            violations=[{"field": one.field, "message": one.message} for one in violations],
        )

    def fields(self) -> dict[str, Any]:
        """For JSON; `field` and `retry_after_seconds` are null where there is none."""
        return {
            "message": str(self),
            "reason": self.reason,
            "field": self.field,
            "retry_after_seconds": self.retry_after_seconds,
            "violations": self.violations,
            "exit_code": int(self.code),
        }

    def show(self, *, as_json: bool) -> None:
        """To stderr, on one line."""
        if as_json:
            print_line(json.dumps({"error": self.fields()}))
        else:
            print_line(Text.assemble(("error: ", "red"), printable(str(self))))


def print_line(line: str | Text) -> None:
    """To stderr, which may be full or closed."""
    with suppress(OSError):
        Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """`text` without what would move a terminal's cursor, or is no valid Unicode."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _of_file(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    is_file_system = error.errno in _FULL and error.filename != "stdout"
    remedy = "; free some space, or name another directory with TMPDIR" if is_file_system else ""
    return f"{where}{error.strerror or error}{remedy}"
