"""`videoanalysis up`: the services and an S3 server on this machine."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from videoanalysis.atomic_write import write_whole
from videoanalysis.cli import ending, options, terminal
from videoanalysis.stack import default_model

if TYPE_CHECKING:
    # What takes long to import, or is not installed with the client, is imported by the commands that need it.
    from videoanalysis.stack.stack import Stack

_Replicas = Annotated[int, typer.Option(min=1, max=64, help="Processes of this service.")]


def up(
    model: options.Model = None,
    engine: options.Engine = "siglip",
    encoders: _Replicas = 1,
    decoders: _Replicas = 1,
    ingresses: _Replicas = 1,
    state: Annotated[
        Path | None,
        typer.Option(help="Write addresses and process ids to this file, as JSON, once all is ready.", dir_okay=False),
    ] = None,
) -> None:
    """Run the services and an S3 server on this machine, until Ctrl-C or SIGTERM.

    The services take their settings, INGRESS_…, ENCODER_… and DECODER_…, from the environment.
    """
    options.check_model(model, engine)
    if state is not None and not state.absolute().parent.is_dir():
        ending.misuse(f"--state: there is no directory {state.parent}")
    with ending.extra("stack"):
        from videoanalysis.stack.stack import Stack, StackError

    async def run() -> None:
        async with AsyncExitStack() as leaving:
            with terminal.Activity(Console(stderr=True)) as activity:
                stack = Stack(
                    model=model,
                    engine=engine,
                    encoders=encoders,
                    decoders=decoders,
                    ingresses=ingresses,
                    on_step=activity.say,
                )
                await leaving.enter_async_context(stack)
            if state is None:
                typer.echo(_how_to_call(stack))
            else:
                leaving.callback(state.unlink, missing_ok=True)
                write_whole(state, json.dumps(_state(stack), indent=2).encode())
            await stack.guard(asyncio.Event().wait())

    # By SIGTERM a supervisor ends what has done its work.
    ending.run(run(), StackError, exit_code_of_sigterm=0)


def _state(stack: "Stack") -> dict[str, object]:
    services: dict[str, object] = {
        kind: [{"address": child.address, "pid": child.pid} for child in children]
        for kind, children in stack.services.items()
    }
    return {"address": stack.address, "s3_endpoint": stack.s3_endpoint, **services}


def _how_to_call(stack: "Stack") -> str:
    from videoanalysis.stack.stack import BUCKET, CREDENTIALS, REGION

    access_key, secret = CREDENTIALS
    paragraphs = [
        f"Listening on {stack.address}, until Ctrl-C.",
        default_model.caveat(stack.model) or f"The model is {stack.model.model_id}.",
        "The clip that the service carries:",
        f"  videoanalysis analyze sample://clip --address {stack.address}",
        "A video of yours, by way of the S3 server beside it:",
        f"  export AWS_ENDPOINT_URL={stack.s3_endpoint} AWS_DEFAULT_REGION={REGION}\n"
        f"  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}\n"
        f"  videoanalysis analyze VIDEO --address {stack.address} --upload s3://{BUCKET}/videos/VIDEO",
    ]
    return "\n\n".join(paragraphs)
