"""`videoanalysis redecode`: answers again from stored embeddings, with another text bank, labels or thresholds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format

from videoanalysis import client
from videoanalysis.analysis_options import AnalysisOptions
from videoanalysis.cli import options, results, runner, service, terminal
from videoanalysis.cli.named_video import NamedVideo
from videoanalysis.cli.results import Files, Results
from videoanalysis.client import AsyncClient
from videoanalysis.report import FRAME_RATES, Footage
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse
from videoanalysis.video_analysis import VideoAnalysis


def redecode(
    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", help="What `analyze -o json --embeddings` printed: a file, or - for stdin."),
    ],
    address: options.Address = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    output: options.Output = "table",
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file, or - for stdout, as one self-contained HTML page."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Rank these labels instead of the tags of the bank; may be repeated.")
    ] = None,
    text_bank: Annotated[str | None, typer.Option(help="Name of the text bank.", show_default="default")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Tags to return.", show_default="5")] = None,
    scene_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Score from which a frame is a scene change.", show_default="0.15"),
    ] = None,
    min_scene_len: options.MinSceneLen = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out tags below it.", show_default="the text bank's")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.TIMEOUT_SECONDS,
    quiet: options.Quiet = False,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Answer again for an analysed video, without the video and without a GPU.

    A local stack must have the model of the result.
    """
    report = report and results.named(report)
    files = Files(report)
    files.check()
    if report == results.STDOUT and output == "json":
        runner.usage_error("--output: stdout takes one result: that of --output or --report -")
    stored, name = _read(result)
    analysis_options = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        scene_threshold=scene_threshold,
        min_scene_seconds=min_scene_len,
        min_probability=min_probability,
        include_scene_scores=report is not None,
    )
    activity = terminal.activity(quiet=quiet, for_program=output == "json" or report == results.STDOUT)
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

    async def call(client: AsyncClient) -> VideoAnalysis:
        with activity, service.errors_named(target.address):
            return await client.redecode(
                stored, on_retry=activity.show_retry, timeout_seconds=timeout, **analysis_options
            )

    analysis = target.run(call)
    video = NamedVideo(str(result), name, "", None)
    printed = Results(None if report == results.STDOUT else output, is_one=True, quiet=True)
    printed.add(video, analysis)
    footage = Footage(name, "", FRAME_RATES["25"])
    runner.run(files.write(analysis, video, footage, scene_threshold or DEFAULT_SCENE_THRESHOLD))


def _read(path: Path) -> tuple[AnalyzeVideoResponse, str]:
    """The stored answer and its name."""
    content, name = (sys.stdin.buffer.read(), "stdin") if path == Path("-") else (path.read_bytes(), path.name)
    try:
        return json_format.Parse(content, AnalyzeVideoResponse()), name
    except (UnicodeDecodeError, json_format.ParseError) as error:
        runner.usage_error(f"{name}: not a result that `analyze -o json` printed: {error}", "RESULT")
