"""Explanations as text for a terminal and as JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from videoanalysis.scaling.explanation import Explanation
from videoanalysis.scaling.finding import Finding
from videoanalysis.scaling.snapshot import Snapshot


def show(console: Console, snapshot: Snapshot, explanations: Sequence[Explanation]) -> None:
    where = f"release {snapshot.release} in namespace {snapshot.namespace}, {snapshot.at:%H:%M:%S %Z}"
    console.print(Text(where, "dim"), highlight=False)
    for explanation in explanations:
        console.print()
        console.print(_headline(explanation), highlight=False)
        lines = Table.grid(padding=(0, 1, 0, 0))
        for finding in explanation.findings:
            lines.add_row(Text("  !", "bold red") if finding.is_wrong else Text("  ·", "dim"), _statement(finding))
        lines.add_row(Text("  →", "bold"), Text(explanation.next, "bold"))
        console.print(lines, highlight=False)


def as_json(snapshot: Snapshot, explanations: Sequence[Explanation]) -> str:
    answer: dict[str, Any] = {
        "at": snapshot.at.isoformat(),
        "namespace": snapshot.namespace,
        "release": snapshot.release,
        "healthy": all(explanation.is_healthy for explanation in explanations),
        "ingresses": [asdict(gauges) for gauges in snapshot.gauges],
        "services": [asdict(explanation) | {"healthy": explanation.is_healthy} for explanation in explanations],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False)


def _headline(explanation: Explanation) -> Text:
    limits = ""
    if explanation.max_replicas is not None:
        limits = f", scaled from {explanation.min_replicas} to {explanation.max_replicas}"
    return Text.assemble(
        (explanation.service, "bold" if explanation.is_healthy else "bold red"),
        f"   {explanation.ready} of {explanation.replicas} ready",
        (limits, "dim"),
    )


def _statement(finding: Finding) -> Text:
    return Text.assemble(finding.text, (f" {finding.remedy}" if finding.remedy else "", "dim"))
