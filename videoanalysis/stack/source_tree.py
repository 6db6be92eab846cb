"""The source tree, from which services run as processes: the wheel contains only this library."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def missing_services() -> str | None:
    """A message for a user whose installation has no services to run, otherwise None."""
    if (ROOT / "services").is_dir():
        return None
    return (
        f"{ROOT} has no services/: run this from a checkout of the project in which `make setup` has installed "
        "videoanalysis"
    )
