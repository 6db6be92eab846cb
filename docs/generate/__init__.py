"""Tables in the documentation that follow from the code: `python -m docs.generate` writes them."""

from pathlib import Path

from docs.generate import chart, command_line, metrics, settings


def generated() -> dict[Path, str]:
    """The contents that every generated file should have."""
    return {**chart.generated(), **settings.generated(), **metrics.generated(), **command_line.generated()}
