"""The videos that a command line names: files, streams such as standard input, and URIs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from videoanalysis.cli import runner

_STDIN = "-"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class NamedVideo:
    """A file of this machine at `path`, or what the service finds at `uri`."""

    # As on the command line.
    argument: str
    name: str
    uri: str
    path: Path | None

    @property
    def stem(self) -> str:
        """For the names of files about it."""
        return Path(self.name).stem or "video"

    def on_disk(self, resources: ExitStack) -> "NamedVideo":
        """A stream is copied to a temporary file, which `resources` removes."""
        if self.path is None or self.path.is_file():
            return self
        # Without a name, so that nothing can be left behind.
        file = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        try:
            with self.path.open("rb") as stream:
                shutil.copyfileobj(stream, file, _COPY_BYTES)
            file.flush()
        except OSError as error:
            error.filename = error.filename or tempfile.gettempdir()
            raise
        return replace(self, path=Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"))


def named(arguments: Sequence[str]) -> list[NamedVideo]:
    """Files are there and readable."""
    if arguments.count(_STDIN) > 1:
        runner.usage_error("VIDEO: - can be named once", "VIDEO")
    return [_named(argument) for argument in arguments]


def _named(argument: str) -> NamedVideo:
    if argument == _STDIN:
        if sys.stdin is None or os.isatty(0):
            runner.usage_error("VIDEO: - reads a video from stdin; redirect one into it", "VIDEO")
        return NamedVideo(argument, "stdin", "file:///dev/stdin", Path("/dev/stdin"))
    if "://" in argument:
        return NamedVideo(argument, argument.rpartition("/")[2] or argument, argument, None)
    path = Path(argument)
    problem = None
    if path.is_dir():
        problem = f"is a directory; name its files, such as {path / '*.mp4'}"
    elif not path.exists():
        problem = "no such file"
    elif not os.access(path, os.R_OK):
        problem = "permission denied"
    if problem is not None:
        runner.usage_error(f"{argument}: {problem}", "VIDEO")
    return NamedVideo(argument, path.name, path.absolute().as_uri(), path)
