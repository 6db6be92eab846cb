"""`videoanalysis analyze`: analyses one video with a running service, or with a stack started for it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import typer
from google.protobuf import json_format
from rich.console import Console

from videoanalysis import client
from videoanalysis import report as reports
from videoanalysis.cli import options, runner, s3, terminal
from videoanalysis.client import AnalysisOptions, AsyncClient
from videoanalysis.errors import Unavailable
from videoanalysis.limits import MAX_FRAMES_PER_CHUNK
from videoanalysis.report import FRAME_RATES, SCENE_LIST_FORMATS, Footage, FrameRate
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.stack import bundled_model
from videoanalysis.v1.analysis_pb2 import CUT_DETECTION_OFF, PRIORITY_BATCH, SCENE_BOUNDARIES_CUTS
from videoanalysis.video_analysis import VideoAnalysis

if TYPE_CHECKING:
    from videoanalysis.stack.stack import Stack


def analyze(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A file, or a URI that the service can read, such as sample://clip.")
    ],
    address: Annotated[
        str | None, typer.Option(help="host:port of a service. Unset: a local stack is started for this video.")
    ] = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    upload: Annotated[
        str | None,
        typer.Option(help="Upload the file to this s3://bucket/key first, with the AWS settings of the environment."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as protobuf JSON.")] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Include the embeddings of the frames in the JSON, as float16.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file as one self-contained HTML page.", dir_okay=False),
    ] = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the scenes to this file: .csv, .edl (CMX3600) or .otio; may be repeated.", dir_okay=False
        ),
    ] = None,
    frame_rate: Annotated[
        FrameRate, typer.Option(help="Frame rate of EDL and OTIO: that of the video, or of the edit they are for.")
    ] = "25",
    label: Annotated[
        list[str] | None, typer.Option(help="Rank these labels instead of the tags of the bank; may be repeated.")
    ] = None,
    text_bank: Annotated[str | None, typer.Option(help="Name of the text bank.", show_default="default")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Tags to return.", show_default="5")] = None,
    frames_per_chunk: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_FRAMES_PER_CHUNK, help="Frames sampled from each chunk.", show_default="16"),
    ] = None,
    chunk_duration: Annotated[
        float | None, typer.Option(min=1, max=600, help="Seconds in a chunk.", show_default="10")
    ] = None,
    scene_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Score from which a frame is a scene change.", show_default="0.15"),
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out texts below it.", show_default="that of the text bank")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, max=5, help="Seconds that a sampled frame may lie from its wanted time.", show_default="0"),
    ] = None,
    reuse_difference: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share by which a frame may differ and still reuse an embedding.", show_default="0"
        ),
    ] = None,
    start: Annotated[
        float | None, typer.Option(min=0, help="Second of the video where the analysis starts.", show_default="0")
    ] = None,
    end: Annotated[
        float | None, typer.Option(min=0, help="Second where it ends.", show_default="the end of the video")
    ] = None,
    no_cuts: Annotated[bool, typer.Option("--no-cuts", help="Do not look for cuts and transitions.")] = False,
    scenes_by_cuts: Annotated[
        bool, typer.Option("--scenes-by-cuts", help="Scenes end at cuts, not where what is shown changes.")
    ] = False,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Batch priority: interactive requests go first."),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.TIMEOUT_SECONDS,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Show tags, caption, scene changes, cuts and timings of one video."""
    options.check_model(model, engine)
    path = None if "://" in video else Path(video)
    if path is not None and not path.is_file():
        runner.usage_error(f"{video}: no such file")
    scenes = scenes or []
    if embeddings and not as_json:
        runner.usage_error("--embeddings: needs --json, which prints them")
    if no_cuts and scenes_by_cuts:
        runner.usage_error("--scenes-by-cuts: needs the cuts that --no-cuts turns off")
    _check_outputs(report, scenes)
    analysis_options = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        frames_per_chunk=frames_per_chunk,
        chunk_duration_seconds=chunk_duration,
        scene_threshold=scene_threshold,
        min_probability=min_probability,
        sampling_tolerance_seconds=tolerance,
        reuse_difference=reuse_difference,
        start_seconds=start,
        end_seconds=end,
        cut_detection=CUT_DETECTION_OFF if no_cuts else None,
        scene_boundaries=SCENE_BOUNDARIES_CUTS if scenes_by_cuts else None,
        include_scene_scores=report is not None,
        include_embeddings=embeddings or None,
        priority=PRIORITY_BATCH if batch else None,
    )
    stderr = Console(stderr=True)
    # A program that reads the JSON gets errors on stderr and no progress.
    activity = terminal.Activity(Console(quiet=True) if as_json and not stderr.is_terminal else stderr)
    call = _Call(
        analysis_options, timeout, activity, options.credentials(tls, ca, cert, key), options.token(token_file)
    )
    if address is not None:
        if model is not None or engine != "siglip":
            runner.usage_error("--model and --engine apply to a local stack, not to the service at --address")
        analysis = _analyze_remotely(address, path or video, upload, call)
    elif tls or ca or cert or token_file:
        runner.usage_error("--tls, --ca, --cert and --token-file apply to the service at --address")
    elif upload is not None:
        runner.usage_error("--upload: needs --address; without it the file goes into the bucket of the local stack")
    elif video.startswith("s3://"):
        runner.usage_error(f"{video}: name the service that can read it with --address HOST:PORT")
    else:
        with runner.require_extra("stack"):
            from videoanalysis.stack.stack import Stack, StackError

        stack = Stack(model=model, engine=engine, on_step=activity.show_step)
        analysis = runner.run(_analyze_locally(stack, path or video, call), StackError)
    if as_json:
        typer.echo(json_format.MessageToJson(analysis.message))
        if caveat := bundled_model.caveat(analysis.message.model):
            typer.echo(caveat, err=True)
    else:
        terminal.show(Console(), video, analysis)

    async def write() -> None:
        footage = _footage(video, path, frame_rate)
        for file in scenes:
            reports.write_scenes(file, analysis, footage)
        if report is not None:
            with activity:
                activity.show_step("rendering the report")
                threshold = scene_threshold or DEFAULT_SCENE_THRESHOLD
                await reports.write_report(report, analysis, footage.name, path, threshold)

    runner.run(write())
    if not as_json:
        for file in [*scenes, *([report] if report else [])]:
            typer.echo(f"Written: {file}")


@dataclass(frozen=True)
class _Call:
    """One analysis, for whichever service performs it."""

    options: AnalysisOptions
    timeout_seconds: float
    activity: terminal.Activity
    credentials: grpc.ChannelCredentials | None = None
    token: client.Token | None = None

    async def to(self, address: str, video_uri: str) -> VideoAnalysis:
        async with AsyncClient(address, credentials=self.credentials, token=self.token) as service:
            return await service.analyze(
                video_uri,
                on_progress=self.activity.show_progress,
                on_retry=self.activity.show_retry,
                timeout_seconds=self.timeout_seconds,
                **self.options,
            )


async def _analyze_locally(stack: "Stack", video: Path | str, call: _Call) -> VideoAnalysis:
    """`video` is a file, or a URI that the services of the stack can read."""
    with call.activity:
        async with stack:
            if isinstance(video, Path):
                call.activity.show_step("uploading the video")
                video = await stack.upload(video)
            call.activity.show_step(f"calling the ingress at {stack.address}")
            analysis = await stack.guard(call.to(stack.address, video))
            call.activity.show_step("stopping")
        return analysis


def _analyze_remotely(address: str, video: Path | str, upload: str | None, call: _Call) -> VideoAnalysis:
    """`video` is a file to upload to `upload`, or a URI that the service can read."""
    if isinstance(video, Path) and upload is None:
        runner.usage_error(
            f"{video} is a file of this machine, which the service at {address} cannot read; "
            "upload it with --upload s3://bucket/key"
        )
    if isinstance(video, str) and upload is not None:
        runner.usage_error(f"--upload: {video} is not a file of this machine")
    uri = s3.parse_uri(upload, "--upload") if upload is not None else None

    async def run() -> VideoAnalysis:
        with call.activity:
            if isinstance(video, Path) and uri is not None:
                call.activity.show_step("uploading")
                with await asyncio.to_thread(video.open, "rb") as file:
                    await s3.put(uri, file)
            try:
                return await call.to(address, str(uri or video))
            except Unavailable as error:
                if error.reason != Unavailable.default_reason:
                    raise
                # A reason of gRPC's, such as a refused connection.
                raise Unavailable(f"no answer from {address}: {error.message}") from error

    return runner.run(run())


def _footage(video: str, path: Path | None, frame_rate: FrameRate) -> Footage:
    rate = FRAME_RATES[frame_rate]
    if path is not None:
        return Footage(path.name, path.absolute().as_uri(), rate)
    return Footage(video.rpartition("/")[2] or video, video, rate)


def _check_outputs(report: Path | None, scenes: list[Path]) -> None:
    for option, path in [*([("--report", report)] if report else []), *(("--scenes", path) for path in scenes)]:
        if not path.absolute().parent.is_dir():
            runner.usage_error(f"{option}: no such directory: {path.parent}")
    for path in scenes:
        if path.suffix.lower() not in SCENE_LIST_FORMATS:
            runner.usage_error(f"--scenes: {path} has none of the suffixes {', '.join(SCENE_LIST_FORMATS)}")
