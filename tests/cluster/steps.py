"""The steps of a run, their outcomes, and the table of outcomes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Result = Literal["passed", "failed", "skipped"]
_STYLES: dict[Result, str] = {"passed": "green", "failed": "bold red", "skipped": "dim"}


class Failed(Exception):
    """A check of a step failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """`run` returns a note for the table. After an `essential` step fails, the remaining ones are skipped."""

    name: str
    run: Callable[[], str]
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    result: Result
    seconds: float
    note: str


def carry_out(
    steps: Sequence[Step],
    expected: tuple[type[Exception], ...],
    *,
    on_begin: Callable[[Step], None],
    on_failure: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Outcome]:
    """Runs the steps in order. Exceptions in `expected` fail a step; any other ends the run."""
    reason = ""
    for step in steps:
        if reason:
            yield Outcome(step.name, "skipped", 0.0, reason)
            continue
        on_begin(step)
        began = clock()
        result: Result = "passed"
        try:
            note = step.run()
        except expected as error:
            result, note = "failed", str(error)
            reason = f"after “{step.name}” failed" if step.essential else ""
        yield Outcome(step.name, result, clock() - began, note)
        if result == "failed":
            on_failure()


def show(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("step")
    table.add_column("result")
    table.add_column("seconds", justify="right")
    table.add_column("note", overflow="fold")
    for each in outcomes:
        seconds = "" if each.result == "skipped" else f"{each.seconds:.1f}"
        table.add_row(each.name, Text(each.result, _STYLES[each.result]), seconds, Text(each.note))
    console.print(table, highlight=False)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if there were steps and every one passed, otherwise 1."""
    return 0 if outcomes and all(each.result == "passed" for each in outcomes) else 1
