"""The load generator in a pod of the ingress's image, subject to the cluster's DNS and network policies."""

import json
from pathlib import Path
from typing import Any, Literal

from tests.cluster.calls import Calls
from tests.cluster.kubernetes_api import Json
from tests.cluster.release import Release
from tests.cluster.watched_pod import WatchedPod

PROGRAM = Path(__file__).with_name("load.py")
# There need not be a text bank.
OPTIONS = {"labels": ["indoors", "outdoors"]}
_END_SECONDS = 60.0


class LoadPod(WatchedPod):
    """Runs the load while it is entered. `calls` 0 means until it is left; `kind` is explained in load.py."""

    def __init__(
        self,
        release: Release,
        name: str,
        *,
        kind: Literal["client", "unary"] = "client",
        concurrency: int = 1,
        calls: int = 0,
        timeout_seconds: float = 600,
        **options: Any,
    ) -> None:
        super().__init__(release, name, _END_SECONDS)
        self.concurrency = concurrency
        self._kind = kind
        self._arguments = [str(concurrency), str(calls), str(timeout_seconds), json.dumps(OPTIONS | options)]

    def calls(self) -> Calls:
        """Raises Failed if the program in the pod has ended with an error."""
        self.read()
        return Calls.parse(self.log)

    def manifest(self) -> Json:
        deployment = self.release.deployment("ingress")
        spec = deployment["spec"]["template"]["spec"]
        (container,) = (each for each in spec["containers"] if each["name"] == "ingress")
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == "grpc")
        address = f"{deployment['metadata']['name']}-headless.{self.release.namespace}.svc:{port}"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/component": "load"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": int(_END_SECONDS),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "imagePullSecrets": spec.get("imagePullSecrets") or [],
                "securityContext": spec.get("securityContext") or {},
                "tolerations": spec.get("tolerations") or [],
                "nodeSelector": spec.get("nodeSelector") or {},
                "containers": [
                    {
                        "name": "load",
                        "image": container["image"],
                        "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                        "command": ["python", "-u", "-c", PROGRAM.read_text(), self._kind, address, *self._arguments],
                        "env": [{"name": "HOME", "value": "/tmp"}],
                        "securityContext": container.get("securityContext") or {},
                        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        }
