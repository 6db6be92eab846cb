"""Prints a text bank, and what another one would change, for people and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from videoanalysis.formatting import clock, count
from videoanalysis.text_bank.evaluation import Change
from videoanalysis.text_bank.format import TextBank


def show(console: Console, bank: TextBank) -> None:
    """Print the origin of the bank, then its texts."""
    origin = Table.grid(padding=(0, 3, 0, 0))
    origin.add_column(style="dim")
    origin.add_column(overflow="fold")
    origin.add_row("name", Text(bank.name, "bold"))
    origin.add_row("digest", bank.digest)
    origin.add_row("model", bank.model_digest)
    origin.add_row("template", Text(bank.template))
    origin.add_row("created", bank.created_at)
    console.print(origin, highlight=False)
    texts = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    texts.add_column(f"{len(bank.tags)} tags")
    texts.add_column(f"{len(bank.descriptions)} descriptions")
    tags = _limited(bank.tags, bank.tag_min_probabilities)
    descriptions = _limited(bank.descriptions, bank.description_min_probabilities)
    for tag, description in zip_longest(tags, descriptions, fillvalue=""):
        texts.add_row(Text(tag), Text(description))
    console.print("", texts, highlight=False)


def as_json(bank: TextBank) -> str:
    """Everything except the embeddings."""
    document = {
        "name": bank.name,
        "digest": bank.digest,
        "model_digest": bank.model_digest,
        "template": bank.template,
        "created_at": bank.created_at,
        "embedding_dim": bank.embedding_dim,
        "tags": bank.tags,
        "descriptions": bank.descriptions,
        "tag_min_probabilities": _numbers(bank.tag_min_probabilities),
        "description_min_probabilities": _numbers(bank.description_min_probabilities),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def show_changes(changes: Sequence[Change]) -> None:
    """A line for each result that changes, then one for each of its scenes that do, then their number."""
    for change in changes:
        if not change.is_any:
            continue
        before, after = change.video
        of_video = before.change(after) or "tags and caption of the video stay"
        typer.echo(
            f"{change.name}: {of_video}; {len(change.scenes)} of {count(change.scene_count, 'scene')} would change"
        )
        for start, end, before, after in change.scenes:
            typer.echo(f"  {clock(start)} – {clock(end)}: {before.change(after)}")
    typer.echo(f"{sum(change.is_any for change in changes)} of {count(len(changes), 'result')} would change")


def changes_as_json(changes: Sequence[Change]) -> str:
    document = [
        {
            "result": change.name,
            "changes": change.is_any,
            "video": [asdict(answer) for answer in change.video],
            "scenes": [
                {"start_seconds": start, "end_seconds": end, "before": asdict(before), "after": asdict(after)}
                for start, end, before, after in change.scenes
            ],
            "scene_count": change.scene_count,
        }
        for change in changes
    ]
    return json.dumps(document, indent=2, ensure_ascii=False)


def _limited(texts: Sequence[str], min_probabilities: NDArray[np.float64] | None) -> list[str]:
    """As in the files that banks are built from."""
    limits = _numbers(min_probabilities) or [0.0] * len(texts)
    return [f"{text} >= {limit:g}" if limit else text for text, limit in zip(texts, limits, strict=True)]


def _numbers(min_probabilities: NDArray[np.float64] | None) -> list[float] | None:
    return None if min_probabilities is None else min_probabilities.tolist()
