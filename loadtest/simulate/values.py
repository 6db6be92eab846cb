"""The values of the chart come in, a deployment goes out.

Every key of the chart's own values is required: a renamed key is an error, not a default.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from loadtest.errors import InvalidOption
from loadtest.simulate.autoscaler import Autoscaling
from loadtest.simulate.ingresses import IngressLimits
from loadtest.simulate.plan import ENCODER_PERMITS, SERVICES, Deployed, Deployment
from videoanalysis.scaling.arithmetic import SCALE_DOWN, SCALE_UP, Fallback, Policy, Rules

CHART = Path(__file__).parents[2] / "helm" / "video-analysis" / "values.yaml"


def read(files: Iterable[Path], settings: Iterable[str] = ()) -> dict[str, Any]:
    """Merge values files and settings such as "encoder.autoscaling.minReplicas=3", as Helm does: the last one wins.

    Raises InvalidOption.
    """
    values: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            raise InvalidOption(f"--values: {file} cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise InvalidOption(f"--values: {file} holds no mapping")
        values = _merged(values, content)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InvalidOption(f"--set: {setting}, must be like encoder.autoscaling.minReplicas=3")
        _replace(values, key, yaml.safe_load(text))
    return values


def deployment(values: Mapping[str, Any]) -> Deployment:
    """Raises InvalidOption naming the key."""
    chart = _Section(values, "")
    ingress = chart.section("ingress.settings")
    defaults = IngressLimits()
    return Deployment(
        services={service: _deployed(chart, chart.section(service)) for service in SERVICES},
        ingress_limits=IngressLimits(
            max_videos=int(ingress.number("max_videos", defaults.max_videos)),
            max_waiting=int(ingress.number("max_waiting", defaults.max_waiting)),
            chunks_ahead=int(ingress.number("chunks_ahead", defaults.chunks_ahead)),
        ),
        encoder_permits=int(chart.section("encoder.settings").number("max_in_flight", ENCODER_PERMITS)),
    )


def _deployed(chart: "_Section", service: "_Section") -> Deployed:
    mode = chart.get("autoscaling.mode")
    if mode not in ("keda", "prometheus", "hpa", "none"):
        raise InvalidOption(f"autoscaling.mode: {mode!r} is not known")
    shutdown = service.section("shutdown")
    linger = shutdown.number("preStopSeconds") + shutdown.number("drainDelaySeconds")
    return Deployed(
        None if mode == "none" else _rule(chart.section("autoscaling.keda"), service.section("autoscaling"), mode),
        replicas=int(service.number("replicas")),
        linger_seconds=linger,
        grace_seconds=linger + shutdown.number("graceSeconds"),
    )


def _rule(keda: "_Section", scaling: "_Section", mode: str) -> Autoscaling:
    behavior = scaling.section("behavior")
    # Without KEDA there is neither zero nor a fallback.
    minimum = int(scaling.number("minReplicas"))
    minimum = max(1, minimum) if mode == "hpa" else minimum
    fallback = Fallback(int(keda.number("failureThreshold")), minimum, "currentReplicasIfHigher")
    try:
        return Autoscaling(
            min_replicas=minimum,
            max_replicas=int(scaling.number("maxReplicas")),
            target=scaling.number("target"),
            polling_seconds=keda.number("pollingInterval"),
            cooldown_seconds=scaling.number("cooldownPeriod"),
            fallback=None if mode == "hpa" else fallback,
            scale_up=_rules(behavior.section("scaleUp"), SCALE_UP),
            scale_down=_rules(behavior.section("scaleDown"), SCALE_DOWN),
        )
    except ValueError as error:
        raise error if isinstance(error, InvalidOption) else InvalidOption(f"{scaling.path}: {error}") from error


def _rules(rules: "_Section", defaults: Rules) -> Rules:
    """Kubernetes completes a partial behavior, so keys may be missing."""
    policies = tuple(
        Policy(policy.get("type"), int(policy.number("value")), policy.number("periodSeconds"))
        for policy in rules.sections("policies")
    )
    return Rules(
        stabilization_seconds=rules.number("stabilizationWindowSeconds", defaults.stabilization_seconds),
        policies=policies or defaults.policies,
        select=rules.get("selectPolicy", defaults.select),
        tolerance=rules.number("tolerance", defaults.tolerance),
    )


class _Section:
    """A part of the values with its path, for errors."""

    def __init__(self, content: Mapping[str, Any], path: str) -> None:
        self._content = content
        self.path = path

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key; raises InvalidOption if there is neither a value nor a default."""
        content: Any = self._content
        for name in key.split("."):
            if not isinstance(content, Mapping) or name not in content:
                if default is not None:
                    return default
                raise InvalidOption(f"the values have no {self._full(key)}: are they those of this chart?")
            content = content[name]
        return content

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidOption(f"{self._full(key)}: {value!r} is not a number") from None

    def section(self, key: str) -> "_Section":
        return self._as_section(self.get(key), key)

    def sections(self, key: str) -> list["_Section"]:
        """The mappings of a list, which may be missing."""
        return [self._as_section(content, f"{key}[{place}]") for place, content in enumerate(self.get(key, []))]

    def _as_section(self, content: Any, key: str) -> "_Section":
        if not isinstance(content, Mapping):
            raise InvalidOption(f"{self._full(key)}: {content!r} is not a mapping")
        return _Section(content, self._full(key))

    def _full(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _replace(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    section: Any = values
    for name in parents:
        section = section.get(name) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise InvalidOption(f"--set: the values have no {key}")
    section[last] = value
