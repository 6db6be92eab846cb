"""Simulated placement in tables: the claims, one change of ours at a time, and systems of several shapes."""

from dataclasses import replace
from math import inf

from benchmarks.dispatch.encoder import SERVICE_SECONDS
from benchmarks.dispatch.policy import LEAST_OUTSTANDING, PARK_AT_TWO, RANDOM, REFUSE, ROUND_ROBIN, Choice, Policy
from benchmarks.dispatch.simulation import ideal, simulate
from benchmarks.dispatch.workload import GEOMETRIC, MIXED, SINGLE, Poisson, Videos

OURS = Policy()

POLICIES = {
    "random": RANDOM,
    "round robin": ROUND_ROBIN,
    "least outstanding of one's own": LEAST_OUTSTANDING,
    "refuse, try all, back off 20 ms": replace(REFUSE, longest_pause=0.02),
    "refuse, try all, back off 20 ms to 1 s": REFUSE,
    "park at two": PARK_AT_TWO,
    "**ours**": OURS,
}

CHANGES = {
    "**ours**": OURS,
    "one offer": replace(OURS, offers=1, most_offers=1),
    "two offers, then one by one": replace(OURS, offers=2),
    "four offers": replace(OURS, offers=4),
    "no more than three offers": replace(OURS, most_offers=3),
    "up to eight offers": replace(OURS, most_offers=8),
    "three at once and no more": replace(OURS, apart=0.0, most_offers=3),
    "5 ms apart": replace(OURS, apart=0.005),
    "a random encoder": replace(OURS, choice=Choice.RANDOM),
    "that with fewest of one's own": replace(OURS, choice=Choice.FEWEST_OWN),
    "that where ours should end first": replace(OURS, choice=Choice.SOONEST),
    "that which reported fewest": replace(OURS, choice=Choice.REPORTED),
    "one chunk on offer": replace(OURS, window=1),
    "four chunks on offer": replace(OURS, window=4),
    "all chunks on offer": replace(OURS, window=inf),
    "64 headers parked": replace(OURS, max_parked=64),
    "8 headers parked": replace(OURS, max_parked=8),
    "parked for 3 s": replace(OURS, park_seconds=3.0),
    "further place at once": replace(OURS, lead=inf),
    "further place 8 ms ahead": replace(OURS, lead=0.008, prompt_from=inf),
    "further place learnt, never at once": replace(OURS, prompt_from=inf),
}

SHAPES = ((1, 2), (1, 4), (1, 8), (1, 16), (4, 8), (20, 10), (40, 4), (2, 64), (8, 64))

# Service and copying times are never quite the same.
_NOISE, _COPY_NOISE = 0.1, 0.4
_SECONDS, _DRAIN_SECONDS, _OVERLOAD_SECONDS = 50, 30, 20
# Chunks that one ingress holds.
_HELD = 24


def claims(seconds: float = _SECONDS) -> None:
    """Every policy at 90 % load, and at one and a half and three times what the encoders can do."""
    columns = ["policy", "p50", "p95", "p99", "video p50", "p95", "p99", "offers a chunk", "cancelled a second"]
    columns += ["places held for nothing", "1.5x: refusals a second", "3x: refusals a second", "3x: throughput"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    speeds = [1.0] * 10
    single, videos = (_arrivals(kind, 0.9, 20, speeds, noisy=False) for kind in (SINGLE, GEOMETRIC))
    times = [_milliseconds(ideal(single, speeds, seconds).chunks), _milliseconds(ideal(videos, speeds, seconds).videos)]
    print(f"| ideal | {' | '.join(times)} {'| ' * 7}|")
    for name, policy in POLICIES.items():
        _, chunks = simulate(policy, single, speeds, seconds, drain_seconds=_DRAIN_SECONDS)
        _, whole = simulate(policy, videos, speeds, seconds, drain_seconds=_DRAIN_SECONDS)
        crowded = [
            simulate(
                policy,
                _arrivals(SINGLE, load, 20, speeds, noisy=False),
                speeds,
                _OVERLOAD_SECONDS,
                max_waiting=_HELD,
            )[1]
            for load in (1.5, 3.0)
        ]
        cells = [
            _milliseconds(chunks.chunks),
            _milliseconds(whole.videos),
            f"{chunks.offers / single.chunks_per_second:.2f}",
            f"{chunks.withdrawn:,.0f}",
            f"{chunks.wasted:.2%}",
            *(f"{outcome.refusals:,.0f}" for outcome in crowded),
            f"{crowded[-1].throughput:.3f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def changes(seconds: float = _SECONDS) -> None:
    """Ours, and ours with one thing changed: p95 as a multiple of the ideal's."""
    shapes = {
        "20 x 10, 80 %": (SINGLE, 0.8, 20, [1.0] * 10),
        "20 x 10, 90 %, one at half speed": (SINGLE, 0.9, 20, [0.5] + [1.0] * 9),
        "1 x 16, 80 %": (MIXED, 0.8, 1, [1.0] * 16),
        "40 x 4, 90 %": (MIXED, 0.9, 40, [1.0] * 4),
    }
    print(f"| | {' | '.join(shapes)} | offers a chunk | 3x: refusals a second | 3x: throughput |")
    print("|---" * (len(shapes) + 4) + "|")
    crowded = _arrivals(SINGLE, 3.0, 20, [1.0] * 10)
    for name, policy in CHANGES.items():
        cells = [_ratio(policy, *shape, seconds) for shape in shapes.values()]
        _, first = simulate(policy, _arrivals(*shapes["20 x 10, 80 %"]), [1.0] * 10, seconds)
        _, outcome = simulate(policy, crowded, [1.0] * 10, _OVERLOAD_SECONDS, max_waiting=_HELD)
        offers = first.offers / _arrivals(*shapes["20 x 10, 80 %"]).chunks_per_second
        print(
            f"| {name} | {' | '.join(cells)} | {offers:.2f} | {outcome.refusals:,.0f} | {outcome.throughput:.3f} |",
            flush=True,
        )


def shapes(seconds: float = _SECONDS) -> None:
    """Ours in systems of several shapes: p95 as a multiple of the ideal's."""
    loads = (0.5, 0.8, 0.9)
    columns = [f"{load:.0%}{half}" for half in ("", ", one at half speed") for load in loads]
    print(f"| ingresses x encoders | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for ingresses, encoders in SHAPES:
        cells = [
            _ratio(
                OURS, MIXED if ingresses == 1 else SINGLE, load, ingresses, [first] + [1.0] * (encoders - 1), seconds
            )
            for first in (1.0, 0.5)
            for load in loads
        ]
        print(f"| {ingresses} x {encoders} | {' | '.join(cells)} |", flush=True)


def _ratio(policy: Policy, videos: Videos, load: float, ingresses: int, speeds: list[float], seconds: float) -> str:
    arrivals = _arrivals(videos, load, ingresses, speeds)
    _, ours = simulate(policy, arrivals, speeds, seconds, drain_seconds=_DRAIN_SECONDS)
    return f"{ours.chunks[1] / ideal(arrivals, speeds, seconds).chunks[1]:.2f}"


def _arrivals(videos: Videos, load: float, ingresses: int, speeds: list[float], *, noisy: bool = True) -> Poisson:
    rate = load * sum(speeds) / SERVICE_SECONDS
    noise = {"noise": _NOISE, "copy_noise": _COPY_NOISE} if noisy else {}
    return Poisson(videos, rate, ingresses, seed=3, **noise)


def _milliseconds(times: tuple[float, ...]) -> str:
    return " | ".join(f"{value:.0f}" for value in times)
