"""`videoanalysis selftest`: analyses a clip of its own, and hostile files, with a service or a stack started for it."""

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from videoanalysis.cli import options, runner, s3, selftest_table, terminal
from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.client import AsyncClient

if TYPE_CHECKING:
    from videoanalysis.selftest.trial import Result, Trial
    from videoanalysis.storage import S3Uri

# On the disk of every ingress: a video that a playlist must not bring in.
_VIDEO_OF_THE_IMAGE = "/app/services/ingress/sources/sample_clip.mp4"


def selftest(
    hostile: Annotated[bool, typer.Option("--hostile", help="Send hostile media too, some 700 small files.")] = False,
    address: options.Address = None,
    upload: Annotated[
        str | None,
        typer.Option(
            help="Upload the files under this s3://bucket/prefix, with the AWS settings of the environment; with "
            "--address. They stay there and are overwritten by the next test."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the positions at which clips are damaged.")] = 1,
    only: Annotated[str, typer.Option(help="Only attacks whose family or file name contains this text.")] = "",
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds in which each file must be answered.")] = 300,
    output: options.Output = "table",
    quiet: options.Quiet = False,
) -> None:
    """Check that a service analyses an ordinary video, and that hostile files do it no harm.

    Each file must end with OK, INVALID_ARGUMENT or FAILED_PRECONDITION; nothing that it names may be opened or
    contacted; and after each family of attacks the ordinary video must give the same result as before. Otherwise the
    exit code is 1. With a local stack the test also sees the memory used, and whether a file was opened.
    """
    if (address is None) != (upload is None):
        runner.usage_error("--address and --upload go together")
    prefix = s3.parse_uri(upload.rstrip("/"), "--upload") if upload is not None else None
    credentials, token = options.credentials(tls, ca, cert, key), options.token(token_file)
    results: list[Result] = []
    activity = terminal.activity(quiet=quiet, for_program=output == "json")

    async def run() -> None:
        from videoanalysis.selftest.corpus import corpus
        from videoanalysis.selftest.trial import Trial

        async def sent(trial: Trial, file: str) -> None:
            def add(result: "Result") -> None:
                results.append(result)
                activity.show_step(f"{len(results)}: {result.attack.family}, {result.attack.name}")

            trial.on_result, trial.seconds = add, timeout
            attacks = corpus(file, trial.address.address, seed) if hostile else iter(())
            results[:] = await trial.run(a for a in attacks if only in a.family or only in a.name)

        async with AsyncExitStack() as entered:
            entered.enter_context(activity)
            if address is not None and prefix is not None:
                service = AsyncClient(address, credentials=credentials, token=token, retry_timeout_seconds=0)
                await sent(await _remote(entered, service, address, prefix), _VIDEO_OF_THE_IMAGE)
                return
            from videoanalysis.selftest import local

            stack = await entered.enter_async_context(Stack(engine="synthetic", on_step=activity.show_step))
            trial = await entered.enter_async_context(local.trial(stack))
            assert trial.file is not None
            await stack.guard(sent(trial, str(trial.file.path)))

    expected: tuple[type[Exception], ...] = ()
    if address is None:
        with runner.require_stack("; or name a running service with --address and --upload"):
            from videoanalysis.stack.stack import Stack, StackError
        expected = (StackError,)
    with runner.require_extra("ingress"):
        import av  # noqa: F401  # makes the files
    try:
        runner.run(run(), expected)
    finally:
        if output == "json":
            typer.echo(json.dumps([_fields(result) for result in results], indent=1))
        else:
            selftest_table.show(terminal.Output(), results)
    if any(result.faults for result in results):
        raise typer.Exit(ExitCode.FAILED)


async def _remote(entered: AsyncExitStack, service: AsyncClient, address: str, prefix: "S3Uri") -> "Trial":
    from videoanalysis.selftest import canaries
    from videoanalysis.selftest.trial import Trial
    from videoanalysis.storage import S3Uri

    async def put(name: str, content: bytes) -> str:
        uri = S3Uri(prefix.bucket, f"{prefix.key}/{name}")
        await s3.put(uri, content)
        return str(uri)

    canary = await entered.enter_async_context(canaries.listening(canaries.host_towards(address)))
    return Trial(service=await entered.enter_async_context(service), upload=put, address=canary)


def _fields(result: "Result") -> dict[str, object]:
    return {
        "family": result.attack.family,
        "file": result.attack.name,
        "bytes": len(result.attack.content),
        "status": result.status,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "peak_bytes": result.peak_bytes,
        "faults": list(result.faults),
    }
