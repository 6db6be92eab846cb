"""`python -m loadtest sweep`: puts the service under load, level after level."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from loadtest.cli import outcome
from loadtest.errors import InvalidOption
from loadtest.sweep.levels import Arrivals, parse_levels
from loadtest.sweep.load import Length
from loadtest.sweep.measurement import Measurement
from loadtest.sweep.mix import parse_rendered, parse_videos
from loadtest.sweep.record import SUMMARY
from loadtest.sweep.run import Run
from loadtest.sweep.slo import parse_objective
from loadtest.sweep.sweep import Plan
from loadtest.target.access import Access
from loadtest.target.local_stack import StackOptions
from loadtest.target.metrics_page import MetricsPages
from loadtest.target.source import Source
from videoanalysis.cli import address, options, runner


def sweep(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="host:port of the service, or of its replicas.")
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Start the services on this machine, with simulated GPUs.")
    ] = False,
    concurrency: Annotated[
        str, typer.Option(help="Closed loop: concurrent callers of each level, such as 2,4,8.", metavar="LIST")
    ] = "",
    rate: Annotated[
        str, typer.Option(help="Open loop: arrivals a second of each level, such as 5,10.", metavar="LIST")
    ] = "",
    arrivals: Annotated[
        Arrivals, typer.Option(help="Open loop: independent callers, or evenly spaced requests.")
    ] = "poisson",
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds during which a level sends.")] = 60,
    requests: Annotated[int | None, typer.Option(min=1, help="Maximum number of requests of a level.")] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(
            help="s3://…, sample://clip, another URI, or a file to upload; with a weight as in URI=3. May be repeated.",
            metavar="URI[=WEIGHT]",
            show_default="sample://clip",
        ),
    ] = None,
    rendered: Annotated[
        str,
        typer.Option("--render", help="Rendered clips, such as 1:70,6:25,60:5 (chunks:weight).", metavar="LIST"),
    ] = "",
    method: Annotated[Literal["unary", "stream"], typer.Option(help="AnalyzeVideo, or StreamAnalyzeVideo.")] = "unary",
    connections: Annotated[
        int, typer.Option(min=1, max=256, help="Connections to each address; they reach different replicas.")
    ] = 4,
    timeout: Annotated[float, typer.Option(min=0.001, help="Deadline of a request in seconds.")] = 300,
    caller: Annotated[
        str | None,
        typer.Option(help="Value of the x-caller-id header, for services that accept it (INGRESS_CALLER_HEADER)."),
    ] = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            help="Objective of every level: p95=1200ms, mean=1s, max=5s, errors=0, errors=0.1%, rate=60/s. "
            "May be repeated.",
        ),
    ] = None,
    signals: Annotated[
        list[str] | None,
        typer.Option(
            help="Page to sample: /scaling or /metrics of an ingress, /metrics of a DCGM exporter. May be repeated.",
            metavar="URL",
        ),
    ] = None,
    kube_context: Annotated[
        str | None, typer.Option(help="Context of the cluster whose replicas are sampled; needs --namespace.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace in which the services run.")] = None,
    release: Annotated[str | None, typer.Option(help="Helm release there, if there are several.")] = None,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between samples.")] = 1.0,
    pause: Annotated[float, typer.Option(min=0, max=3600, help="Seconds between levels.")] = 2.0,
    max_in_flight: Annotated[
        int, typer.Option(min=1, max=100_000, help="Open loop: requests beyond it are counted as NOT_SENT.")
    ] = 1000,
    give_up_after: Annotated[
        float, typer.Option(min=0.5, max=3600, help="Seconds without any answer after which the sweep ends.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the order of videos and of Poisson arrivals.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the run.", file_okay=False, show_default="build/loadtest/TIME"),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    ingresses: Annotated[int, typer.Option(min=1, max=64, help="With --stack.")] = 1,
    encoders: Annotated[int, typer.Option(min=1, max=256, help="With --stack.")] = 2,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="With --stack.")] = 1,
    service_ms: Annotated[float, typer.Option(min=0, help="With --stack: an encoder's time for 16 frames.")] = 22.6,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="With --stack: image size of the encoders.")] = 384,
    max_videos: Annotated[
        int | None, typer.Option(min=1, max=256, help="With --stack: videos in progress at an ingress.")
    ] = None,
) -> None:
    """Put the service under load, level after level, and write the run to a directory.

    Exit code 0; 3 if an objective was missed; 1 if the service cannot be reached or stops answering; 2 for invalid
    options; 130 after Ctrl-C; if the service refuses a video, as `videoanalysis analyze`. The measurements until then
    are written in any case.
    """
    try:
        if bool(addresses) == stack:
            raise InvalidOption("name the ADDRESS of a service, or start one with --stack")
        wanted = [*parse_videos(video or []), *parse_rendered(rendered)] or parse_videos(["sample://clip"])
        if not stack and not all(one.uri for one in wanted):
            raise InvalidOption("--render and files: need --stack; upload them and name their URIs with --video")
        if stack and (tls or ca or cert or key or token_file):
            raise InvalidOption("--tls, --ca, --cert, --key and --token-file apply to the service at ADDRESS")
        measurement = Measurement(
            plan=Plan(
                levels=parse_levels(concurrency, rate, arrivals),
                length=Length(duration, requests),
                pause_seconds=pause,
                max_in_flight=max_in_flight,
                sample_seconds=every,
                give_up_seconds=give_up_after,
                seed=seed,
            ),
            wanted=wanted,
            addresses=[_checked_address(text) for text in addresses or []],
            stack=StackOptions(ingresses, encoders, decoders, service_ms, image_size, max_videos),
            connections=connections,
            method=method,
            timeout_seconds=timeout,
            access=Access(options.credentials(tls, ca, cert, key), options.token(token_file), caller),
            sources=_sources(signals or [], kube_context, namespace, release),
            objectives=[parse_objective(text) for text in slo or []],
            directory=new_directory(out),
        )
    except InvalidOption as error:
        runner.usage_error(str(error))
    measure(measurement, report=report)


def measure(measurement: Measurement, *, report: bool) -> Run:
    """Measure and print the result; exit unless all objectives are met."""
    from videoanalysis.stack.stack import StackError

    try:
        run = runner.run(measurement.run(Console(stderr=True)), StackError)
    finally:
        # Also after an early end.
        if (measurement.directory / SUMMARY).exists():
            outcome.show(Run.read(measurement.directory), report=report)
    if code := outcome.exit_code(run):
        raise typer.Exit(code)
    return run


def new_directory(out: Path | None) -> Path:
    """Raises InvalidOption if it holds a run already."""
    directory = out or Path("build/loadtest") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (directory / SUMMARY).exists():
        raise InvalidOption(f"--out: {directory} holds a run already; name another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidOption(f"--out: {directory} cannot be made ({error.strerror})") from None
    return directory


def _checked_address(text: str) -> str:
    try:
        return address.checked(text)
    except ValueError as error:
        raise InvalidOption(f"ADDRESS: {error}") from None


def _sources(pages: Sequence[str], context: str | None, namespace: str | None, release: str | None) -> list[Source]:
    for url in pages:
        if not url.startswith(("http://", "https://")):
            raise InvalidOption(f"--signals: {url}, must be a URL such as http://ingress:9091/scaling")
    sources: list[Source] = [MetricsPages(list(pages))] if pages else []
    if namespace:
        from loadtest.target.cluster import Cluster

        try:
            sources.append(Cluster(context, namespace, release))
        except OSError as error:
            raise InvalidOption(str(error)) from None
    elif context or release:
        raise InvalidOption("--kube-context and --release: name the namespace of the services with --namespace")
    return sources
