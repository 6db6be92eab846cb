"""`python -m loadtest sweep`: options to a measurement, and what it came to, to words and an exit code."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from loadtest.bad_option import BadOption
from loadtest.sweep import outcome
from loadtest.sweep.levels import Arrivals, parse_levels
from loadtest.sweep.load import Length
from loadtest.sweep.measurement import Measurement, Upload
from loadtest.sweep.mix import Wanted, parse_rendered, parse_videos
from loadtest.sweep.record import SUMMARY
from loadtest.sweep.run import Run
from loadtest.sweep.samples import Source
from loadtest.sweep.slo import parse_objective
from loadtest.sweep.sweep import Plan
from loadtest.target.local_stack import StackOptions
from loadtest.target.metrics_page import MetricsPages
from videoanalysis.cli import ending, objects


def sweep(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="host:port of the service, or of its replicas.")
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Start the services on this machine, with encoders that only take time.")
    ] = False,
    concurrency: Annotated[
        str, typer.Option(help="Closed loop: callers at a time, a level each, as in 2,4,8.", metavar="LIST")
    ] = "",
    rate: Annotated[
        str, typer.Option(help="Open loop: arrivals a second, a level each, as in 5,10.", metavar="LIST")
    ] = "",
    arrivals: Annotated[
        Arrivals, typer.Option(help="Of an open loop: independent callers, or evenly spaced.")
    ] = "poisson",
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds in which a level sends.")] = 60,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Most requests of a level, if it sends them sooner.")
    ] = None,
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
        typer.Option("--render", help="Clips made for this, as in 1:70,6:25,60:5 (chunks:weight).", metavar="LIST"),
    ] = "",
    upload: Annotated[
        str | None,
        typer.Option(
            help="Where --render and files go without --stack, by the AWS settings of the environment.",
            metavar="s3://BUCKET/PREFIX",
        ),
    ] = None,
    method: Annotated[Literal["unary", "stream"], typer.Option(help="AnalyzeVideo, or StreamAnalyzeVideo.")] = "unary",
    connections: Annotated[
        int, typer.Option(min=1, max=256, help="Connections to each address, so that no one replica gets all.")
    ] = 4,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for a request.")] = 300,
    caller: Annotated[str | None, typer.Option(help="Sent as x-caller-id.")] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            help="What every level must meet: p95=1200ms, mean=1s, max=5s, errors=0, errors=0.1%, rate=60/s. "
            "May be repeated.",
        ),
    ] = None,
    signals: Annotated[
        list[str] | None,
        typer.Option(
            help="Page to sample: /scaling or /metrics of an ingress, or that of a DCGM exporter. May be repeated.",
            metavar="URL",
        ),
    ] = None,
    kube_context: Annotated[
        str | None, typer.Option(help="Cluster in which to count replicas; needs --namespace.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace in which the services run.")] = None,
    release: Annotated[str | None, typer.Option(help="Helm release there, if there are several.")] = None,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between samples.")] = 1.0,
    pause: Annotated[float, typer.Option(min=0, max=3600, help="Seconds between levels.")] = 2.0,
    most_in_flight: Annotated[
        int, typer.Option(min=1, max=100_000, help="Open loop: requests due beyond it are counted, but not sent.")
    ] = 1000,
    give_up_after: Annotated[
        float, typer.Option(min=0.5, max=3600, help="Seconds without any answer after which the service is gone.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of the order of videos, and of Poisson arrivals.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the run.", file_okay=False, show_default="build/loadtest/TIME"),
    ] = None,
    report: Annotated[bool, typer.Option(help="Draw the report at the end.")] = True,
    ingresses: Annotated[int, typer.Option(min=1, max=64, help="Of --stack.")] = 1,
    encoders: Annotated[int, typer.Option(min=1, max=256, help="Of --stack.")] = 2,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="Of --stack.")] = 1,
    service_ms: Annotated[float, typer.Option(min=0, help="Of --stack: an encoder's time for 16 frames.")] = 22.6,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="Of --stack; a small one costs less CPU.")] = 384,
    max_videos: Annotated[
        int | None, typer.Option(min=1, max=256, help="Of --stack: videos in progress at an ingress.")
    ] = None,
) -> None:
    """Put the service under load, level after level, and write what was measured.

    Ends with 0; 3 if an objective was missed; 1 if the service cannot be reached, stops answering or answers nothing;
    2 for bad options; 130 after Ctrl-C. What was measured until then is written in any case.
    """
    try:
        if bool(addresses) == stack:
            raise BadOption("name the ADDRESS of a service, or start one with --stack")
        wanted = [*parse_videos(video or []), *parse_rendered(rendered)] or parse_videos(["sample://clip"])
        measurement = Measurement(
            plan=Plan(
                levels=parse_levels(concurrency, rate, arrivals),
                length=Length(duration, requests),
                pause_seconds=pause,
                most_in_flight=most_in_flight,
                sample_seconds=every,
                give_up_seconds=give_up_after,
                seed=seed,
            ),
            wanted=wanted,
            addresses=[_checked_address(address) for address in addresses or []],
            stack=StackOptions(ingresses, encoders, decoders, service_ms, image_size, max_videos),
            connections=connections,
            method=method,
            timeout_seconds=timeout,
            caller=caller,
            sources=_sources(signals or [], kube_context, namespace, release),
            objectives=[parse_objective(text) for text in slo or []],
            directory=new_directory(out),
        )
        place = None if stack else _uploader(wanted, upload)
    except BadOption as error:
        ending.misuse(str(error))
    take(measurement, place, report=report)


def take(measurement: Measurement, upload: Upload | None, *, report: bool) -> Run:
    """Measure, say what came of it, and end the process unless all is well."""
    from videoanalysis.stack.stack import StackError

    try:
        run = ending.run(measurement.take(Console(stderr=True), upload), StackError)
    finally:
        # Whatever ended it, this is what there is.
        if (measurement.directory / SUMMARY).exists():
            outcome.show(Run.read(measurement.directory), draw=report)
    if code := outcome.exit_code(run):
        raise typer.Exit(code)
    return run


def new_directory(out: Path | None) -> Path:
    """Raises BadOption if it holds a run already."""
    directory = out or Path("build/loadtest") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (directory / SUMMARY).exists():
        raise BadOption(f"--out: {directory} holds a run already; name another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(f"--out: {directory} cannot be made ({error.strerror})") from None
    return directory


def _checked_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadOption(f"ADDRESS: {address}, must be host:port")
    return address


def _sources(pages: Sequence[str], context: str | None, namespace: str | None, release: str | None) -> list[Source]:
    for url in pages:
        if not url.startswith(("http://", "https://")):
            raise BadOption(f"--signals: {url}, must be a URL such as http://ingress:9091/scaling")
    sources: list[Source] = [MetricsPages(list(pages))] if pages else []
    if namespace:
        from loadtest.target.cluster import Cluster, client_of

        try:
            sources.append(Cluster(client_of(context), namespace, release))
        except OSError as error:
            raise BadOption(str(error)) from None
    elif context or release:
        raise BadOption("--kube-context and --release: name the namespace of the services with --namespace")
    return sources


def _uploader(wanted: Sequence[Wanted], target: str | None) -> Upload | None:
    """Puts files where --upload says; raises BadOption if there are some, but no --upload."""
    if target is None:
        if all(one.uri for one in wanted):
            return None
        raise BadOption("--render and files: say where the service can read them with --upload s3://bucket/prefix")
    prefix = target.rstrip("/")
    objects.s3_uri(f"{prefix}/clip.mp4", "--upload")

    async def upload(path: Path) -> str:
        uri = f"{prefix}/{path.name}"
        # One request of a file that is read while it is sent.
        with path.open("rb") as file:
            await objects.put(objects.s3_uri(uri, "--upload"), file)
        return uri

    return upload
