"""The load generator in a pod of the ingress's image, subject to the cluster's DNS and network policies."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.calls import Calls
from tests.cluster.kubernetes_api import ApiError, Json
from tests.cluster.release import Release
from tests.cluster.steps import Failed
from tests.cluster.waiting import wait_until

PROGRAM = Path(__file__).with_name("load.py")
# There need not be a text bank.
OPTIONS = {"labels": ["indoors", "outdoors"]}
_START_SECONDS = 120.0
_END_SECONDS = 60.0


class LoadPod:
    """Runs the load while it is entered. `calls` 0 means until it is left."""

    def __init__(
        self,
        release: Release,
        name: str,
        *,
        concurrency: int = 1,
        calls: int = 0,
        timeout_seconds: float = 600,
        **options: Any,
    ) -> None:
        self._release = release
        self._path = release.path("api/v1", "pods", name)
        self._name = name
        self._arguments = [str(concurrency), str(calls), str(timeout_seconds), json.dumps(OPTIONS | options)]
        self._log = ""

    def __enter__(self) -> Self:
        self._release.api.create(self._release.path("api/v1", "pods"), self._pod())
        wait_until(f"pod {self._name} to call", self._is_calling, _START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release.api.delete(self._path)
        if kind is None:
            wait_until(f"pod {self._name} to end", self._is_gone, _END_SECONDS + 30)

    def calls(self) -> Calls:
        """Raises Failed if the program in the pod has ended with an error."""
        self._raise_if_failed(self._release.api.get(self._path)["status"])
        self._read()
        return Calls.parse(self._log)

    def _read(self) -> None:
        self._log = self._release.api.text(f"{self._path}/log")

    def _is_calling(self) -> tuple[bool, str]:
        status = self._release.api.get(self._path)["status"]
        self._raise_if_failed(status)
        waiting = [(each.get("state") or {}).get("waiting") for each in status.get("containerStatuses") or ()]
        if status.get("phase") not in ("Running", "Succeeded"):
            return False, f"{status.get('phase')} {[each for each in waiting if each]}"
        self._read()
        return bool(self._log), "it runs and has logged nothing yet"

    def _raise_if_failed(self, status: Json) -> None:
        if status.get("phase") == "Failed":
            self._read()
            raise Failed(f"pod {self._name} ended: {self._log[-500:]}")

    def _is_gone(self) -> tuple[bool, str]:
        try:
            self._read()
        except ApiError:
            return self._release.api.find(self._path) is None, "its log is deleted, the pod is not"
        return self._release.api.find(self._path) is None, "it finishes the calls in progress"

    def _pod(self) -> Json:
        deployment = self._release.deployment("ingress")
        spec = deployment["spec"]["template"]["spec"]
        (container,) = (each for each in spec["containers"] if each["name"] == "ingress")
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == "grpc")
        address = f"{deployment['metadata']['name']}-headless.{self._release.namespace}.svc:{port}"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self._name, "labels": {"app.kubernetes.io/component": "load"}},
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
                        "command": ["python", "-u", "-c", PROGRAM.read_text(), address, *self._arguments],
                        "env": [{"name": "HOME", "value": "/tmp"}],
                        "securityContext": container.get("securityContext") or {},
                        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        }
