"""Desired and ready replicas of a release in a Kubernetes cluster."""

from collections.abc import Mapping
from pathlib import Path

from loadtest.target.source import DESIRED, READY


class Cluster:
    """The Deployments of one release; needs the right to list Deployments. Raises OSError for an unknown context."""

    def __init__(
        self, context: str | None, namespace: str, release: str | None = None, kubeconfig: Path | None = None
    ) -> None:
        # Slow to import.
        from videoanalysis.scaling.cluster import Cluster

        self._cluster = Cluster(context, namespace, kubeconfig)
        self._release = release

    @property
    def name(self) -> str:
        return f"the Deployments of namespace {self._cluster.namespace}"

    def read(self) -> Mapping[str, float]:
        """Raises OSError, also where there is no release."""
        values: dict[str, float] = {}
        for service, deployment in self._cluster.deployments(self._release).items():
            values[f"{DESIRED}.{service}"] = deployment["spec"].get("replicas", 1)
            # The API omits a zero.
            values[f"{READY}.{service}"] = deployment.get("status", {}).get("readyReplicas", 0)
        return values
