"""Prints the analyses of a command's videos as they arrive, and writes the files about each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from google.protobuf import json_format

from videoanalysis import report as reports
from videoanalysis.atomic_write import write_atomically
from videoanalysis.cli import runner, terminal
from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.cli.failure import Failure, print_line
from videoanalysis.cli.named_video import NamedVideo
from videoanalysis.report import SCENE_LIST_FORMATS, Footage
from videoanalysis.stack import bundled_model
from videoanalysis.video_analysis import VideoAnalysis

Format = Literal["table", "json", "jsonl"]
STDOUT = Path("/dev/stdout")


@dataclass(frozen=True, slots=True)
class Files:
    """What to write about one video."""

    report: Path | None = None
    scenes: Sequence[Path] = ()
    document: Path | None = None

    def check(self) -> None:
        """Ends the command if one of them cannot be written."""
        named = [("--report", self.report), ("--output-dir", self.document)]
        for option, path in (*named, *(("--scenes", path) for path in self.scenes)):
            if path is not None:
                runner.check_writable(option, path)
        for path in self.scenes:
            if path.suffix and path.suffix.lower() not in SCENE_LIST_FORMATS:
                runner.usage_error(f"--scenes: {path} has none of the suffixes {', '.join(SCENE_LIST_FORMATS)}")

    async def write(
        self, analysis: VideoAnalysis, video: NamedVideo, footage: Footage, threshold: float, trace_url: str = ""
    ) -> None:
        for path in self.scenes:
            reports.write_scenes(path, analysis, footage)
        if self.document is not None:
            write_atomically(self.document, json_format.MessageToJson(analysis.message).encode())
        if self.report is not None:
            await reports.write_report(self.report, analysis, video.name, video.path, threshold, trace_url)

    @property
    def paths(self) -> list[Path]:
        return [path for path in (*self.scenes, self.document, self.report) if path is not None]


def in_directory(directory: Path, videos: Sequence[NamedVideo]) -> list[Files]:
    """NAME.json, NAME.html and NAME.csv in `directory`, which is made, for each of `videos`."""
    stems = [video.stem for video in videos]
    for stem in stems:
        if stems.count(stem) > 1:
            runner.usage_error(f"--output-dir: two videos would be written to {directory / stem}.json; rename one")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        runner.usage_error(f"--output-dir: {error.filename}: {error.strerror}")
    return [
        Files(directory / f"{stem}.html", [directory / f"{stem}.csv"], directory / f"{stem}.json") for stem in stems
    ]


class Results:
    """`is_one`: the result is that of a single video, which JSON has without a list around it."""

    def __init__(self, output: Format | None, *, is_one: bool, quiet: bool) -> None:
        self._output = output
        self._is_one = is_one
        self._quiet = quiet
        self._entries: list[dict[str, Any]] = []
        self._caveat: str | None = None
        self._codes: list[ExitCode] = []

    def add(self, video: NamedVideo, analysis: VideoAnalysis) -> None:
        self._codes.append(ExitCode.OK)
        if self._output == "table":
            terminal.show(terminal.Output(), video.name, analysis)
            return
        if caveat := bundled_model.caveat(analysis.message.model):
            self._note(caveat)
        if self._output == "json" and self._is_one:
            typer.echo(json_format.MessageToJson(analysis.message))
        else:
            self._add_entry(video, "analysis", json_format.MessageToDict(analysis.message))

    def add_failure(self, video: NamedVideo, failure: Failure) -> None:
        """Raises it if there is no other video."""
        if self._is_one and self._output != "jsonl":
            raise failure
        self._codes.append(failure.code)
        if self._output in ("json", "jsonl"):
            self._add_entry(video, "error", failure.fields())
        else:
            Failure(f"{video.name}: {failure}", failure.code).show(as_json=False)

    def written(self, files: Files) -> None:
        if self._output == "table" and not self._quiet:
            for path in files.paths:
                typer.echo(f"Written: {path}")

    def end(self) -> None:
        """Ends the command with the exit code of the failures, if there are any."""
        if self._output == "json" and not self._is_one:
            typer.echo(json.dumps(self._entries, indent=2))
        failures = {code for code in self._codes if code}
        if failures:
            raise typer.Exit(failures.pop() if len(failures) == 1 else ExitCode.FAILED)

    def _add_entry(self, video: NamedVideo, key: str, value: object) -> None:
        entry = {"video": video.argument, key: value}
        if self._output == "jsonl":
            typer.echo(json.dumps(entry))
        elif self._output == "json":
            self._entries.append(entry)

    def _note(self, caveat: str) -> None:
        if caveat != self._caveat and not self._quiet:
            print_line(caveat)
        self._caveat = caveat


def named(path: Path) -> Path:
    """- is stdout."""
    return STDOUT if path == Path("-") else path
