"""`videoanalysis model`: checks SigLIP checkpoints."""

import os
import sys
from typing import Annotated, Literal

import typer

from videoanalysis.cli import options, runner
from videoanalysis.stack import source_tree

app = typer.Typer(no_args_is_help=True, help="Check SigLIP checkpoints.")


@app.command("verify", cls=options.Command)
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
    """Check that the encoder computes what transformers computes for a SigLIP checkpoint.

    Compares tokenizer, image preprocessing, embeddings, text padding, scale and bias. Needs memory for the model
    twice. Exits with 1 if a check failed, with 2 if the model cannot be loaded.
    """
    if problem := source_tree.missing_services():
        runner.fail(problem)
    options = ["--device", device, "--precision", precision, *(["--revision", revision] if revision else [])]
    # Replaces this process, so that signals and the exit code are those of the check. The working directory stays, so
    # that a relative MODEL is found.
    program = [sys.executable, "-P", "-m", "services.encoder.verify", *options, "--", model]
    path = os.pathsep.join([str(source_tree.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execve(program[0], program, {**os.environ, "PYTHONPATH": path})
