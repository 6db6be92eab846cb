"""`videoanalysis download-samples`: fills a bucket with normalised sample videos from Pexels."""

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from videoanalysis.cli import runner, s3
from videoanalysis.cli.failure import Failure

if TYPE_CHECKING:
    from videoanalysis.samples.download import Samples

_KEY = "PEXELS_API_KEY"


def download_samples(
    destination: Annotated[str, typer.Argument(metavar="S3_PREFIX", help="Such as s3://bucket/stock-videos/.")],
    total: Annotated[int, typer.Option(min=1, max=500, help="Number of videos.")] = 20,
    per_query: Annotated[int, typer.Option(min=1, max=50, help="Videos of each of the 20 searches.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Download although there is a manifest already.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Base URL of the Pexels video API.", show_default="https://api.pexels.com/videos")
    ] = None,
) -> None:
    """Download sample videos from Pexels (PEXELS_API_KEY), normalise them and upload them, with a manifest."""
    prefix = s3.parse_uri(destination.rstrip("/") + "/" + "manifest.json", "S3_PREFIX")
    with runner.require_extra("ingress"):
        from videoanalysis.samples.catalogue import BASE_URL
        from videoanalysis.samples.download import download_samples
        from videoanalysis.storage import S3Uri, Storage
    if not (key := os.environ.get(_KEY, "")):
        runner.usage_error(f"{_KEY}: set it to a key of the Pexels API (https://www.pexels.com/api/)")
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()

    async def run() -> "Samples":
        with Progress(*columns, console=console, disable=not console.is_interactive) as bar:
            task = bar.add_task("searching", total=None)

            def show(done: int, videos: int, text: str) -> None:
                bar.update(task, description=text, completed=done, total=videos)
                if not console.is_interactive:
                    console.print(f"{done} of {videos}: {text}", markup=False, highlight=False)

            async with Storage.open() as storage:
                return await download_samples(
                    storage,
                    S3Uri(prefix.bucket, prefix.key.removesuffix("manifest.json")),
                    key,
                    total=total,
                    per_query=per_query,
                    overwrite=overwrite,
                    base_url=base_url or BASE_URL,
                    on_progress=show,
                )

    samples = runner.run(run())
    if samples.is_reused:
        typer.echo(f"{prefix} is there already; --overwrite downloads again", err=True)
    for failure in samples.failures:
        typer.echo(f"skipped: {failure}", err=True)
    for video in samples.manifest["videos"]:
        typer.echo(video["s3_uri"])
    if not samples.manifest["videos"]:
        raise Failure("no video was stored")
