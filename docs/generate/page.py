"""A Markdown page with generated parts, each between `<!-- generated: NAME -->` and `<!-- end of NAME -->`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fill(page: Path, parts: Mapping[str, str]) -> str:
    """The text of `page` with its generated parts replaced; raises ValueError where a part has no markers."""
    text = page.read_text(encoding="utf-8")
    for name, content in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        head, found_begin, rest = text.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"{page}: the markers of the part {name!r} are missing")
        text = f"{head}{begin}\n\n{content.strip()}\n\n{end}{tail}"
    return text


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a vertical bar in a cell is escaped."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
