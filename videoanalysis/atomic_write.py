"""Files that others read while we write them."""

from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees all of it, or what was there before."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
