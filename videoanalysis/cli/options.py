"""Options that several commands share."""

from typing import Annotated, Literal

import typer

from videoanalysis.cli import runner
from videoanalysis.stack import bundled_model

Model = Annotated[
    str | None,
    typer.Option(help="SigLIP checkpoint: a directory or a Hugging Face hub id.", show_default=bundled_model.NAME),
]
Engine = Annotated[
    Literal["siglip", "synthetic"],
    typer.Option(help="synthetic returns made-up embeddings and needs no model: for load tests."),
]


def check_model(model: str | None, engine: str) -> None:
    if model is not None and engine == "synthetic":
        runner.usage_error("--model: the synthetic engine has none; leave out one of the two")
