"""The checkout of the project, from which services run as processes; the wheel holds only this library."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def problem() -> str | None:
    """What to tell a user who has no services to run."""
    if (ROOT / "services").is_dir():
        return None
    return (
        f"{ROOT} has no services/: this runs from a checkout of the project, in which `make setup` has installed "
        "videoanalysis"
    )
