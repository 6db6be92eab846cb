"""Options that several commands have."""

from typing import Annotated, Literal

import typer

from videoanalysis.cli import ending
from videoanalysis.stack import default_model

Model = Annotated[
    str | None,
    typer.Option(help="SigLIP checkpoint: a directory or a Hugging Face hub id.", show_default=default_model.NAME),
]
Engine = Annotated[
    Literal["siglip", "synthetic"], typer.Option(help="synthetic makes embeddings up and needs no model.")
]


def check_model(model: str | None, engine: str) -> None:
    if model is not None and engine == "synthetic":
        ending.misuse("--model: the synthetic engine has none")
