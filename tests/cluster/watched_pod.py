"""A pod of the run's own, whose log is read while it runs."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.cluster.kubernetes_api import ApiError, Json
from tests.cluster.release import Release
from tests.cluster.steps import Failed
from tests.cluster.waiting import wait_until

_START_SECONDS = 120.0


class WatchedPod(ABC):
    """Runs while it is entered. It has `grace_seconds` to end."""

    def __init__(self, release: Release, name: str, grace_seconds: float) -> None:
        self.release = release
        self.path = release.path("api/v1", "pods", name)
        self.name = name
        self.log = ""
        self._grace_seconds = grace_seconds

    @abstractmethod
    def manifest(self) -> Json:
        """Of the pod, as it is created."""

    def __enter__(self) -> Self:
        self.release.api.create(self.release.path("api/v1", "pods"), self.manifest())
        wait_until(f"pod {self.name} to log something", self._is_logging, _START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release.api.delete(self.path)
        if kind is None:
            wait_until(f"pod {self.name} to end", self._is_gone, self._grace_seconds + 30)

    def read(self) -> None:
        """Reads the log; raises Failed if the program in the pod has ended with an error."""
        self._raise_if_failed(self.release.api.get(self.path)["status"])
        self._read()

    def _read(self) -> None:
        self.log = self.release.api.text(f"{self.path}/log")

    def _is_logging(self) -> tuple[bool, str]:
        status = self.release.api.get(self.path)["status"]
        self._raise_if_failed(status)
        waiting = [(each.get("state") or {}).get("waiting") for each in status.get("containerStatuses") or ()]
        if status.get("phase") not in ("Running", "Succeeded"):
            return False, f"{status.get('phase')} {[each for each in waiting if each]}"
        self._read()
        return bool(self.log), "it runs and has logged nothing yet"

    def _raise_if_failed(self, status: Json) -> None:
        if status.get("phase") == "Failed":
            self._read()
            raise Failed(f"pod {self.name} ended: {self.log[-500:]}")

    def _is_gone(self) -> tuple[bool, str]:
        try:
            self._read()
        except ApiError:
            return self.release.api.find(self.path) is None, "its log is deleted, the pod is not"
        return self.release.api.find(self.path) is None, "it finishes the calls in progress"
