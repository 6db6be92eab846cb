"""Terminal output: progress of an analysis, and its result as tables."""

from types import TracebackType
from typing import Self

from rich import box, progress
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from videoanalysis.errors import ServiceError
from videoanalysis.formatting import clock, count, model_name, peak, share_of_video, short_digest
from videoanalysis.stack import bundled_model
from videoanalysis.video_analysis import Progress, VideoAnalysis

# Of each table.
_ROWS = 20
# On a narrower terminal the numbers take the space of the bars.
_WIDTH_OF_BARS = 80
# Without an interactive terminal, a line for each such fraction of the work.
_LINE_FRACTION = 0.25


class Output(Console):
    """The standard output. Where its reader has ended, BrokenPipeError is raised; rich itself would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # called while it is handled


class Activity:
    """Shows progress on `console`: a progress bar on an interactive terminal, occasional lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = progress.Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,
        )
        self._task = self._bar.add_task("", total=None, amount="")
        self._last_text = ""
        self._next_fraction = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show_step(self, text: str) -> None:
        self._show(text, 0, 0, "")

    def show_progress(self, progress: Progress) -> None:
        match progress.stage:
            case "waiting":
                wait = progress.estimated_wait_seconds
                self._show("waiting for a slot", 0, 0, f"about {wait:.0f} s" if wait else "")
            case "downloading":
                done, total = progress.downloaded_bytes / 1e6, progress.total_bytes / 1e6
                self._show("downloading", done, total, f"{done:.1f} of {total:.1f} MB" if total else "")
            case "analyzing":
                done, total = progress.analyzed_seconds, progress.claimed_duration_seconds
                self._show("analysing", done, total, f"{done:.0f} of {total:.0f} s" if total else f"{done:.0f} s")

    def show_retry(self, error: ServiceError, seconds: float, resumes_at_seconds: float) -> None:
        """Show the error, the time until the next call and the position at which it resumes."""
        action = f"resuming at {clock(resumes_at_seconds)}" if resumes_at_seconds else "trying again"
        self.show_step(f"{error}; {action} in {seconds:.1f} s")

    def _show(self, text: str, done: float, total: float, amount: str) -> None:
        self._bar.update(self._task, description=text, completed=done, total=total or None, amount=amount)
        if self._console.is_interactive:
            return
        fraction = done / total if total else 0.0
        if text != self._last_text or fraction >= self._next_fraction:
            self._console.print(f"{text} {amount}".rstrip(), markup=False, highlight=False)
            self._last_text, self._next_fraction = text, fraction + _LINE_FRACTION


def activity(*, quiet: bool = False, for_program: bool = False) -> Activity:
    """On stderr. A program that reads stdout gets errors alone, unless a person watches it."""
    stderr = Console(stderr=True)
    is_silent = quiet or (for_program and not stderr.is_terminal)
    return Activity(Console(quiet=True) if is_silent else stderr)


def show(console: Console, video: str, analysis: VideoAnalysis) -> None:
    """Print the result; `video` is the name to show for the video."""
    frames = sum(len(chunk.frame_times_seconds) for chunk in analysis.chunks)
    headline = Text.assemble(
        (video, "bold"),
        (f"   {clock(analysis.video_duration_seconds)}, {count(len(analysis.chunks), 'chunk')}, ", "dim"),
        (f"{count(frames, 'frame')} sampled", "dim"),
    )
    parts: list[RenderableType] = [headline]
    if caveat := bundled_model.caveat(analysis.message.model):
        parts.append(Text(caveat, "yellow"))
    if analysis.decode_failures:
        parts.append(Text(f"{count(analysis.decode_failures, 'packet')} of the video could not be decoded", "yellow"))
    if analysis.ends_early:
        claimed, found = clock(analysis.claimed_duration_seconds), clock(analysis.video_duration_seconds)
        parts.append(Text(f"the file claims {claimed} and ends after {found}: it may have been cut short", "yellow"))
    if analysis.frames_dropped:
        parts.append(Text(f"{count(analysis.frames_dropped, 'frame')} had no place in the video", "yellow"))
    parts += [
        _tags(analysis, with_bars=console.width >= _WIDTH_OF_BARS),
        _caption(analysis),
        _scenes(analysis),
        _scene_changes(analysis),
    ]
    parts += [_cuts(analysis), _timing(analysis), _origin(analysis)]
    console.print(Group(*(Padding(part, (0, 0, 1, 0)) for part in parts)), highlight=False)


def _tags(analysis: VideoAnalysis, *, with_bars: bool) -> RenderableType:
    if not analysis.tags:
        return Text("no tag reaches the minimum probability", "dim")
    table = table_of("tag", "probability", *([""] if with_bars else []), "at best", "score")
    for tag in analysis.tags:
        table.add_row(
            Text(tag.text, "bold"),
            share_of_video(tag),
            *([ProgressBar(total=1, completed=tag.probability, width=12)] if with_bars else []),
            peak(tag),
            f"{tag.score:.3f}",
        )
    return table


def _caption(analysis: VideoAnalysis) -> RenderableType:
    caption = analysis.caption
    if caption is None:
        reason = "no caption reaches the minimum probability" if analysis.text_bank else "no caption: no text bank"
        return Text(reason, "dim")
    details = "".join(f" · {part}" for part in (share_of_video(caption), peak(caption)) if part)
    return Text.assemble(("“", "dim"), (caption.text, "italic"), ("”", "dim"), (details, "dim"))


def _scenes(analysis: VideoAnalysis) -> RenderableType:
    table = table_of("scene", "start", "end", "length")
    for column in ("tag", "caption"):
        table.add_column(column)
    for number, scene in enumerate(analysis.scenes[:_ROWS], 1):
        table.add_row(
            str(number),
            Text(clock(scene.start_seconds), "bold"),
            clock(scene.end_seconds),
            clock(scene.end_seconds - scene.start_seconds),
            Text(scene.tags[0].text if scene.tags else ""),
            Text(scene.caption.text if scene.caption else "", "italic"),
        )
    return _limited(table, len(analysis.scenes))


def _scene_changes(analysis: VideoAnalysis) -> RenderableType:
    if not analysis.scene_changes:
        return Text("no scene change", "dim")
    table = table_of("scene change", "between frames at", "score")
    for change in analysis.scene_changes[:_ROWS]:
        table.add_row(
            Text(clock(change.cut_seconds), "bold"),
            f"{clock(change.previous_timestamp_seconds)} and {clock(change.timestamp_seconds)}",
            f"{change.score:.3f}",
        )
    return _limited(table, len(analysis.scene_changes))


def _cuts(analysis: VideoAnalysis) -> RenderableType:
    """Cuts and transitions, in order of time."""
    if not (analysis.cuts or analysis.transitions):
        return Text("no cut", "dim")
    cuts: list[tuple[float, str, str, str]] = [
        (cut.time_seconds, clock(cut.time_seconds), f"{'coarse ' if cut.coarse else ''}cut", f"{cut.strength:.2f}")
        for cut in analysis.cuts
    ]
    gradual: list[tuple[float, str, str, str]] = [
        (one.start_seconds, f"{clock(one.start_seconds)} to {clock(one.end_seconds)}", one.kind, "")
        for one in analysis.transitions
    ]
    shots = sorted(cuts + gradual)
    table = table_of("new shot", "by", "strength")
    for _, time, kind, strength in shots[:_ROWS]:
        table.add_row(Text(time, "bold"), kind, strength)
    return _limited(table, len(shots))


def _limited(table: Table, rows: int) -> RenderableType:
    hidden = rows - _ROWS
    return Group(table, Text(f"and {hidden} more; -o json prints all", "dim")) if hidden > 0 else table


def _timing(analysis: VideoAnalysis) -> RenderableType:
    table = table_of("stage", "queue", "compute")
    for name, stage in analysis.timing.stages():
        table.add_row(name, _seconds(stage.queue_seconds), _seconds(stage.compute_seconds))
    table.add_row("total", "", _seconds(analysis.timing.total_seconds), style="bold")
    return table


def _origin(analysis: VideoAnalysis) -> RenderableType:
    model, bank = analysis.model, analysis.text_bank
    how = f"{model.precision} on {model.device}, {model.image_size} px"
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(4):
        table.add_column(overflow="fold")
    table.add_row("model", model_name(model), short_digest(model.digest), how)
    if bank is not None:
        texts = f"{count(bank.tag_count, 'tag')}, {count(bank.description_count, 'description')}"
        table.add_row("text bank", bank.name, short_digest(bank.digest), texts)
    return Styled(table, "dim")


def table_of(*columns: str) -> Table:
    """Without lines; the columns but the first are numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and column else "left")
    return table


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"
