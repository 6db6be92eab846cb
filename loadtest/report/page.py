"""A run as one HTML page that loads nothing, and its charts as PNG files beside it."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtest.report import comparison
from loadtest.sweep.record import STAGES, BadRun
from loadtest.sweep.run import Run
from loadtest.sweep.slo import figure
from videoanalysis.cli import ending
from videoanalysis.report.markup import Markup, element

_PAGE = "report.html"
_DPI = 144
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HEADINGS = {
    "Throughput": ["throughput"],
    "Latency": [
        "latency_by_level",
        "latency_against_throughput",
        "latency_histograms",
        "latency_percentiles",
        "latency_over_time",
    ],
    "Where the time goes": ["stages", "stage_shares"],
    "On one time axis": ["beside"],
    "Failures": ["errors"],
}

Level = dict[str, Any]


def command(
    run: Annotated[Path, typer.Argument(help="Directory that a sweep wrote.", file_okay=False)],
    against: Annotated[Path | None, typer.Option(help="An earlier run to lay beside it.", file_okay=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the page and the PNGs.", file_okay=False, show_default="RUN")
    ] = None,
) -> None:
    """Draw a run: one HTML page that loads nothing, and each chart as PNG."""
    try:
        page = write(Run.read(run), Run.read(against) if against else None, out)
    except (BadRun, OSError) as error:
        ending.fail(str(error))
    typer.echo(f"Written: {page}")


def write(run: Run, earlier: Run | None = None, directory: Path | None = None) -> Path:
    """Every chart that the run has something for, and the page, which is returned."""
    # Takes long to import.
    from loadtest.report import charts

    directory = directory or run.directory
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, bytes] = {}
    with charts.style():
        for name, chart in charts.ALL.items():
            if (figure := chart(run, earlier)) is not None:
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=_DPI)
                pictures[name] = buffer.getvalue()
                (directory / f"{name}.png").write_bytes(pictures[name])
    page = directory / _PAGE
    page.write_text(render(run, earlier, pictures), encoding="utf-8")
    return page


def render(run: Run, earlier: Run | None, pictures: dict[str, bytes]) -> str:
    """The page; `pictures` are PNGs by the name of their chart."""
    body = [
        _header(run, earlier),
        _section("In short", _in_short(run), _objectives(run)),
        _section("Levels", _levels(run), *_remarks(run)),
    ]
    if any(level["kind"] == "closed" for level in run.levels):
        body.append(
            _section("Beside the original's load test", _beside_original(run), *_notes(comparison.caveats(run)))
        )
    if earlier is not None:
        body.append(_section("Against the earlier run", _against(run, earlier)))
    for heading, names in _HEADINGS.items():
        shown = [_picture(name, pictures[name]) for name in names if name in pictures]
        match heading:
            case "Latency":
                shown.append(_by_video(run))
            case "Where the time goes":
                shown.append(_stages(run))
            case "On one time axis":
                shown.append(_beside(run))
            case "Failures":
                shown.append(_errors(run))
        if any(shown):
            body.append(_section(heading, *shown))
    body += [_section("Cost", _cost(run)), _section("How it was measured", _method(run))]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"Load test, {run.summary['started_at']}"),
        element("style", Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))),
    ]
    page = element("html", element("head", *head), element("body", element("main", *body)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _header(run: Run, earlier: Run | None) -> Markup:
    warnings = []
    if run.summary["ending"] != "complete":
        warnings.append(f"This is a part of the run: {run.summary['ending']}.")
    if run.summary["model"].get("engine") == "synthetic":
        warnings.append("The GPU is simulated: encoders take a given time and make embeddings up.")
    warnings += run.summary["notes"]
    addresses = ", ".join(run.summary["target"]["addresses"])
    earlier_one = f", against {earlier.summary['started_at']}" if earlier else ""
    return element(
        "header",
        element("p", "Load test", class_="kind"),
        element("h1", "A stack on one machine" if run.summary["stack"] else addresses),
        element("p", f"{run.summary['started_at']}{earlier_one}", class_="note"),
        *(element("p", warning, class_="warning") for warning in warnings),
    )


def _in_short(run: Run) -> Markup:
    levels = [level for level in run.levels if level["kept"]]
    if not levels:
        return element("p", "Nothing was answered.")
    best_rate = max(levels, key=lambda level: float(level["rate"]))
    best_p95 = min(levels, key=lambda level: float(level["latency_ms"]["p95"]))
    sent = sum(level["requests"] for level in run.levels)
    failed = sum(level["failed"] for level in run.levels)
    facts = {
        "requests": f"{sent:,}",
        "failed": f"{failed:,}",
        "best throughput": f"{best_rate['rate']:.2f} /s at {best_rate['level']}",
        "best P95": f"{best_p95['latency_ms']['p95']:,.0f} ms at {best_p95['level']}",
    }
    entries = (element("div", element("dt", name), element("dd", value)) for name, value in facts.items())
    return element("dl", *entries, class_="facts")


def _objectives(run: Run) -> Markup:
    """A row for each, a column for each level."""
    verdicts = {(one["objective"], one["level"]): one for one in run.summary["objectives"]}
    levels = [level["level"] for level in run.levels]
    rows = []
    for objective in dict.fromkeys(objective for objective, _ in verdicts):
        of_levels = [verdicts[objective, level] for level in levels]
        rows.append(
            [objective, *(f"{figure(one['value'])} {'met' if one['is_met'] else 'MISSED'}" for one in of_levels)]
        )
    return _table(["objective", *levels], rows)


def _levels(run: Run) -> Markup:
    columns = ["level", "sent", "success", "warm-up", "kept", "offered /s", "rate /s", "mean ms", "± 95 %"]
    columns += ["P50", "P90", "P95", "P99", "P99.9", "max ms", "steady"]
    rows = []
    for level in run.levels:
        latency = level["latency_ms"]
        sent, failed = level["requests"], level["failed"]
        rows.append(
            [
                level["level"],
                f"{sent:,}",
                f"{(sent - failed) / sent:.2%}" if sent else "",
                f"{level['steady_state']['warm_up_requests']:,}",
                f"{level['kept']:,}",
                f"{level['offered_rate']:.2f}",
                f"{level['rate']:.2f}",
                _ms(latency.get("mean")),
                _ms(level["mean_confidence_ms"]),
                *(_ms(latency.get(name)) for name in ("p50", "p90", "p95", "p99")),
                # Of fewer answers it is one of them.
                _ms(latency.get("p99.9")) if level["kept"] >= 1000 else "",
                _ms(latency.get("max")),
                "yes" if level["steady_state"]["is_steady"] else "no",
            ]
        )
    return _table(columns, rows)


def _remarks(run: Run) -> Iterable[Markup]:
    for level in run.levels:
        if remark := level["steady_state"]["remark"]:
            yield element("p", f"{level['level']}: {remark}.", class_="warning")


def _beside_original(run: Run) -> Markup:
    lines = comparison.lines(run)
    ours = [number for number, line in enumerate(lines) if line.is_ours]
    return _table([*comparison.COLUMNS, *comparison.OWN_COLUMNS], [line.cells for line in lines], ours)


def _notes(texts: Iterable[str]) -> Iterable[Markup]:
    return (element("p", text, class_="note") for text in texts)


def _against(run: Run, earlier: Run) -> Markup:
    before = {level["level"]: level for level in earlier.levels}
    rows = []
    for level in run.levels:
        if (old := before.get(level["level"])) is None or not (old["kept"] and level["kept"]):
            continue
        pairs = [(old["rate"], level["rate"], "{:.2f}")]
        pairs += [
            (old["latency_ms"][name], level["latency_ms"][name], "{:,.0f}") for name in ("mean", "p50", "p95", "p99")
        ]
        cells = [f"{shape.format(was)} → {shape.format(now)} ({now / was - 1:+.1%})" for was, now, shape in pairs]
        rows.append([level["level"], *cells, f"{old['failed']:,} → {level['failed']:,}"])
    if not rows:
        return element("p", "The two have no level in common.", class_="note")
    return _table(["level", "rate /s", "mean ms", "P50", "P95", "P99", "failed"], rows)


def _by_video(run: Run) -> Markup:
    rows = [
        [level["level"], video, f"{of['chunks']}", f"{of['kept']:,}", *(_ms(of[name]) for name in _SHOWN)]
        for level in run.levels
        for video, of in level["by_video"].items()
    ]
    if len(run.summary["videos"]) < 2:
        return Markup()
    return _table(["level", "video", "chunks", "kept", *(name.upper() for name in _SHOWN)], rows)


_SHOWN = ("mean", "p50", "p95", "p99", "max")


def _stages(run: Run) -> Markup:
    columns = ["level", *(f"{stage} {phase}" for stage in STAGES for phase in ("queue", "work")), "unattributed"]
    columns += ["service, total", "outside"]
    rows = []
    for level in run.levels:
        if means := level["stages_ms"]:
            names = [f"{stage}_{phase}" for stage in STAGES for phase in ("queue", "compute")]
            values = [means[name] for name in [*names, "unattributed", "server_total", "outside"]]
            rows.append([level["level"], *(f"{value:,.1f}" for value in values)])
    return _table(columns, rows)


def _beside(run: Run) -> Markup:
    series = sorted({name for level in run.levels for name in level["beside"]})
    rows = []
    for name in series:
        cells = [level["beside"].get(name) for level in run.levels]
        rows.append([name, *("" if cell is None else f"{cell['mean']:.3g} (max {cell['max']:.3g})" for cell in cells)])
    return _table(["mean in the steady state", *(level["level"] for level in run.levels)], rows)


def _errors(run: Run) -> Markup:
    rows = [
        [level["level"], error["status"], error["reason"], f"{error['count']:,}", error["example"]]
        for level in run.levels
        for error in level["errors"]
    ]
    return _table(["level", "status", "reason", "count", "for example"], rows)


def _cost(run: Run) -> Markup:
    rows = []
    for level in run.levels:
        cost = level["cost"]
        gpu, cpu = cost["accelerator_seconds_per_video_minute"], cost["cpu_seconds_per_video_minute"]
        minutes = cost["video_minutes"]
        rows.append(
            [
                level["level"],
                f"{minutes:,.1f}",
                "" if gpu is None else f"{gpu:.3f}",
                "" if gpu is None else f"{gpu * 1000 / 3600:.3f}",
                "" if cpu is None else f"{cpu:.3f}",
                *(
                    f"{cost['cpu_seconds'][name] / minutes:.3f}" if minutes and name in cost["cpu_seconds"] else ""
                    for name in ("ingress", "encoder", "decoder")
                ),
            ]
        )
    columns = ["level", "video-minutes", "GPU-s per video-minute", "GPU-h per 1,000 video-minutes"]
    columns += ["CPU-s per video-minute", "of ingress", "of encoder", "of decoder"]
    return _table(columns, rows)


def _method(run: Run) -> Markup:
    summary = run.summary
    target, machine, model = summary["target"], summary["machine"], summary["model"]
    kinds = {level["kind"] for level in run.levels}
    loops = []
    if "closed" in kinds:
        loops.append("closed loop: each caller sends its next request once it has its answer")
    if "open" in kinds:
        loops.append(
            "open loop: requests come at their own times, and latency counts from when each was due (no coordinated "
            "omission)"
        )
    facts = {
        "load": "; ".join(loops),
        "videos": "; ".join(
            f"{video['name']} ({video['seconds']:.1f} s, {video['chunks']} chunks, weight {video['weight']:g})"
            for video in summary["videos"]
        ),
        "calls": f"{target['method']}, {target['connections']} connections to each address, nothing tried again, "
        f"{target['timeout_seconds']:g} s each",
        "warm-up": run.levels[0]["steady_state"]["method"] if run.levels else "",
        "kept": "latencies of requests due in the steady state; the rate is of answers that came in it; failures are "
        "of the whole level",
        "latency": "HDR histogram, three significant digits; the histograms are in summary.json",
        "model": f"{model.get('model_id', '')} {model.get('digest', '')} {model.get('device', '')}",
        "stack": ", ".join(f"{name} {value}" for name, value in (summary["stack"] or {}).items() if value is not None),
        "load came from": ", ".join(f"{name} {value}" for name, value in machine.items()),
        "command": " ".join(summary["command"]),
    }
    entries = (element("div", element("dt", name), element("dd", value)) for name, value in facts.items() if value)
    return element("dl", *entries, class_="method")


def _picture(name: str, data: bytes) -> Markup:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return element("img", src=source, alt=name.replace("_", " "))


def _section(heading: str, *content: str) -> Markup:
    return element("section", element("h2", heading), *content)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], emphasised: Sequence[int] = ()) -> Markup:
    if not rows:
        return Markup()
    # Words stand on the left, figures on the right.
    looks = [None if any(row[index][:1].isdigit() for row in rows) else "words" for index in range(len(columns))]
    headers = (element("th", column, scope="col", class_=look) for column, look in zip(columns, looks, strict=True))
    head = element("thead", element("tr", *headers))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, class_=look) for cell, look in zip(row[1:], looks[1:], strict=True)),
            class_="ours" if number in emphasised else None,
        )
        for number, row in enumerate(rows)
    ]
    return element("div", element("table", head, element("tbody", *body)), class_="scroller")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
