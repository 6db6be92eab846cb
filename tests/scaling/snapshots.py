"""Snapshots of a release: each starts from an idle one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from videoanalysis.scaling.arithmetic import SCALE_DOWN, SCALE_UP, Policy, Rules
from videoanalysis.scaling.snapshot import Condition, Gauges, Hpa, Pod, ScaledObject, Snapshot, Workload

NOW = datetime(2026, 5, 4, 10, 0, 0, tzinfo=UTC)
AT_ONCE = Rules(0, (Policy("Percent", 900, 15),))

ABLE = Condition(True, "ReadyForNewScale", "recommended size matches current size")
ACTIVE = Condition(True, "ValidMetricFound", "the HPA was able to successfully calculate a replica count")
IN_RANGE = Condition(False, "DesiredWithinRange", "the desired count is within the acceptable range")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def hpa(**changes: Any) -> Hpa:
    conditions = {"AbleToScale": ABLE, "ScalingActive": ACTIVE, "ScalingLimited": IN_RANGE}
    plain = Hpa("keda-hpa-va-encoder", 1, 10, 2.0, None, ago(3600), SCALE_UP, SCALE_DOWN, conditions)
    return replace(plain, **changes)


def scaled_object(**changes: Any) -> ScaledObject:
    conditions = {
        "Ready": Condition(True, "ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling"),
        "Active": Condition(True, "ScalerActive", "Scaling is performed because triggers are active"),
        "Fallback": Condition(False, "NoFallbackFound", "No fallbacks are active on this scaled object"),
        "Paused": Condition(None),
    }
    plain = ScaledObject("va-encoder", 1, 10, 2.0, 0.0, "metrics-api", 5, 300, ago(5), conditions)
    return replace(plain, **changes)


def workload(replicas: int = 1, **changes: Any) -> Workload:
    """An encoder, all pods of which are ready; `existing` and `ready` follow `replicas`."""
    plain = Workload("encoder", "va-encoder", replicas, replicas, replicas, hpa(), scaled_object())
    return replace(plain, **changes)


def gauges(*encoder: float | None, draining: int = 0) -> tuple[Gauges, ...]:
    """One ingress pod for each number, the last of them draining; None is one that does not answer."""
    return tuple(
        Gauges(
            f"va-ingress-{index}",
            index >= len(encoder) - draining,
            None if depth is None else {"ingress": 1.0, "encoder": depth, "decoder": 0.0},
            "no answer within 4 s" if depth is None else "",
        )
        for index, depth in enumerate(encoder)
    )


def snapshot(workload: Workload, *encoder: float | None, **changes: Any) -> Snapshot:
    plain = Snapshot(NOW, "videos", "va", (workload,), gauges(*encoder))
    return replace(plain, **changes)


def pod(name: str = "va-encoder-a", **changes: Any) -> Pod:
    return replace(Pod(name, False, ago(30), "starts: its startup probe has not passed yet"), **changes)
