"""Writes files that other processes read meanwhile."""

from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees all of it, or the previous content."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
