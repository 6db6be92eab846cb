"""A simulation over time as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.simulate.outcome import Column, Outcome, percentile
from loadtest.simulate.plan import SERVICES

_COLOURS = {"ingress": "#4477aa", "encoder": "#cc6677", "decoder": "#228833"}
_BINS = 120


def write(outcome: Outcome, path: Path, title: str) -> None:
    """Rates, latency, gauges and replicas on one time axis, in the format of the suffix of `path`."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    rates, latency, queues, replicas = figure.subplots(4, 1, sharex=True)
    scale, unit = (3600, "h") if outcome.seconds > 4 * 3600 else (60, "min")
    edges = np.linspace(0, outcome.seconds, _BINS + 1)
    _draw_rates(rates, outcome, edges, scale)
    _draw_latency(latency, outcome, edges, scale)
    for service in SERVICES:
        course, colour = outcome.courses[service], _COLOURS[service]
        queues.plot(outcome.times / scale, course.gauge, color=colour, label=service, linewidth=1)
        replicas.step(outcome.times / scale, course.desired, color=colour, where="post", linestyle=":", linewidth=1)
        replicas.step(outcome.times / scale, course.ready, color=colour, where="post", label=service)
    queues.set_ylabel("gauge")
    queues.legend(loc="upper right")
    replicas.set_ylabel("replicas (dotted: desired)")
    replicas.set_xlabel(f"time ({unit})")
    figure.suptitle(title)
    figure.savefig(path, dpi=80)


def _draw_rates(axes: Axes, outcome: Outcome, edges: Column, scale: float) -> None:
    width = edges[1] - edges[0]
    for times, name, colour in (
        (np.concatenate([outcome.arrivals, outcome.refusals]), "offered", "#888888"),
        (outcome.answers, "answered", "#4477aa"),
        (outcome.refusals, "refused", "#cc6677"),
    ):
        counts, _ = np.histogram(times, edges)
        axes.plot(edges[:-1] / scale, counts / width, label=name, color=colour)
    axes.set_ylabel("videos a second")
    axes.legend(loc="upper right")


def _draw_latency(axes: Axes, outcome: Outcome, edges: Column, scale: float) -> None:
    order = np.argsort(outcome.arrivals)
    arrivals, latencies = outcome.arrivals[order], outcome.latencies[order]
    parts = np.split(latencies, np.searchsorted(arrivals, edges[1:-1]))
    for percent, colour in ((50, "#4477aa"), (95, "#ddaa33"), (99, "#cc6677")):
        values = [percentile(part, percent) for part in parts]
        axes.plot(edges[:-1] / scale, values, label=f"p{percent}", color=colour)
    if len(latencies) and latencies.max() > 20 * max(percentile(latencies, 50), 1e-9):
        axes.set_yscale("log")
    axes.set_ylabel("latency in seconds")
    axes.legend(loc="upper right")
