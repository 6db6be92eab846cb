"""Simulated placement in tables: compared with alternatives, in systems of several shapes, and shared fairly."""

from benchmarks.dispatch import fairness
from benchmarks.dispatch.alternatives import central_queue, least_outstanding, random_encoder
from benchmarks.dispatch.simulation import SERVICE_SECONDS, Outcome, alternative, saturate, simulate
from benchmarks.dispatch.workload import GEOMETRIC, MIXED, SINGLE, Poisson, Videos

ALTERNATIVES = {
    "ideal: central queue": central_queue,
    "a random encoder": random_encoder,
    "least outstanding of one's own": least_outstanding,
}

SHAPES = ((1, 2), (1, 4), (1, 8), (1, 16), (4, 8), (20, 10), (40, 4), (2, 64), (8, 64))

# Service and upload times are never quite the same.
_NOISE, _UPLOAD_NOISE = 0.1, 0.4
_SECONDS = 50


def comparison(seconds: float = _SECONDS) -> None:
    """20 ingresses, 10 encoders, 90 % load, milliseconds: single chunks, and videos whose chunks come at once."""
    columns = ["", "p50", "p95", "p99", "video p50", "p95", "p99", "offers a chunk", "cancelled a second", "wasted"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    speeds = [1.0] * 10
    single, videos = (_arrivals(kind, 0.9, 20, speeds, noisy=False) for kind in (SINGLE, GEOMETRIC))
    for name, serve in ALTERNATIVES.items():
        outcomes = [alternative(serve, arrivals, speeds, seconds) for arrivals in (single, videos)]
        print(f"| {name} | {_times(*outcomes)} | | | |", flush=True)
    (_, ours), (_, whole) = (simulate(arrivals, speeds, seconds) for arrivals in (single, videos))
    print(f"| **ours** | {_times(ours, whole)} | {ours.offers:.2f} | {ours.cancelled:,.0f} | {ours.wasted:.2%} |")


def shapes(seconds: float = _SECONDS) -> None:
    """Systems of several shapes: p95 as a multiple of the ideal's."""
    loads = (0.5, 0.8, 0.9)
    columns = [f"{load:.0%}{half}" for half in ("", ", one at half speed") for load in loads]
    print(f"| ingresses x encoders | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for ingresses, encoders in SHAPES:
        kind = MIXED if ingresses == 1 else SINGLE
        cells = [
            _ratio(kind, load, ingresses, [first] + [1.0] * (encoders - 1), seconds)
            for first in (1.0, 0.5)
            for load in loads
        ]
        print(f"| {ingresses} x {encoders} | {' | '.join(cells)} |", flush=True)


def shares(seconds: float = 10 * _SECONDS) -> None:
    """Ingresses at saturated encoders: what each gets of its fair share, and its p99 over the ideal's mean."""
    fairness.print_head()
    for case in fairness.CASES:
        case = case.at(1000 * SERVICE_SECONDS)
        times = saturate(case.outstanding, [1.0] * case.encoders, seconds)
        fairness.print_row(case, [fairness.received(one, 0.2 * seconds, seconds) for one in times])


def _ratio(videos: Videos, load: float, ingresses: int, speeds: list[float], seconds: float) -> str:
    arrivals = _arrivals(videos, load, ingresses, speeds)
    _, ours = simulate(arrivals, speeds, seconds)
    return f"{ours.chunks[1] / alternative(central_queue, arrivals, speeds, seconds).chunks[1]:.2f}"


def _arrivals(videos: Videos, load: float, ingresses: int, speeds: list[float], *, noisy: bool = True) -> Poisson:
    rate = load * sum(speeds) / SERVICE_SECONDS
    noise = {"noise": _NOISE, "upload_noise": _UPLOAD_NOISE} if noisy else {}
    return Poisson(videos, rate, ingresses, seed=3, **noise)


def _times(single: Outcome, videos: Outcome) -> str:
    return " | ".join(f"{value:.0f}" for value in (*single.chunks, *videos.videos))
