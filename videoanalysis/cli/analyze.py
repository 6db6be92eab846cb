"""`videoanalysis analyze`: one video, by a service or by a stack started for it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from google.protobuf import json_format
from rich.console import Console

from videoanalysis import client
from videoanalysis.cli import ending, objects, options, terminal
from videoanalysis.client import AnalysisOptions, AsyncClient
from videoanalysis.errors import Unavailable
from videoanalysis.report import exports
from videoanalysis.report.scene_list import FRAME_RATES, WRITERS, Footage, FrameRate
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.stack import default_model
from videoanalysis.v1.analysis_pb2 import PRIORITY_BATCH
from videoanalysis.video_analysis import VideoAnalysis

if TYPE_CHECKING:
    from videoanalysis.stack.stack import Stack


def analyze(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A file, or a URI that the service can read, such as sample://clip.")
    ],
    address: Annotated[
        str | None, typer.Option(help="host:port of a service. Without it one is started for this video.")
    ] = None,
    upload: Annotated[
        str | None,
        typer.Option(help="First put the file at this s3://bucket/key, by the AWS settings of the environment."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as protobuf JSON.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file, as one HTML page that loads nothing.", dir_okay=False),
    ] = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the scenes to this file: .csv, .edl (CMX3600) or .otio; may be repeated.", dir_okay=False
        ),
    ] = None,
    frame_rate: Annotated[
        FrameRate, typer.Option(help="Of EDL and OTIO: the video's own, or that of the edit they are for.")
    ] = "25",
    label: Annotated[
        list[str] | None, typer.Option(help="Choose tags from these, not from the bank's; may be repeated.")
    ] = None,
    text_bank: Annotated[str | None, typer.Option(help="Name of the text bank.", show_default="default")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Tags to return.", show_default="5")] = None,
    frames_per_chunk: Annotated[
        int | None, typer.Option(min=1, max=64, help="Frames sampled from each chunk.", show_default="16")
    ] = None,
    chunk_duration: Annotated[
        float | None, typer.Option(min=1, max=600, help="Seconds in a chunk.", show_default="10")
    ] = None,
    scene_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Score from which a frame is a scene change.", show_default="0.15"),
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out tags below it.", show_default="none is left out")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Nobody waits for it: take only places that no interactive request wants.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.TIMEOUT_SECONDS,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Show tags, caption, scene changes and timings of one video."""
    options.check_model(model, engine)
    path = None if "://" in video else Path(video)
    if path is not None and not path.is_file():
        ending.misuse(f"there is no file {video}")
    scenes = scenes or []
    _check_written(report, scenes)
    wanted = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        frames_per_chunk=frames_per_chunk,
        chunk_duration_seconds=chunk_duration,
        scene_threshold=scene_threshold,
        min_probability=min_probability,
        include_scene_scores=report is not None,
        priority=PRIORITY_BATCH if batch else None,
    )
    stderr = Console(stderr=True)
    # Programs want errors there, people also what is going on.
    activity = terminal.Activity(Console(quiet=True) if as_json and not stderr.is_terminal else stderr)
    call = _Call(wanted, timeout, activity)
    if address is not None:
        if model is not None or engine != "siglip":
            ending.misuse("--model and --engine are for a stack of your own, not for the service at --address")
        analysis = _analyze_there(address, path or video, upload, call)
    elif upload is not None:
        ending.misuse("--upload: without --address the file goes into the bucket of a stack of your own")
    elif video.startswith("s3://"):
        ending.misuse(f"{video}: name the service that can read it with --address HOST:PORT")
    else:
        with ending.extra("stack"):
            from videoanalysis.stack.stack import Stack, StackError

        stack = Stack(model=model, engine=engine, on_step=activity.say)
        analysis = ending.run(_analyze_here(stack, path or video, call), StackError)
    if as_json:
        typer.echo(json_format.MessageToJson(analysis.message))
        if caveat := default_model.caveat(analysis.message.model):
            typer.echo(caveat, err=True)
    else:
        terminal.show(Console(), video, analysis)

    async def write() -> None:
        footage = _footage(video, path, frame_rate)
        for file in scenes:
            exports.write_scenes(file, analysis, footage)
        if report is not None:
            with activity:
                activity.say("drawing the report")
                threshold = scene_threshold or DEFAULT_SCENE_THRESHOLD
                await exports.write_report(report, analysis, footage.name, path, threshold)

    ending.run(write())
    if not as_json:
        for file in [*scenes, *([report] if report else [])]:
            typer.echo(f"Written: {file}")


@dataclass(frozen=True)
class _Call:
    """What is asked of a service, whichever it is."""

    options: AnalysisOptions
    timeout_seconds: float
    activity: terminal.Activity

    async def to(self, address: str, video_uri: str) -> VideoAnalysis:
        async with AsyncClient(address) as service:
            return await service.analyze(
                video_uri,
                on_progress=self.activity.follow,
                on_retry=self.activity.wait,
                timeout_seconds=self.timeout_seconds,
                **self.options,
            )


async def _analyze_here(stack: "Stack", video: Path | str, call: _Call) -> VideoAnalysis:
    """A file, or what the services of a stack can read."""
    with call.activity:
        async with stack:
            if isinstance(video, Path):
                call.activity.say("putting the video into a bucket")
                video = await stack.upload(video)
            call.activity.say(f"calling the ingress at {stack.address}")
            analysis = await stack.guard(call.to(stack.address, video))
            call.activity.say("stopping")
        return analysis


def _analyze_there(address: str, video: Path | str, upload: str | None, call: _Call) -> VideoAnalysis:
    """A file by way of `upload`, or what the service can read."""
    if isinstance(video, Path) and upload is None:
        ending.misuse(
            f"{video} lies on this machine, where the service at {address} cannot read it; "
            "put it where it can with --upload s3://bucket/key"
        )
    if isinstance(video, str) and upload is not None:
        ending.misuse(f"--upload: {video} is not a file of this machine")
    uri = objects.s3_uri(upload, "--upload") if upload is not None else None

    async def run() -> VideoAnalysis:
        with call.activity:
            if isinstance(video, Path) and uri is not None:
                call.activity.say("uploading")
                with await asyncio.to_thread(video.open, "rb") as file:
                    await objects.put(uri, file)
            try:
                return await call.to(address, str(uri or video))
            except Unavailable as error:
                if error.reason != Unavailable.default_reason:
                    raise
                # Not the service's own words.
                raise Unavailable(f"no answer from {address}: {error.message}") from error

    return ending.run(run())


def _footage(video: str, path: Path | None, frame_rate: FrameRate) -> Footage:
    rate = FRAME_RATES[frame_rate]
    if path is not None:
        return Footage(path.name, path.absolute().as_uri(), rate)
    return Footage(video.rpartition("/")[2] or video, video, rate)


def _check_written(report: Path | None, scenes: list[Path]) -> None:
    for option, path in [*([("--report", report)] if report else []), *(("--scenes", path) for path in scenes)]:
        if not path.absolute().parent.is_dir():
            ending.misuse(f"{option}: there is no directory {path.parent}")
    for path in scenes:
        if path.suffix.lower() not in WRITERS:
            ending.misuse(f"--scenes: {path} ends in none of {', '.join(WRITERS)}")
