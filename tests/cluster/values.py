"""Chart values for a run: no GPU, high demand from little load, fast scale-down."""

from typing import Any

GRACE_SECONDS = 300

Values = dict[str, Any]


def own_values(keda_namespace: str, encoders: int) -> Values:
    """`encoders` is the maximum number of encoders."""

    def scaling(most: int) -> Values:
        policies = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
        # The videos of few callers end together, and for a moment there is nothing to do.
        down = {"stabilizationWindowSeconds": 60, "policies": policies}
        return {"minReplicas": 1, "maxReplicas": most, "behavior": {"scaleDown": down}}

    return {
        "model": {"source": "synthetic", "imageSize": 96},
        "allowedBuckets": [],
        "textBanks": {"location": "none"},
        "networkPolicy": {"kedaNamespace": keda_namespace},
        "ingress": {
            "settings": {"max_videos": 4},
            "shutdown": {"graceSeconds": GRACE_SECONDS},
            "autoscaling": scaling(2),
        },
        "encoder": {
            "settings": {"synthetic_service_ms": 1000, "synthetic_embedding_dim": 64},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            "autoscaling": scaling(encoders),
        },
        "decoder": {"autoscaling": scaling(2)},
    }


def with_another_model(values: Values) -> None:
    values["encoder"]["settings"]["synthetic_embedding_dim"] *= 2


def from_zero(values: Values) -> None:
    values["encoder"]["autoscaling"] |= {"minReplicas": 0, "cooldownPeriod": 15}


def upgraded(values: Values, when: str) -> None:
    """Changes only an annotation of the pods."""
    values["commonAnnotations"] = {"videoanalysis.test/upgraded": when}
