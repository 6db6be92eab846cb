"""One more replica of a service, which freezes for a while: it neither answers nor closes its connections."""

import copy
import re
from pathlib import Path

from tests.cluster.kubernetes_api import Json
from tests.cluster.release import Release
from tests.cluster.watched_pod import WatchedPod
from videoanalysis.scaling import objects

PROGRAM = Path(__file__).with_name("freeze.py")
_END_SECONDS = 10.0


class FreezingPod(WatchedPod):
    """Freezes `after` seconds after its start, by when it should be ready, for `seconds`."""

    def __init__(self, release: Release, name: str, service: str, *, after: float, seconds: float) -> None:
        super().__init__(release, name, _END_SECONDS)
        self._service = service
        self._arguments = [str(after), str(seconds)]

    def is_ready(self) -> tuple[bool, str]:
        pod = objects.pod(self.release.api.get(self.path))
        return pod.is_ready, pod.trouble or pod.state

    def is_frozen(self) -> tuple[bool, str]:
        return self._has_logged("frozen")

    def has_resumed(self) -> tuple[bool, str]:
        return self._has_logged("resumed")

    @property
    def frozen_at(self) -> float:
        (found,) = re.findall(r"^frozen (\S+)$", self.log, re.MULTILINE)
        return float(found)

    def manifest(self) -> Json:
        """The pod of the service's Deployment, whose ReplicaSet does not count it: it has not the label of its hash."""
        template = copy.deepcopy(self.release.deployment(self._service)["spec"]["template"])
        spec = template["spec"]
        (container,) = (each for each in spec["containers"] if each["name"] == self._service)
        container["command"] = ["python", "-u", "-c", PROGRAM.read_text()]
        container["args"] = [*self._arguments, "python", "-m", f"services.{self._service}"]
        container.pop("lifecycle", None)
        metadata = {**template["metadata"], "name": self.name}
        spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": int(_END_SECONDS)}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _has_logged(self, word: str) -> tuple[bool, str]:
        self.read()
        return any(line.startswith(word) for line in self.log.splitlines()), f"not {word} yet"
