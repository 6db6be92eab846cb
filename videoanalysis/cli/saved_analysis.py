"""A file that keeps what has arrived of an analysis that was interrupted."""

from pathlib import Path

from videoanalysis.atomic_write import write_atomically
from videoanalysis.cli import runner
from videoanalysis.cli.failure import print_line
from videoanalysis.errors import InvalidInput
from videoanalysis.formatting import clock
from videoanalysis.partial_analysis import PartialAnalysis


class SavedAnalysis:
    """Surrounds the analysis that fills `partial`: written if it ends early, removed once it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.partial = PartialAnalysis()
        runner.check_writable("--resume", path)
        if path.exists():
            try:
                self.partial = PartialAnalysis.from_json(path.read_text())
            except (InvalidInput, UnicodeDecodeError):
                runner.usage_error(f"--resume: {path} holds something else than an interrupted analysis")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is None:
            self._path.unlink(missing_ok=True)
        elif self.partial.resume_token:
            write_atomically(self._path, self.partial.to_json().encode())
            print_line(
                f"{clock(self.partial.received_seconds)} of the video are kept in {self._path}; "
                "the same command continues from there"
            )
