"""The cheapest settings that meet objectives, searched one setting at a time."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from loadtest.simulate.autoscaling import Autoscaling
from loadtest.simulate.outcome import Outcome
from loadtest.simulate.plan import Deployment, Service
from loadtest.sweep.slo import Objective

Rehearse = Callable[[Deployment], Outcome]


@dataclass(frozen=True, slots=True)
class Prices:
    """Of an hour, in any one currency. By default about what a cloud asks for an L4 and a core, in dollars."""

    gpu: float = 0.80
    core: float = 0.05
    ingress_cores: float = 6
    decoder_cores: float = 1

    def of(self, outcome: Outcome) -> float:
        cores = (
            outcome.node_seconds["ingress"] * self.ingress_cores + outcome.node_seconds["decoder"] * self.decoder_cores
        )
        return (outcome.node_seconds["encoder"] * self.gpu + cores * self.core) / 3600


@dataclass(frozen=True, slots=True)
class Tried:
    """A deployment, and how good it is. The better one misses less, or costs less if both miss nothing."""

    deployment: Deployment
    excess: float
    price: float

    @property
    def rank(self) -> tuple[float, float]:
        return self.excess, self.price


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting and what it may be; `turn` gives the rule with it."""

    service: Service
    name: str
    values: Sequence[float]
    turn: Callable[[Autoscaling, float], Autoscaling]
    read: Callable[[Autoscaling], float]

    def turned(self, deployment: Deployment) -> Iterable[Deployment]:
        deployed = deployment.services[self.service]
        rule = deployed.autoscaling
        if rule is None:
            return
        for value in takewhile(lambda value: self.name != "minReplicas" or value <= rule.max_replicas, self.values):
            if value != self.read(rule):
                changed = replace(deployed, autoscaling=self.turn(rule, value))
                yield replace(deployment, services={**deployment.services, self.service: changed})


def knobs(deployment: Deployment) -> list[Knob]:
    """Those that matter for cost and wait: the encoder's first, for it has the GPU."""

    def minimum(rule: Autoscaling, value: float) -> Autoscaling:
        return replace(rule, min_replicas=int(value))

    def target(rule: Autoscaling, value: float) -> Autoscaling:
        return replace(rule, target=value)

    def window(rule: Autoscaling, value: float) -> Autoscaling:
        return replace(rule, scale_down=replace(rule.scale_down, stabilization_seconds=value))

    least_ingresses = deployment.services["ingress"].initial
    return [
        Knob("encoder", "minReplicas", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32], minimum, _minimum),
        Knob("encoder", "target", [1, 1.5, 2, 3, 4, 6], target, _target),
        Knob("encoder", "scaleDownWindow", [0, 60, 120, 300, 600, 1200], window, _window),
        Knob("ingress", "minReplicas", [least_ingresses + more for more in (0, 1, 2, 4, 6, 8)], minimum, _minimum),
        Knob("ingress", "target", [1, 1.5, 2, 3, 4], target, _target),
    ]


def _minimum(rule: Autoscaling) -> float:
    return rule.min_replicas


def _target(rule: Autoscaling) -> float:
    return rule.target


def _window(rule: Autoscaling) -> float:
    return rule.scale_down.stabilization_seconds


def measured(objective: Objective, outcome: Outcome) -> float:
    """In the objective's unit; refused requests are the errors of a rehearsal. Not a number where nothing is."""
    match objective.metric:
        case "latency":
            return 1000 * outcome.latency(objective.statistic)
        case "errors":
            return len(outcome.refusals) + outcome.unanswered
        case "error_share":
            return outcome.refused_share
        case "rate":
            return len(outcome.answers) / outcome.seconds


def excess(objective: Objective, outcome: Outcome) -> float:
    """By how much it is missed, as a share of its limit; 0 if it is met. Infinite where there was no answer."""
    value = measured(objective, outcome)
    over = objective.limit - value if objective.metric == "rate" else value - objective.limit
    if math.isnan(over):
        return math.inf
    return max(0.0, over) / (objective.limit or 1.0)


def optimise(
    deployment: Deployment,
    rehearse: Rehearse,
    objectives: Sequence[Objective],
    prices: Prices,
    on_tried: Callable[[Tried, Tried], None] = lambda tried, best: None,
) -> Tried:
    """The best found by turning one knob at a time, from the deployment as it is, until none of them helps.

    `on_tried` hears each try and the best so far. What is found may still miss the objectives; its `excess` tells.
    """

    def attempt(candidate: Deployment) -> Tried:
        outcome = rehearse(candidate)
        return Tried(candidate, sum(excess(objective, outcome) for objective in objectives), prices.of(outcome))

    best = attempt(deployment)
    on_tried(best, best)
    improved = True
    while improved:
        improved = False
        for knob in knobs(deployment):
            for candidate in knob.turned(best.deployment):
                tried = attempt(candidate)
                if tried.rank < best.rank:
                    best, improved = tried, True
                on_tried(tried, best)
    return best


def settings(deployment: Deployment) -> dict[str, float]:
    """The settings that are searched, by the names of their knobs."""
    rules = {service: deployed.autoscaling for service, deployed in deployment.services.items()}
    return {
        f"{knob.service} {knob.name}": knob.read(rule)
        for knob in knobs(deployment)
        if (rule := rules[knob.service]) is not None
    }
