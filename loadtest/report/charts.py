"""The charts of a run as figures."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from loadtest.sweep import percentiles
from loadtest.sweep.run import Run
from loadtest.sweep.samples import column
from loadtest.target.source import DESIRED, GPU, IN_FLIGHT, MACHINE_CPU, QUEUE, READY
from videoanalysis.scaling.snapshot import SERVICES

_WIDTH = 10.0
_ROLLING = 20
_COLUMNS = 3
# The share of a panel's width that a label needs.
_LABEL_WIDTH = 0.2
# The ratio of latencies above which the axis is logarithmic.
_WIDE_RANGE = 8
_ACCENT, _FAILED, _MUTED, _WARM_UP = "#4a5fd9", "#d83a34", "#5c6575", "#eef0f5"
_STAGE_COLOURS = {"download": "#7b8799", "sample": "#1f9c8c", "encode": "#4a5fd9", "decode": "#d08417"}
_OUTSIDE_COLOUR, _UNATTRIBUTED_COLOUR = "#c9ced8", "#8a5300"
_SERVICE_COLOURS = {"ingress": "#1f9c8c", "encoder": "#4a5fd9", "decoder": "#d08417"}
_PERCENTILE_COLOURS = {"p50": "#1f9c8c", "p95": "#4a5fd9", "p99": "#d08417"}
# The time axis: each panel's series with their looks. Decreasing widths keep overlapping replica counts visible.
_PANELS: dict[str, dict[str, dict[str, Any]]] = {
    "Requests in flight": {
        IN_FLIGHT: {"label": "seen by callers", "color": _ACCENT},
        f"{QUEUE}.ingress": {"label": "waiting or running", "color": "black", "linestyle": ":"},
    },
    "Queue depth: work waiting or in progress": {
        f"{QUEUE}.{service}": {"label": service, "color": _SERVICE_COLOURS[service]} for service in SERVICES[1:]
    },
    "Replicas": {
        f"{what}.{service}": {
            "label": f"{service} {what}",
            "color": _SERVICE_COLOURS[service],
            "linestyle": style,
            "drawstyle": "steps-post",
            "linewidth": 4 - 1.2 * number,
        }
        for what, style in ((READY, "-"), (DESIRED, ":"))
        for number, service in enumerate(SERVICES)
    },
    "Utilisation": {
        MACHINE_CPU: {"label": "CPU, this machine", "color": _MUTED},
        GPU: {"label": "GPU, mean of all", "color": _ACCENT},
    },
}
_STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.grid": True,
    "grid.color": "#e2e5ec",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}

# None if the run has no data for it.
Chart = Callable[[Run], Figure | None]
Level = dict[str, Any]


@contextmanager
def style() -> Iterator[None]:
    """The style of the charts, for drawing and writing them."""
    with mpl.rc_context(_STYLE):
        yield


def throughput(run: Run) -> Figure | None:
    """Answers a second by callers and by arrivals a second, with the ideal."""
    kinds = [kind for kind in ("closed", "open") if _levels(run, kind)]
    if not kinds:
        return None
    figure, axes = _panels(len(kinds), height=4.2)
    for kind, ax in zip(kinds, axes, strict=False):
        levels = sorted(_levels(run, kind), key=lambda level: float(level["value"]))
        values = _of(levels, "value")
        ax.plot(values, _of(levels, "rate"), "o-", color=_ACCENT, label="this run")
        if kind == "closed":
            first = levels[0]
            ideal = [first["rate"] / first["value"] * value for value in values]
            ax.plot(values, ideal, ":", color=_MUTED, label="rate per caller of the first level")
            ax.set_title("Throughput by concurrency")
            ax.set_xlabel("concurrent callers")
        else:
            ax.plot(values, _of(levels, "offered_rate"), ":", color=_MUTED, label="offered")
            ax.set_title("Throughput by offered rate")
            ax.set_xlabel("arrivals a second")
        ax.set_ylabel("answers a second")
        ax.set_ylim(bottom=0)
        _doubling(ax, values)
        ax.legend(loc="upper left")
    return figure


def latency_against_throughput(run: Run) -> Figure | None:
    """Percentiles by answers a second."""
    if not any(level["kept"] for level in run.levels):
        return None
    figure, (ax,) = _panels(1, height=4.2)
    for name, colour in _PERCENTILE_COLOURS.items():
        for kind, marker in (("closed", "o-"), ("open", "s-")):
            levels = [level for level in _levels(run, kind) if level["kept"]]
            if levels:
                latencies = _latencies(levels, name)
                ax.plot(_of(levels, "rate"), latencies, marker, color=colour, label=f"{name.upper()}, {kind} loop")
    for level in (level for level in run.levels if level["kept"]):
        at = (level["rate"], level["latency_ms"]["p99"])
        ax.annotate(level["level"], at, xytext=(4, 5), textcoords="offset points", fontsize=8, color=_MUTED)
    ax.set_title("Latency against throughput")
    ax.set_xlabel("answers a second")
    ax.set_ylabel("ms")
    _latency_scale(ax, [level for level in run.levels if level["kept"]])
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    _legend_outside(ax)
    return figure


def latency_histograms(run: Run) -> Figure | None:
    """The distribution of latencies at each level, on one axis."""
    levels = [level for level in run.levels if level["kept"]]
    if not levels:
        return None
    figure, axes = _panels(len(levels), height=2.5, columns=_COLUMNS, sharex=True)
    longest = max(level["latency_ms"]["p99.9"] for level in levels)
    shortest = min(level["latency_ms"]["min"] for level in levels)
    is_wide = _is_wide(levels)
    edges = (np.geomspace if is_wide else np.linspace)(shortest * 0.95, longest * 1.02, 48)
    for level, ax in zip(levels, axes, strict=False):
        latencies = np.clip(_kept(run, level), edges[0], edges[-1])
        ax.hist(
            latencies, edges.tolist(), weights=np.full(len(latencies), 1 / len(latencies)), color=_ACCENT, alpha=0.75
        )
        for name in ("p50", "p95"):
            at = level["latency_ms"][name]
            ax.axvline(at, color=_PERCENTILE_COLOURS[name], linewidth=1.2, linestyle="--")
            ax.annotate(
                f"{name.upper()} {at:,.0f}",
                (at, 0.97 if name == "p50" else 0.84),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                va="top",
                fontsize=8,
                color=_PERCENTILE_COLOURS[name],
            )
        ax.set_title(f"{level['level']}, {level['kept']:,} kept")
        ax.yaxis.set_major_formatter(_percent)
        ax.tick_params(labelbottom=True)
        if is_wide:
            ax.set_xscale("log")
        ax.xaxis.set_major_formatter(_with_commas)
    figure.supxlabel("latency in ms; share of requests", color=_MUTED, fontsize=9.5)
    return figure


def latency_percentiles(run: Run) -> Figure | None:
    """The distribution up to its tail, in the form usual for HDR histograms."""
    levels = [level for level in run.levels if level["kept"]]
    if not levels:
        return None
    figure, (ax,) = _panels(1, height=4.2)
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
    for level, colour in zip(levels, colours, strict=True):
        ax.plot(*_tail(level), color=colour, label=level["level"])
    ticks = [50, 90, 95, 99, 99.9, 99.99]
    ax.set_xscale("log")
    ax.set_xticks([1 / (1 - tick / 100) for tick in ticks], [f"P{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(1, 2 * max(level["kept"] for level in levels))
    ax.set_title("Latency by percentile")
    ax.set_ylabel("ms")
    _latency_scale(ax, levels)
    _legend_outside(ax)
    return figure


def latency_over_time(run: Run) -> Figure | None:
    """Every request, with the rolling mean of 20; the warm-up is shaded."""
    levels = [level for level in run.levels if level["requests"]]
    if not levels:
        return None
    figure, axes = _panels(len(levels), height=2.5, columns=_COLUMNS)
    for level, ax in zip(levels, axes, strict=False):
        requests = sorted(
            (one for one in run.requests if one.level == level["level"]), key=lambda one: one.start_seconds
        )
        answered = [one for one in requests if one.is_ok]
        failed = [one for one in requests if not one.is_ok]
        begin = level["begin_seconds"]
        times = np.array([one.start_seconds - begin for one in answered])
        latencies = np.array([one.latency_ms for one in answered])
        highest = float(latencies.max(initial=1.0)) * 1.2
        warm = level["steady_state"]["begin_seconds"] - begin
        if level["steady_state"]["warm_up_requests"]:
            ax.axvspan(0, warm, color=_WARM_UP)
        if warm > _LABEL_WIDTH * (level["end_seconds"] - begin):
            ax.annotate("warm-up", (warm / 2, highest * 0.97), ha="center", va="top", fontsize=8, color=_MUTED)
        ax.plot(times, latencies, ".", markersize=3, color=_ACCENT, alpha=0.35, rasterized=True)
        if len(latencies) >= _ROLLING:
            mean = np.convolve(latencies, np.ones(_ROLLING) / _ROLLING, mode="valid")
            ax.plot(times[_ROLLING - 1 :], mean, color="black", linewidth=1.3, label=f"mean of {_ROLLING}")
        if failed:
            at = [one.start_seconds - begin for one in failed]
            ax.plot(at, [highest * 0.02] * len(at), "x", color=_FAILED, markersize=4, label=f"{len(failed):,} failed")
        ax.set_title(level["level"])
        ax.set_ylim(0, highest)
        ax.yaxis.set_major_formatter(_with_commas)
        if ax.get_legend_handles_labels()[0] and (failed or ax is axes[0]):
            ax.legend(loc="upper right", fontsize=8)
    figure.supxlabel(
        "seconds from the start of the level, its warm-up shaded; latency in ms", color=_MUTED, fontsize=9.5
    )
    return figure


def stages(run: Run) -> Figure | None:
    """The mean time of each stage, queue (hatched) and compute, stacked."""
    levels = [level for level in run.levels if level["stages_ms"]]
    if not levels:
        return None
    figure, (ax,) = _panels(1, height=4.4)
    for position, level in enumerate(levels):
        _stack(ax, position, level["stages_ms"])
    ax.set_xticks(range(len(levels)), [level["level"] for level in levels])
    ax.grid(axis="x", visible=False)
    ax.yaxis.set_major_formatter(_with_commas)
    ax.set_title("Mean time of a request by stage")
    ax.set_ylabel("ms")
    handles = [Patch(color=colour, label=stage) for stage, colour in _STAGE_COLOURS.items()]
    handles += [
        Patch(facecolor="white", edgecolor=_MUTED, hatch="////", label="queue of the stage"),
        Patch(color=_OUTSIDE_COLOUR, label="outside the service"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def over_time(run: Run) -> Figure | None:
    """Answers, queues, replicas, CPU and GPU on one time axis."""
    if not run.levels or not run.requests:
        return None
    present = {sample.series for sample in run.samples}
    panels = [(title, found) for title, series in _PANELS.items() if (found := {*series} & present)]
    figure, axes = _panels(1 + len(panels), height=1.9, columns=1, sharex=True)
    _answers(axes[0], run)
    for (title, found), ax in zip(panels, axes[1:], strict=True):
        for name, look in _PANELS[title].items():
            if name in found:
                ax.plot(*column(run.samples, name), **{"linewidth": 1.4, **look})
        ax.set_title(title)
        if title == "Utilisation":
            ax.yaxis.set_major_formatter(_percent)
    for ax in axes:
        for number, level in enumerate(run.levels):
            colour = "#dfe4ff" if number % 2 else _WARM_UP
            ax.axvspan(level["begin_seconds"], level["end_seconds"], color=colour, alpha=0.6)
        ax.set_ylim(bottom=0)
        ax.set_xlim(0, 1.01 * max(one.end_seconds for one in run.requests))
        _legend_outside(ax)
    for level in run.levels:
        middle = (level["begin_seconds"] + level["end_seconds"]) / 2
        place: Any = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
        axes[0].annotate(level["level"], (middle, 0.97), fontsize=8, color=_MUTED, **place)
    axes[-1].set_xlabel("seconds from the start of the run")
    return figure


def _answers(ax: Axes, run: Run) -> None:
    end = max(one.end_seconds for one in run.requests)
    step = max(1.0, end / 200)
    edges = np.arange(0, end + 2 * step, step)
    for is_ok, label, colour in ((True, "answered", _ACCENT), (False, "failed", _FAILED)):
        if ends := [one.end_seconds for one in run.requests if one.is_ok == is_ok]:
            ax.plot(edges[:-1] + step / 2, np.histogram(ends, edges)[0] / step, color=colour, label=label)
    ax.set_title("Answers a second")


# By the name of the file.
ALL: dict[str, Chart] = {
    "throughput": throughput,
    "latency_against_throughput": latency_against_throughput,
    "latency_histograms": latency_histograms,
    "latency_percentiles": latency_percentiles,
    "latency_over_time": latency_over_time,
    "stages": stages,
    "over_time": over_time,
}


def _panels(
    count: int, *, height: float, columns: int | None = None, sharex: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """`count` axes in rows."""
    columns = min(count, columns or count)
    rows = -(-count // columns)
    figure = Figure(figsize=(_WIDTH, height * rows + 0.3))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex).ravel()
    for ax in grid[count:]:
        ax.set_visible(False)
    return figure, list(grid[:count])


def _levels(run: Run, kind: str) -> list[Level]:
    return [level for level in run.levels if level["kind"] == kind]


def _of(levels: Sequence[Level], name: str) -> list[float]:
    return [float(level[name]) for level in levels]


def _kept(run: Run, level: Level) -> list[float]:
    begin, end = level["steady_state"]["begin_seconds"], level["end_seconds"]
    return [
        one.latency_ms
        for one in run.requests
        if one.is_ok and one.level == level["level"] and begin <= one.start_seconds <= end
    ]


def _tail(level: Level) -> tuple[list[float], list[float]]:
    """The latency by 1/(1-p), up to the share of a single request."""
    counted = percentiles.decoded(level["histogram_us"])
    inverse = np.geomspace(1, max(2, level["kept"]), 120)
    return inverse.tolist(), [counted.get_value_at_percentile(100 * (1 - 1 / one)) / 1000 for one in inverse]


def _is_wide(levels: Sequence[Level]) -> bool:
    return max(_latencies(levels, "p99")) > _WIDE_RANGE * min(_latencies(levels, "p50"))


def _latencies(levels: Sequence[Level], name: str) -> list[float]:
    return [level["latency_ms"][name] for level in levels]


def _latency_scale(ax: Axes, levels: Sequence[Level]) -> None:
    if _is_wide(levels):
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(_with_commas)


def _with_commas(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _percent(share: float, _: object) -> str:
    return f"{share:.0%}"


def _legend_outside(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _doubling(ax: Axes, values: Sequence[float]) -> None:
    """Logarithmic axes for levels that double."""
    if len(values) > 2 and values[-1] / values[0] >= 8:
        ax.set_xscale("log", base=2)
        # A logarithmic axis cannot start at 0.
        ax.set_ylim(auto=True)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()


def _stack(ax: Axes, position: float, means: dict[str, float]) -> None:
    width, bottom = 0.6, 0.0
    for stage, colour in _STAGE_COLOURS.items():
        queue, compute = means[f"{stage}_queue"], means[f"{stage}_compute"]
        ax.bar(position, queue, width, bottom, facecolor="white", edgecolor=colour, hatch="////", linewidth=0)
        ax.bar(position, compute, width, bottom + queue, color=colour)
        bottom += queue + compute
    for value, colour in ((means["unattributed"], _UNATTRIBUTED_COLOUR), (means["outside"], _OUTSIDE_COLOUR)):
        ax.bar(position, max(0.0, value), width, bottom, color=colour)
        bottom += max(0.0, value)
    ax.annotate(f"{bottom:,.0f}", (position, bottom), ha="center", va="bottom", fontsize=8.5, fontweight="bold")
