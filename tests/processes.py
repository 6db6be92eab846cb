"""What the kernel knows about processes."""

from pathlib import Path


def descendants(pid: int) -> set[int]:
    """The processes that `pid` started and has not outlived, and theirs."""
    parents = {int(path.name): _stat(path)[1] for path in Path("/proc").iterdir() if path.name.isdigit()}
    found: set[int] = set()
    newest = {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest}
        found |= newest
    return found


def runs(pid: int) -> bool:
    """Whether it exists and has not ended."""
    return _stat(Path(f"/proc/{pid}"))[0] not in ("", "Z")


def environment(pid: int) -> dict[str, str]:
    """The variables that it was started with."""
    content = Path(f"/proc/{pid}/environ").read_text()
    return dict(variable.split("=", 1) for variable in content.split("\0") if variable)


def _stat(directory: Path) -> tuple[str, int]:
    """State and parent, ("", 0) for one that is gone."""
    try:
        state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return state, int(parent)
