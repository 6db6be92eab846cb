"""`videoanalysis list-banks`: the text banks of a service."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from videoanalysis import client
from videoanalysis.cli import options, service, terminal
from videoanalysis.client import AsyncClient
from videoanalysis.formatting import short_digest
from videoanalysis.video_analysis import TextBank


def list_banks(
    address: options.Address = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    output: options.Output = "table",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.LIST_SECONDS,
    quiet: options.Quiet = False,
    model: options.Model = None,
    engine: options.Engine = "siglip",
) -> None:
    """List the text banks that --text-bank can name."""
    target = service.locate(
        address,
        tls=tls,
        ca=ca,
        cert=cert,
        key=key,
        token_file=token_file,
        model=model,
        engine=engine,
        activity=terminal.activity(quiet=quiet, for_program=output == "json"),
    )

    async def call(caller: AsyncClient) -> list[TextBank]:
        with service.errors_named(target.address):
            return await caller.list_banks(timeout_seconds=timeout)

    banks = target.run(call)
    if output == "json":
        typer.echo(json.dumps([asdict(bank) for bank in banks], indent=2))
    else:
        terminal.Output().print(_table(banks) if banks else Text("no text bank", "dim"), highlight=False)


def _table(banks: list[TextBank]) -> Table:
    table = terminal.table_of("name", "tags", "descriptions")
    for column in ("created", "model"):
        table.add_column(column)
    for bank in banks:
        counts = f"{bank.tag_count:,}", f"{bank.description_count:,}"
        table.add_row(Text(bank.name, "bold"), *counts, bank.created_at[:10], short_digest(bank.model_digest))
    return table
