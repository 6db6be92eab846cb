"""What people see: progress while they wait, and a result they can read."""

from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from videoanalysis import default_model
from videoanalysis.v1 import analysis_pb2
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, StageTiming

_SCENE_CHANGES_SHOWN = 20
_LINE_EVERY = 0.25


class Activity:
    """Says on `console` what is being done: a moving bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, amount="")
        self._said = ""
        self._next_fraction = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._show(text, 0, 0, "")

    def follow(self, progress: analysis_pb2.Progress) -> None:
        """Show how far the service is with the video."""
        match progress.stage:
            case analysis_pb2.STAGE_DOWNLOADING:
                done, total = progress.downloaded_bytes / 1e6, progress.total_bytes / 1e6
                self._show("downloading", done, total, f"{done:.1f} of {total:.1f} MB" if total else "")
            case analysis_pb2.STAGE_ANALYZING:
                done, total = progress.analyzed_seconds, progress.claimed_duration_seconds
                self._show("analysing", done, total, f"{done:.0f} of {total:.0f} s" if total else f"{done:.0f} s")
            case _:
                self._show("waiting for a place", 0, 0, "")

    def _show(self, text: str, done: float, total: float, amount: str) -> None:
        self._bar.update(self._task, description=text, completed=done, total=total or None, amount=amount)
        if self._console.is_terminal:
            return
        fraction = done / total if total else 0.0
        if text != self._said or fraction >= self._next_fraction:
            self._console.print(f"{text} {amount}".rstrip(), markup=False, highlight=False)
            self._said, self._next_fraction = text, fraction + _LINE_EVERY


def show(console: Console, video: str, answer: AnalyzeVideoResponse) -> None:
    """Print the result for a reader; `video` is what the reader calls it."""
    frames = sum(len(chunk.frame_times_seconds) for chunk in answer.chunks)
    headline = Text.assemble(
        (video, "bold"),
        (f"   {_clock(answer.video_duration_seconds)}, {_count(len(answer.chunks), 'chunk')}, ", "dim"),
        (f"{_count(frames, 'frame')} looked at", "dim"),
    )
    parts: list[RenderableType] = [headline]
    if caveat := default_model.caveat(answer.model):
        parts.append(Text(caveat, "yellow"))
    if answer.decode_failures:
        parts.append(Text(f"{_count(answer.decode_failures, 'packet')} of the video could not be decoded", "yellow"))
    parts += [_tags(answer), _caption(answer), _scene_changes(answer), _timing(answer), _origin(answer)]
    console.print(Group(*(Padding(part, (0, 0, 1, 0)) for part in parts)), highlight=False)


def _tags(answer: AnalyzeVideoResponse) -> RenderableType:
    if not answer.tags:
        return Text("no tag over the probability asked for", "dim")
    table = _table("tag", "", "probability", "score", "best at")
    for tag in answer.tags:
        table.add_row(
            Text(tag.text, "bold"),
            ProgressBar(total=1, completed=tag.probability, width=20),
            _percent(tag.probability),
            f"{tag.score:.3f}",
            _chunk_start(answer, tag.best_chunk_index),
        )
    return table


def _caption(answer: AnalyzeVideoResponse) -> RenderableType:
    caption = answer.caption
    if not caption.text:
        return Text("no caption", "dim")
    details = f"   {_percent(caption.probability)}, best at {_chunk_start(answer, caption.best_chunk_index)}"
    return Text.assemble(("“", "dim"), (caption.text, "italic"), ("”", "dim"), (details, "dim"))


def _scene_changes(answer: AnalyzeVideoResponse) -> RenderableType:
    if not answer.scene_changes:
        return Text("no scene change", "dim")
    table = _table("scene change", "not before", "score")
    for change in answer.scene_changes[:_SCENE_CHANGES_SHOWN]:
        table.add_row(
            Text(_clock(change.timestamp_seconds), "bold"),
            _clock(change.previous_timestamp_seconds),
            f"{change.score:.3f}",
        )
    hidden = len(answer.scene_changes) - _SCENE_CHANGES_SHOWN
    return Group(table, Text(f"and {hidden} more, all of them with --json", "dim")) if hidden > 0 else table


def _timing(answer: AnalyzeVideoResponse) -> RenderableType:
    timing = answer.timing
    table = _table("stage", "queue", "compute")
    stages: list[tuple[str, StageTiming]] = [
        ("download", timing.download),
        ("sample", timing.sample),
        ("encode", timing.encode),
        ("decode", timing.decode),
    ]
    for name, stage in stages:
        table.add_row(name, _seconds(stage.queue_seconds), _seconds(stage.compute_seconds))
    table.add_row("in all", "", _seconds(timing.total_seconds), style="bold")
    return table


def _origin(answer: AnalyzeVideoResponse) -> RenderableType:
    model, bank = answer.model, answer.text_bank
    name = Path(model.model_id).name if model.model_id.startswith("/") else model.model_id
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row("model", name, _digest(model.digest), f"{model.precision} on {model.device}, {model.image_size} px")
    if bank.name:
        texts = f"{_count(bank.tags, 'tag')}, {_count(bank.descriptions, 'description')}"
        table.add_row("text bank", bank.name, _digest(bank.digest), texts)
    return Styled(table, "dim")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and column else "left")
    return table


def _chunk_start(answer: AnalyzeVideoResponse, index: int) -> str:
    return next((_clock(chunk.start_seconds) for chunk in answer.chunks if chunk.chunk_index == index), "")


def _clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 or probability == 0 else "< 0.1%"


def _digest(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
