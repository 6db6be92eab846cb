"""`videoanalysis redecode`: answers again from stored embeddings, with another text bank, labels or thresholds."""

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from rich.console import Console

from videoanalysis import client
from videoanalysis import report as reports
from videoanalysis.cli import options, runner, service, terminal
from videoanalysis.client import AnalysisOptions, AsyncClient
from videoanalysis.scores import DEFAULT_SCENE_THRESHOLD
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse
from videoanalysis.video_analysis import VideoAnalysis


def redecode(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="What `analyze --json --embeddings` printed.", dir_okay=False)
    ],
    address: options.Address = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as protobuf JSON.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file as one self-contained HTML page.", dir_okay=False),
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
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out tags below it.", show_default="the text bank's")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.TIMEOUT_SECONDS,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """Answer again for an analysed video, without the video and without a GPU.

    A local stack must have the model of the result.
    """
    stored = _read(result)
    asked = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        scene_threshold=scene_threshold,
        min_probability=min_probability,
        include_scene_scores=report is not None,
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

    async def call(client: AsyncClient) -> VideoAnalysis:
        return await client.redecode(stored, on_retry=activity.show_retry, timeout_seconds=timeout, **asked)

    analysis = target.run(call, activity)
    if report is not None:
        threshold = scene_threshold or DEFAULT_SCENE_THRESHOLD
        runner.run(reports.write_report(report, analysis, result.name, None, threshold))
    if as_json:
        typer.echo(json_format.MessageToJson(analysis.message))
    else:
        terminal.show(Console(), result.name, analysis)


def _read(path: Path) -> AnalyzeVideoResponse:
    try:
        return json_format.Parse(path.read_bytes(), AnalyzeVideoResponse())
    except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
        runner.usage_error(f"{path}: not a result that `analyze --json` printed: {error}")
