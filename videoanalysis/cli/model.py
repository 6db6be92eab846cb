"""`videoanalysis model`: check what turns pictures and texts into embeddings."""

import os
import sys
from typing import Annotated, Literal

import typer

from videoanalysis.cli import ending
from videoanalysis.stack import checkout

app = typer.Typer(no_args_is_help=True, help="Check what turns pictures and texts into embeddings.")


@app.command("verify")
def verify(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A directory or a Hugging Face hub id.", show_default=False)
    ],
    revision: Annotated[str | None, typer.Option(help="Commit of the hub id.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Number format of the computation.")
    ] = "auto",
) -> None:
    """Check that a SigLIP checkpoint is served as it was trained.

    Tokenizer, preparation of pictures, embeddings, text padding, scale and bias: each compared with
    transformers itself. Needs memory for the model twice. Exits with 1 if a check failed, with 2 if the model cannot be
    loaded.
    """
    if problem := checkout.problem():
        ending.fail(problem)
    options = ["--device", device, "--precision", precision, *(["--revision", revision] if revision else [])]
    # In place of this process, so that signals and the exit code are the check's; not from the directory of the
    # services, so that MODEL means what it means here.
    program = [sys.executable, "-P", "-m", "services.encoder.verify", *options, "--", model]
    path = os.pathsep.join([str(checkout.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execve(program[0], program, {**os.environ, "PYTHONPATH": path})
