"""`videoanalysis model`: checks SigLIP checkpoints and prepares them for encoders."""

import os
import sys
from typing import Annotated, Literal, NoReturn

import typer

from videoanalysis.cli.command import CONTEXT, Command
from videoanalysis.cli.failure import Failure
from videoanalysis.stack import source_tree

app = typer.Typer(
    no_args_is_help=True,
    context_settings=CONTEXT,
    help="Check SigLIP checkpoints and prepare them for encoders.",
)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A directory or a Hugging Face hub id.", show_default=False)
]
Revision = Annotated[str | None, typer.Option(help="Commit of the hub id.")]


@app.command("verify", cls=Command)
def verify(
    model: Model,
    revision: Revision = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Number format of the computation.")
    ] = "auto",
) -> None:
    """Check that the encoder computes what transformers computes for a SigLIP checkpoint.

    Compares tokenizer, image preprocessing, embeddings, text padding, scale and bias. Needs memory for the model
    twice. Exits with 1 if a check failed, with 2 if the model cannot be loaded.
    """
    _run("verify", [*_given("--revision", revision), "--device", device, "--precision", precision], [model])


@app.command("prepare", cls=Command)
def prepare(
    model: Model,
    directory: Annotated[
        str, typer.Argument(metavar="DIRECTORY", help="Where the prepared model goes.", show_default=False)
    ],
    revision: Revision = None,
    digest: Annotated[str | None, typer.Option(help="Expected digest of MODEL, sha256:….")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a prepared model in DIRECTORY.")] = False,
) -> None:
    """Convert a SigLIP checkpoint once, so that encoders start faster and with less memory.

    DIRECTORY then holds the two towers in bfloat16, a file each, with configuration and tokenizer; name it as the
    encoder's model. Its digest, which is printed, is that of MODEL. Exits with 1 if that is not --digest, with 2 if
    MODEL cannot be read or DIRECTORY not be written.
    """
    flag = ["--overwrite"] if overwrite else []
    _run("prepare", [*_given("--revision", revision), *_given("--digest", digest), *flag], [model, directory])


def _given(option: str, value: str | None) -> list[str]:
    return [] if value is None else [option, value]


def _run(module: str, options: list[str], arguments: list[str]) -> NoReturn:
    """Replaces this process, so that signals and the exit code are those of the module."""
    if problem := source_tree.missing_services():
        raise Failure(problem)
    # The working directory stays, so that a relative directory is found.
    program = [sys.executable, "-P", "-m", f"services.encoder.{module}", *options, "--", *arguments]
    path = os.pathsep.join([str(source_tree.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execve(program[0], program, {**os.environ, "PYTHONPATH": path})
