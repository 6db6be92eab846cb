"""The result of a run: a table for people, an exit code for programs."""

from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.report import page
from loadtest.sweep.run import Run
from loadtest.sweep.slo import EXIT_CODE_MISSED, figure

# Of a table that is redirected to a file.
_FILE_WIDTH = 140


def exit_code(run: Run) -> int:
    """1 if nothing was answered, 3 if an objective was missed."""
    if not any(level["kept"] for level in run.levels):
        return 1
    return 0 if all(verdict["is_met"] for verdict in run.summary["objectives"]) else EXIT_CODE_MISSED


def show(run: Run, *, report: bool) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(_levels(run.levels))
    for level in run.levels:
        if remark := level["steady_state"]["remark"]:
            console.print(Text(f"{level['level']}: {remark}", "yellow"))
        for error in level["errors"]:
            reason = f" ({error['reason']})" if error["reason"] else ""
            text = f"{level['level']}: {error['count']} × {error['status']}{reason}: {error['example']}"
            console.print(Text(text, "red"))
    for note in run.summary["notes"]:
        console.print(Text(note, "yellow"))
    for verdict in run.summary["objectives"]:
        word, style = ("met", "green") if verdict["is_met"] else ("MISSED", "bold red")
        console.print(Text(f"{verdict['objective']} at {verdict['level']}: {figure(verdict['value'])} {word}", style))
    if run.summary["ending"] != "complete":
        console.print(Text(f"The run is incomplete: {run.summary['ending']}", "bold yellow"))
    if report and run.requests:
        typer.echo(f"Written: {page.write(run)}")
    else:
        typer.echo(f"Written: {run.directory}")


def _levels(levels: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for index, name in enumerate(
        ("level", "warm-up", "kept", "failed", "offered/s", "rate/s", "mean", "P50", "P95", "P99", "max ms", "steady")
    ):
        table.add_column(name, justify="right" if index else "left")
    for level in levels:
        latency = level["latency_ms"]
        table.add_row(
            Text(level["level"], "bold"),
            str(level["steady_state"]["warm_up_requests"]),
            str(level["kept"]),
            Text(str(level["failed"]), "red" if level["failed"] else ""),
            f"{level['offered_rate']:.2f}",
            f"{level['rate']:.2f}",
            *(f"{latency[name]:.0f}" if latency else "" for name in ("mean", "p50", "p95", "p99", "max")),
            "yes" if level["steady_state"]["is_steady"] else "no",
        )
    return table
