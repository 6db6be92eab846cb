"""The helm binary."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

_LINES_SHOWN = 12


class HelmError(Exception):
    """Carries the last lines of helm's output."""


@dataclass(frozen=True, slots=True)
class Helm:
    """One release. `values` are files, and `settings` what --set takes, which come after all others."""

    binary: str
    context: str | None
    namespace: str
    release: str
    chart: Path
    values: Sequence[Path]
    settings: Sequence[str]

    def deploy(self, own: Path, seconds: float) -> None:
        """Install the release, or upgrade it, and wait for its pods; `own` comes after values-local.yaml."""
        arguments = ["upgrade", self.release, str(self.chart), "--install", "--create-namespace", "--wait"]
        for file in (self.chart / "values-local.yaml", own, *self.values):
            arguments += ["--values", str(file)]
        for setting in self.settings:
            arguments += ["--set", setting]
        self._run([*arguments, "--timeout", f"{seconds:.0f}s"], seconds + 30)

    def revision(self) -> int:
        listed: list[dict[str, int]] = yaml.safe_load(self._run(["history", self.release, "--output", "yaml"], 60))
        return max(entry["revision"] for entry in listed)

    def uninstall(self, seconds: float) -> None:
        """Also one that is there in part, or not at all."""
        arguments = ["uninstall", self.release, "--ignore-not-found", "--wait", "--timeout", f"{seconds:.0f}s"]
        self._run(arguments, seconds + 30)

    def _run(self, arguments: Sequence[str], seconds: float) -> str:
        where = ["--namespace", self.namespace, *(["--kube-context", self.context] if self.context else [])]
        command = [self.binary, *arguments, *where]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except FileNotFoundError as error:
            raise HelmError(f"there is no {self.binary}: install Helm 3.14 or newer, or name it with --helm") from error
        except subprocess.TimeoutExpired as error:
            raise HelmError(f"helm {arguments[0]} did not end within {seconds:.0f} s") from error
        if done.returncode:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LINES_SHOWN:])
            raise HelmError(f"helm {arguments[0]} ended with {done.returncode}: {said}")
        return done.stdout
