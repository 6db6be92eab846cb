"""The results of `videoanalysis selftest` as a table, and what must not have happened below it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from videoanalysis.formatting import count

if TYPE_CHECKING:
    from videoanalysis.selftest.trial import Result


def show(console: Console, results: "Sequence[Result]") -> None:
    """A row for each family of attacks: how often each status, and the most memory and time of any file."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for column in ("attack", "status", "peak memory", "at most"):
        table.add_column(column, justify="left" if column in ("attack", "status") else "right")
    families: dict[str, list[Result]] = {}
    for result in results:
        families.setdefault(result.attack.family, []).append(result)
    for family, members in families.items():
        statuses = Counter(result.status for result in members)
        peak = max(result.peak_bytes or 0 for result in members)
        table.add_row(
            Text(family, "bold red" if any(result.faults for result in members) else ""),
            ", ".join(f"{status} {number}" for status, number in statuses.most_common()),
            f"{peak >> 20} MiB" if peak else "",
            f"{max(result.seconds for result in members):.2f} s",
        )
    if results:
        console.print(table, highlight=False)
    faulty = [result for result in results if result.faults]
    for result in faulty:
        console.print(Text(f"{result.attack.family}, {result.attack.name}: {'; '.join(result.faults)}", "red"))
    console.print(f"{count(len(results), 'hostile file')}, {count(len(faulty), 'fault')}", highlight=False)
