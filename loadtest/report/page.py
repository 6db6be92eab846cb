"""The report of a run: one HTML page that loads nothing, and its charts as PNG files next to it."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from loadtest.baseline import comparison
from loadtest.sweep.record import STAGES
from loadtest.sweep.run import Run
from loadtest.sweep.slo import figure
from videoanalysis.scaling.snapshot import SERVICES

_PAGE = "report.html"
_TEMPLATE = "page.html.j2"
_DPI = 144
_LATENCIES = ("mean", "p50", "p95", "p99", "max")
# With fewer answers P99.9 is the maximum.
_P999_ANSWERS = 1000


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    emphasised: Sequence[int] = ()

    def look(self, column: int) -> Markup:
        """Text is aligned to the left, figures to the right."""
        is_text = not any(row[column][:1].isdigit() for row in self.rows)
        return Markup(' class="text"') if is_text else Markup()


@dataclass(frozen=True, slots=True)
class Section:
    heading: str
    tables: Sequence[Table] = ()
    charts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    facts_class: str = "facts"

    def has_content(self, pictures: Mapping[str, bytes]) -> bool:
        has_chart = any(name in pictures for name in self.charts)
        return has_chart or any(table.rows for table in self.tables) or bool(self.facts or self.warnings or self.notes)


def write(run: Run, earlier: Run | None = None, directory: Path | None = None) -> Path:
    """Write every chart for which the run has data, and the page, which is returned."""
    # matplotlib is slow to import.
    from loadtest.report import charts

    directory = directory or run.directory
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, bytes] = {}
    with charts.style():
        for name, chart in charts.ALL.items():
            if (drawn := chart(run)) is not None:
                buffer = io.BytesIO()
                drawn.savefig(buffer, format="png", dpi=_DPI)
                pictures[name] = buffer.getvalue()
                (directory / f"{name}.png").write_bytes(pictures[name])
    page = directory / _PAGE
    page.write_text(render(run, earlier, pictures), encoding="utf-8")
    return page


def render(run: Run, earlier: Run | None, pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are PNGs by the name of their chart."""
    summary = run.summary
    warnings = []
    if summary["ending"] != "complete":
        warnings.append(f"The run is incomplete: {summary['ending']}.")
    if summary["model"].get("engine") == "synthetic":
        warnings.append("The GPU is simulated: encoders take a given time and return made-up embeddings.")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_TEMPLATE).render(
        title="A stack on one machine" if summary["stack"] else ", ".join(summary["target"]["addresses"]),
        started_at=summary["started_at"],
        earlier=earlier.summary["started_at"] if earlier else "",
        warnings=[*warnings, *summary["notes"]],
        charts={name: base64.b64encode(data).decode() for name, data in pictures.items()},
        sections=[section for section in _sections(run, earlier) if section.has_content(pictures)],
    )


def _sections(run: Run, earlier: Run | None) -> Iterable[Section]:
    yield Section("Summary", [_objectives(run)], facts=_facts(run))
    remarks = [(level["level"], level["steady_state"]["remark"]) for level in run.levels]
    yield Section("Levels", [_levels(run)], warnings=[f"{name}: {remark}." for name, remark in remarks if remark])
    if any(level["kind"] == "closed" for level in run.levels):
        yield Section("Compared with the Ray Serve baseline", [_baseline(run)], notes=comparison.caveats(run))
    if earlier is not None:
        table = _against(run, earlier)
        notes = [] if table.rows else ["The two runs have no level in common."]
        yield Section("Compared with the earlier run", [table], notes=notes)
    yield Section("Throughput", charts=["throughput"])
    names = ["against_throughput", "histograms", "percentiles", "over_time"]
    yield Section("Latency", [_by_video(run)], [f"latency_{name}" for name in names])
    yield Section("Where the time goes", [_stages(run)], ["stages"])
    yield Section("Over time", [_series(run)], ["over_time"])
    yield Section("Failures", [_errors(run)])
    yield Section("Cost", [_cost(run)])
    yield Section("Method", facts=_method(run), facts_class="method")


def _facts(run: Run) -> dict[str, str]:
    facts = {
        "requests": f"{sum(level['requests'] for level in run.levels):,}",
        "failed": f"{sum(level['failed'] for level in run.levels):,}",
    }
    if levels := [level for level in run.levels if level["kept"]]:
        fastest = max(levels, key=lambda level: float(level["rate"]))
        shortest = min(levels, key=lambda level: float(level["latency_ms"]["p95"]))
        facts["best throughput"] = f"{fastest['rate']:.2f} /s at {fastest['level']}"
        facts["best P95"] = f"{shortest['latency_ms']['p95']:,.0f} ms at {shortest['level']}"
    return facts


def _objectives(run: Run) -> Table:
    """A row for each objective, a column for each level."""
    verdicts = {(one["objective"], one["level"]): one for one in run.summary["objectives"]}
    levels = [level["level"] for level in run.levels]
    rows = []
    for objective in dict.fromkeys(objective for objective, _ in verdicts):
        of_levels = [verdicts[objective, level] for level in levels]
        cells = [f"{figure(one['value'])} {'met' if one['is_met'] else 'MISSED'}" for one in of_levels]
        rows.append([objective, *cells])
    return Table(["objective", *levels], rows)


def _levels(run: Run) -> Table:
    columns = ["level", "sent", "success", "warm-up", "kept", "offered /s", "rate /s", "mean ms", "± 95 %"]
    columns += ["P50", "P90", "P95", "P99", "P99.9", "max ms", "steady"]
    rows = []
    for level in run.levels:
        latency, sent, steady = level["latency_ms"], level["requests"], level["steady_state"]
        rows.append(
            [
                *(level["level"], f"{sent:,}", f"{(sent - level['failed']) / sent:.2%}" if sent else ""),
                *(f"{steady['warm_up_requests']:,}", f"{level['kept']:,}"),
                *(f"{level['offered_rate']:.2f}", f"{level['rate']:.2f}"),
                *(_ms(latency.get("mean")), _ms(level["mean_confidence_ms"])),
                *(_ms(latency.get(name)) for name in ("p50", "p90", "p95", "p99")),
                _ms(latency.get("p99.9")) if level["kept"] >= _P999_ANSWERS else "",
                *(_ms(latency.get("max")), "yes" if steady["is_steady"] else "no"),
            ]
        )
    return Table(columns, rows)


def _baseline(run: Run) -> Table:
    lines = comparison.lines(run)
    ours = [number for number, line in enumerate(lines) if line.is_ours]
    return Table(comparison.COLUMNS, [line.cells for line in lines], ours)


def _against(run: Run, earlier: Run) -> Table:
    before = {level["level"]: level for level in earlier.levels}
    rows = []
    for level in run.levels:
        if (old := before.get(level["level"])) is None or not (old["kept"] and level["kept"]):
            continue
        pairs = [(old["rate"], level["rate"], "{:.2f}")]
        latencies = ("mean", "p50", "p95", "p99")
        pairs += [(old["latency_ms"][name], level["latency_ms"][name], "{:,.0f}") for name in latencies]
        cells = [f"{form.format(was)} → {form.format(now)} ({now / was - 1:+.1%})" for was, now, form in pairs]
        rows.append([level["level"], *cells, f"{old['failed']:,} → {level['failed']:,}"])
    return Table(["level", "rate /s", "mean ms", "P50", "P95", "P99", "failed"], rows)


def _by_video(run: Run) -> Table:
    rows = [
        [level["level"], video, f"{of['chunks']}", f"{of['kept']:,}", *(_ms(of[name]) for name in _LATENCIES)]
        for level in run.levels
        for video, of in level["by_video"].items()
        if len(run.summary["videos"]) > 1
    ]
    return Table(["level", "video", "chunks", "kept", *(name.upper() for name in _LATENCIES)], rows)


def _stages(run: Run) -> Table:
    columns = [f"{stage} {phase}" for stage in STAGES for phase in ("queue", "compute")]
    names = [*(column.replace(" ", "_") for column in columns), "unattributed", "server_total", "outside"]
    rows = [
        [level["level"], *(f"{level['stages_ms'][name]:,.1f}" for name in names)]
        for level in run.levels
        if level["stages_ms"]
    ]
    return Table(["level, mean ms", *columns, "unattributed", "service, total", "outside"], rows)


def _series(run: Run) -> Table:
    rows = []
    for name in sorted({name for level in run.levels for name in level["series"]}):
        cells = [level["series"].get(name) for level in run.levels]
        rows.append([name, *("" if cell is None else f"{cell['mean']:.3g} (max {cell['max']:.3g})" for cell in cells)])
    return Table(["mean in the steady state", *(level["level"] for level in run.levels)], rows)


def _errors(run: Run) -> Table:
    rows = [
        [level["level"], error["status"], error["reason"], f"{error['count']:,}", error["example"]]
        for level in run.levels
        for error in level["errors"]
    ]
    return Table(["level", "status", "reason", "count", "for example"], rows)


def _cost(run: Run) -> Table:
    rows = []
    for level in run.levels:
        cost, minutes = level["cost"], level["cost"]["video_minutes"]
        gpu, cpu = cost["accelerator_seconds_per_video_minute"], cost["cpu_seconds_per_video_minute"]
        shares = [cost["cpu_seconds"].get(service) for service in SERVICES]
        values = [gpu, None if gpu is None else gpu * 1000 / 3600, cpu]
        values += [share / minutes if share is not None and minutes else None for share in shares]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        rows.append([level["level"], f"{minutes:,.1f}", *cells])
    columns = ["level", "video-minutes", "GPU-s per video-minute", "GPU-h per 1,000 video-minutes"]
    return Table([*columns, "CPU-s per video-minute", *(f"of {service}" for service in SERVICES)], rows)


def _method(run: Run) -> dict[str, str]:
    summary: dict[str, Any] = run.summary
    target, model = summary["target"], summary["model"]
    kinds = {level["kind"] for level in run.levels}
    loops = {
        "closed": "closed loop: each caller sends its next request after its answer",
        "open": "open loop: requests have their own times, and latency counts from when each was due (no coordinated "
        "omission)",
    }
    facts = {
        "load": "; ".join(text for kind, text in loops.items() if kind in kinds),
        "videos": "; ".join(
            f"{video['name']} ({video['seconds']:.1f} s, {video['chunks']} chunks, weight {video['weight']:g})"
            for video in summary["videos"]
        ),
        "calls": f"{target['method']}, {target['connections']} connections to each address, no retries, "
        f"{target['timeout_seconds']:g} s each",
        "warm-up": run.levels[0]["steady_state"]["method"] if run.levels else "",
        "kept": "latencies of requests due in the steady state; the rate counts answers received in it; failures count "
        "over the whole level",
        "latency": "HDR histogram, three significant digits; the histograms are in summary.json",
        "model": f"{model.get('model_id', '')} {model.get('digest', '')} {model.get('device', '')}",
        "stack": ", ".join(f"{name} {value}" for name, value in (summary["stack"] or {}).items() if value is not None),
        "load generator": ", ".join(f"{name} {value}" for name, value in summary["machine"].items()),
        "command": " ".join(summary["command"]),
    }
    return {name: value for name, value in facts.items() if value}


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
