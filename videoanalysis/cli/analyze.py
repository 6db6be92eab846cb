"""`videoanalysis analyze`: analyses videos with a running service, or with a stack started for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videoanalysis import client
from videoanalysis.analysis_options import AnalysisOptions
from videoanalysis.cli import named_video, options, results, runner, s3, service, terminal, waiting
from videoanalysis.cli.command import STDOUT_NAME
from videoanalysis.cli.failure import Failure
from videoanalysis.cli.named_video import NamedVideo
from videoanalysis.cli.results import Files, Results
from videoanalysis.cli.saved_analysis import SavedAnalysis
from videoanalysis.cli.service import LocalService, RemoteService
from videoanalysis.client import AsyncClient
from videoanalysis.errors import ServiceError
from videoanalysis.limits import MAX_FRAMES_PER_CHUNK
from videoanalysis.partial_analysis import PartialAnalysis
from videoanalysis.report import FRAME_RATES, Footage, FrameRate
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.v1.analysis_pb2 import CUT_DETECTION_OFF, PRIORITY_BATCH, SCENE_BOUNDARIES_CUTS
from videoanalysis.video_analysis import VideoAnalysis

if TYPE_CHECKING:
    from videoanalysis.storage import S3Uri


def analyze(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO", help="Files, - for stdin, or URIs that the service can read, such as sample://clip."
        ),
    ],
    address: options.Address = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    upload: Annotated[
        str | None,
        typer.Option(
            help="Upload files to this s3://bucket/key first, or under it if it ends with /, with the AWS settings of "
            "the environment."
        ),
    ] = None,
    output: Annotated[
        results.Format,
        typer.Option(
            "--output",
            "-o",
            is_eager=True,
            help="table; json: the response as protobuf JSON, of several videos a list; jsonl: a line for each video, "
            "as it is ready. With json and jsonl errors are JSON, too.",
        ),
    ] = "table",
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write NAME.json, NAME.html (the report) and NAME.csv (the scenes) of each video into this directory.",
            file_okay=False,
        ),
    ] = None,
    quiet: options.Quiet = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Include the embeddings of the frames in the JSON, as float16.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file, or - for stdout, as one self-contained HTML page."),
    ] = None,
    trace_url: Annotated[
        str,
        typer.Option(
            envvar="VIDEOANALYSIS_TRACE_URL",
            help="Address of a trace, to which the report links; {trace_id} stands for its id.",
        ),
    ] = "",
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the scenes to this file: .csv, .edl (CMX3600) or .otio; - for CSV on stdout; may be repeated."
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
    min_scene_len: options.MinSceneLen = None,
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
        float | None,
        typer.Option(
            parser=options.parse_time,
            metavar="TIME",
            help="Where the analysis starts: seconds of the video, or [HH:]MM:SS.",
            show_default="0",
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            parser=options.parse_time,
            metavar="TIME",
            help="Where the analysis ends, in the same form.",
            show_default="the end of the video",
        ),
    ] = None,
    no_cuts: Annotated[bool, typer.Option("--no-cuts", help="Do not look for cuts and transitions.")] = False,
    scenes_by_cuts: Annotated[
        bool, typer.Option("--scenes-by-cuts", help="Scenes end at cuts, not where what is shown changes.")
    ] = False,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Batch priority: interactive requests go first."),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for each video.")] = client.TIMEOUT_SECONDS,
    wait: waiting.Wait = 0,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep what has arrived if the analysis fails or is interrupted; the same command continues from there."
        ),
    ] = None,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Show tags, caption, scenes, scene changes, cuts and timings of videos."""
    if embeddings and output == "table" and output_dir is None:
        runner.usage_error("--embeddings: needs --output json or --output-dir, which contain them")
    if no_cuts and scenes_by_cuts:
        runner.usage_error("--scenes-by-cuts: needs the cuts that --no-cuts turns off")
    if start is not None and end is not None and start >= end:
        runner.usage_error(f"--end: {end:g} s is not after --start, {start:g} s")
    if len(videos) > 1 and (report or scenes):
        runner.usage_error("--report and --scenes are about one video; write those of several with --output-dir")
    if resume is not None and (len(videos) > 1 or address is None):
        runner.usage_error("--resume: is for one video, and needs --address: a local stack always starts from zero")
    analysis_options = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        frames_per_chunk=frames_per_chunk,
        chunk_duration_seconds=chunk_duration,
        scene_threshold=scene_threshold,
        min_scene_seconds=min_scene_len,
        min_probability=min_probability,
        sampling_tolerance_seconds=tolerance,
        reuse_difference=reuse_difference,
        start_seconds=start,
        end_seconds=end,
        cut_detection=CUT_DETECTION_OFF if no_cuts else None,
        scene_boundaries=SCENE_BOUNDARIES_CUTS if scenes_by_cuts else None,
        include_scene_scores=report is not None or output_dir is not None,
        include_embeddings=embeddings or None,
        priority=PRIORITY_BATCH if batch else None,
    )
    named = named_video.named(videos)
    files = _files(named, report, scenes or [], output_dir)
    on_stdout = [path for one in files for path in one.paths if path == results.STDOUT]
    if len(on_stdout) + (output != "table") > 1:
        runner.usage_error("--output: stdout takes one result: that of --output, --report - or --scenes -")
    activity = terminal.activity(quiet=quiet, for_program=output != "table" or bool(on_stdout))
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
        # With --wait the command itself repeats the call, and shows the reason.
        retry_timeout_seconds=0 if wait else client.RETRY_TIMEOUT_SECONDS,
    )
    upload_of = _uploads(target, upload, named, activity)
    saved = SavedAnalysis(resume) if resume is not None else None
    printed = Results(None if on_stdout else output, is_one=len(videos) == 1, quiet=quiet)

    async def analyze_one(client: AsyncClient, video: NamedVideo) -> VideoAnalysis:
        uri = video.uri if video.path is None else await upload_of(video)
        partial = saved.partial if saved else PartialAnalysis()

        async def call() -> VideoAnalysis:
            with service.errors_named(target.address):
                return await client.analyze(
                    uri,
                    on_progress=activity.show_progress,
                    on_retry=activity.show_retry,
                    timeout_seconds=timeout,
                    partial=partial,
                    **analysis_options,
                )

        with saved or nullcontext():
            return await waiting.until_ready(call, wait, activity.show_step)

    async def analyze_each(client: AsyncClient) -> None:
        for video, about in zip(named, files, strict=True):
            try:
                with activity:
                    analysis = await analyze_one(client, video)
                printed.add(video, analysis)
                with activity:
                    activity.show_step("writing")
                    footage = Footage(video.name, video.uri, FRAME_RATES[frame_rate])
                    threshold = scene_threshold or DEFAULT_SCENE_THRESHOLD
                    await about.write(analysis, video, footage, threshold, trace_url)
                printed.written(about)
            except (ServiceError, OSError) as error:
                if isinstance(error, OSError) and error.filename in (STDOUT_NAME, str(results.STDOUT)):
                    # The other videos would fail for the same reason.
                    raise
                printed.add_failure(video, Failure.of(error))

    with ExitStack() as resources:
        named = [video.on_disk(resources) for video in named]
        target.run(analyze_each)
    printed.end()


def _uploads(
    target: RemoteService | LocalService,
    upload: str | None,
    videos: Sequence[NamedVideo],
    activity: terminal.Activity,
) -> Callable[[NamedVideo], Awaitable[str]]:
    """Uploads a file to where the service can read it, and returns its URI there."""
    if isinstance(target, LocalService):
        stack = target.stack
        if upload is not None:
            runner.usage_error("--upload: needs --address; without it files go into the bucket of the local stack")
        for video in videos:
            if video.uri.startswith("s3://"):
                runner.usage_error(f"{video.uri}: name the service that can read it with --address HOST:PORT", "VIDEO")

        async def put_into_stack(video: NamedVideo) -> str:
            assert video.path is not None
            activity.show_step("uploading the video")
            return await stack.upload(video.path)

        return put_into_stack
    targets = _targets(target.address, upload, videos)

    async def put(video: NamedVideo) -> str:
        assert video.path is not None
        activity.show_step("uploading the video")
        with await asyncio.to_thread(video.path.open, "rb") as file:
            await s3.put(targets[video.argument], file)
        return str(targets[video.argument])

    return put


def _targets(address: str, upload: str | None, videos: Sequence[NamedVideo]) -> "dict[str, S3Uri]":
    """Where to upload each file, by argument."""
    files = [video for video in videos if video.path is not None]
    if upload is None:
        for video in files:
            runner.usage_error(
                f"{video.argument} is a file of this machine, which the service at {address} cannot read; "
                "upload it with --upload s3://bucket/key",
                "VIDEO",
            )
        return {}
    if not files:
        runner.usage_error(f"--upload: {videos[0].argument} is not a file of this machine")
    if len(files) > 1 and not upload.endswith("/"):
        runner.usage_error(f"--upload: several files need a prefix, {upload}/")
    targets = {
        video.argument: s3.parse_uri(upload + video.name if upload.endswith("/") else upload, "--upload")
        for video in files
    }
    for uri in targets.values():
        if list(targets.values()).count(uri) > 1:
            runner.usage_error(f"--upload: two files would become {uri}; rename one")
    return targets


def _files(
    videos: Sequence[NamedVideo], report: Path | None, scenes: Sequence[Path], directory: Path | None
) -> list[Files]:
    """What to write about each video; it can be written."""
    if directory is not None:
        if report is not None or scenes:
            runner.usage_error("--output-dir: holds report and scenes already; leave out --report and --scenes")
        files = results.in_directory(directory, videos)
    else:
        files = [Files(report and results.named(report), [results.named(path) for path in scenes])] * len(videos)
    for one in files:
        one.check()
    return files
