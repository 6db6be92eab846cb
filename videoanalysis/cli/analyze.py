"""`videoanalysis analyze`: analyses one video with a running service, or with a stack started for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from rich.console import Console

from videoanalysis import client
from videoanalysis import report as reports
from videoanalysis.cli import options, runner, s3, service, terminal, waiting
from videoanalysis.cli.service import LocalService, RemoteService
from videoanalysis.client import AnalysisOptions, AsyncClient
from videoanalysis.limits import MAX_FRAMES_PER_CHUNK
from videoanalysis.report import FRAME_RATES, SCENE_LIST_FORMATS, Footage, FrameRate
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.stack import bundled_model
from videoanalysis.v1.analysis_pb2 import CUT_DETECTION_OFF, PRIORITY_BATCH, SCENE_BOUNDARIES_CUTS
from videoanalysis.video_analysis import VideoAnalysis


def analyze(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A file, or a URI that the service can read, such as sample://clip.")
    ],
    address: options.Address = None,
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
    wait: waiting.Wait = 0,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Show tags, caption, scene changes, cuts and timings of one video."""
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
    activity = terminal.activity(as_json)
    target = service.locate(
        address,
        tls=tls,
        ca=ca,
        cert=cert,
        key=key,
        token_file=token_file,
        model=model,
        engine=engine,
        activity=activity,
    )
    locate_video = _locator(target, path or video, upload, activity)

    async def call(client: AsyncClient) -> VideoAnalysis:
        uri = await locate_video()

        async def analyze() -> VideoAnalysis:
            return await client.analyze(
                uri,
                on_progress=activity.show_progress,
                on_retry=activity.show_retry,
                timeout_seconds=timeout,
                **analysis_options,
            )

        return await waiting.until_ready(analyze, wait, activity.show_step)

    analysis = target.run(call, activity)
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


def _locator(
    target: RemoteService | LocalService, video: Path | str, upload: str | None, activity: terminal.Activity
) -> Callable[[], Awaitable[str]]:
    """Returns a URI that the service can read; `video` is one, or a file, which is uploaded first."""
    if isinstance(target, LocalService):
        if upload is not None:
            runner.usage_error("--upload: needs --address; without it the file goes into the bucket of the local stack")
        if isinstance(video, str) and video.startswith("s3://"):
            runner.usage_error(f"{video}: name the service that can read it with --address HOST:PORT")
    elif isinstance(video, Path) and upload is None:
        runner.usage_error(
            f"{video} is a file of this machine, which the service at {target.address} cannot read; "
            "upload it with --upload s3://bucket/key"
        )
    elif isinstance(video, str) and upload is not None:
        runner.usage_error(f"--upload: {video} is not a file of this machine")
    uri = s3.parse_uri(upload, "--upload") if upload is not None else None

    async def locate() -> str:
        if isinstance(video, str):
            return video
        activity.show_step("uploading the video")
        if isinstance(target, LocalService):
            return await target.stack.upload(video)
        assert uri is not None
        with await asyncio.to_thread(video.open, "rb") as file:
            await s3.put(uri, file)
        return str(uri)

    return locate


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
