"""Starts the three images together, analyses the sample clip and stops them: python3 images/check.py --help

They run under the restrictions of a strict cluster: root file system read-only, no capabilities, no new privileges, not
root, no network but a shared loopback. Exits with 1 and a message if a check fails.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

MODEL = "/app/services/encoder/bundled/rendered-scenes"
TEXTS = "/app/textbanks/rendered"
PORTS = {"encoder": 50052, "decoder": 50053, "ingress": 50051}
# One network, so one port each.
HEALTH_PORTS = {"encoder": 8081, "decoder": 8082, "ingress": 8083}
SETTINGS = {
    "encoder": {"ENCODER_MODEL": MODEL, "HF_HUB_OFFLINE": "1"},
    "decoder": {"DECODER_BANKS": "/banks", "DECODER_BANKS_REFRESH_SECONDS": "1"},
    "ingress": {
        "INGRESS_ENCODERS": f'["127.0.0.1:{PORTS["encoder"]}"]',
        "INGRESS_DECODERS": f'["127.0.0.1:{PORTS["decoder"]}"]',
        # The bundled model's.
        "INGRESS_IMAGE_SIZE": "96",
        "INGRESS_MAX_VIDEOS": "1",
    },
}
RESTRICTIONS = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
READY_SECONDS = 300
STOP_SECONDS = 30

IS_READY = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    request = health_pb2.HealthCheckRequest(service="readiness")
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
sys.exit(answer.status != health_pb2.HealthCheckResponse.SERVING)
"""
PRIVILEGES = """
import json, os, pathlib
status = dict(line.split(":\\t") for line in pathlib.Path("/proc/1/status").read_text().splitlines() if ":\\t" in line)
command = pathlib.Path("/proc/1/cmdline").read_bytes().decode().split("\\0")[:3]
writable = [path for path in ("/", "/app", "/opt/venv", "/etc", "/var/cache/videoanalysis") if os.access(path, os.W_OK)]
print(json.dumps({
    "command": command, "user": status["Uid"].split()[1], "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": status["NoNewPrivs"], "writable": writable,
}))
"""


class CheckFailed(Exception):
    pass


@dataclass(frozen=True)
class Builder:
    """podman, docker, or a command with the same arguments."""

    command: str
    run_flags: Sequence[str]
    repository: str
    version: str

    def __call__(self, *arguments: str, seconds: float = 60) -> str:
        """What the command prints; raises CheckFailed with its error output."""
        done = self.attempt(*arguments, seconds=seconds)
        if done.returncode != 0:
            raise CheckFailed(f"{self.command} {shlex.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def attempt(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.command, *arguments], capture_output=True, text=True, timeout=seconds)

    def image(self, service: str) -> str:
        return f"{self.repository}/video-analysis-{service}:{self.version}"


class Containers:
    """The services; the first of them brings the network that the others share."""

    def __init__(self, builder: Builder, banks: str) -> None:
        self._builder = builder
        self._banks = banks
        self._prefix = f"video-analysis-check-{os.getpid()}"
        self._started: list[str] = []

    def start(self, service: str) -> None:
        network = f"container:{self.name(self._started[0])}" if self._started else "none"
        settings = {f"{service.upper()}_HEALTH_PORT": str(HEALTH_PORTS[service]), **SETTINGS[service]}
        variables = [f"--env={name}={value}" for name, value in settings.items()]
        self._run("--detach", f"--name={self.name(service)}", f"--network={network}", *variables, image=service)
        self._started.append(service)

    def command_line(self, *arguments: str) -> str:
        """What `videoanalysis` prints, from the decoder's image."""
        network = f"--network=container:{self.name(self._started[0])}"
        return self._run("--rm", network, "--entrypoint=videoanalysis", image="decoder", arguments=arguments)

    def wait_until_ready(self, service: str) -> float:
        """Seconds since now."""
        started = time.monotonic()
        while time.monotonic() < started + READY_SECONDS:
            if self._python(service, IS_READY, str(HEALTH_PORTS[service])).returncode == 0:
                return time.monotonic() - started
            if self.state(service)["Status"] != "running":
                break
            time.sleep(0.5)
        raise CheckFailed(f"{service} is not ready: {self._builder('logs', self.name(service))}")

    def check_privileges(self, service: str) -> None:
        done = self._python(service, PRIVILEGES)
        if done.returncode != 0:
            raise CheckFailed(f"{service}: {done.stderr}")
        expected = {
            "command": ["python", "-m", f"services.{service}"],
            "user": "65532",
            "capabilities": 0,
            "no_new_privileges": "1",
            "writable": [],
        }
        if (found := json.loads(done.stdout)) != expected:
            raise CheckFailed(f"{service}: {found}, not {expected}")

    def terminate(self, service: str) -> float:
        """SIGTERM, until the process has ended by itself with 0; returns the seconds it took."""
        started = time.monotonic()
        self._builder("stop", f"--time={STOP_SECONDS}", self.name(service), seconds=STOP_SECONDS + 30)
        seconds = time.monotonic() - started
        if (code := self.state(service)["ExitCode"]) != 0:
            raise CheckFailed(f"{service}: exit code {code} after SIGTERM")
        return seconds

    def state(self, service: str) -> dict[str, object]:
        state: dict[str, object] = json.loads(self._builder("inspect", "--format={{json .State}}", self.name(service)))
        return state

    def remove(self) -> None:
        for service in reversed(self._started):
            self._builder.attempt("rm", "--force", self.name(service))

    def name(self, service: str) -> str:
        return f"{self._prefix}-{service}"

    def _run(self, *flags: str, image: str, arguments: Sequence[str] = ()) -> str:
        given = [*RESTRICTIONS, *self._builder.run_flags, f"--volume={self._banks}:/banks:z", *flags]
        return self._builder("run", *given, self._builder.image(image), *arguments, seconds=READY_SECONDS)

    def _python(self, service: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._builder.attempt("exec", self.name(service), "python", "-c", program, *arguments)


def check(builder: Builder) -> None:
    for service in PORTS:
        size = int(builder("image", "inspect", "--format={{.Size}}", builder.image(service)))
        print(f"{builder.image(service)}: {size / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as banks:
        # Writable for any user id of a container.
        os.chmod(banks, 0o777)
        containers = Containers(builder, banks)
        try:
            check_together(containers)
        finally:
            containers.remove()


def check_together(containers: Containers) -> None:
    for service in PORTS:
        containers.start(service)
    for service in PORTS:
        seconds = containers.wait_until_ready(service)
        containers.check_privileges(service)
        print(f"{service}: ready {seconds:.1f} s later; not root, no capabilities, nothing writable but /tmp")
    encoder = f"127.0.0.1:{PORTS['encoder']}"
    out = "/banks/default.safetensors"
    built = containers.command_line(
        "textbank", "build", TEXTS, "--name=default", f"--encoder={encoder}", f"--out={out}"
    )
    print(built)
    # Longer than the refresh interval of the decoder.
    time.sleep(2)
    address = f"127.0.0.1:{PORTS['ingress']}"
    answer = json.loads(containers.command_line("analyze", "sample://clip", f"--address={address}", "-o", "json"))
    if not answer.get("tags") or not answer.get("sceneChanges"):
        raise CheckFailed(f"sample://clip without tags or scene changes: {answer}")
    tags = ", ".join(tag["text"] for tag in answer["tags"])
    print(f"sample://clip: {answer['caption']['text']!r}; {tags}; {len(answer['sceneChanges'])} scene changes")
    for service in reversed(PORTS):
        print(f"{service}: exit code 0, {containers.terminate(service):.1f} s after SIGTERM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builder", default="podman", help="podman or docker")
    parser.add_argument(
        "--repository", default="localhost", help="where the images are named: REPOSITORY/video-analysis-…"
    )
    parser.add_argument("--version", required=True, help="tag of the images")
    parser.add_argument("--run-flags", default="", help="for every container, such as '--ulimit nofile=4096'")
    options = parser.parse_args()
    builder = Builder(options.builder, shlex.split(options.run_flags), options.repository, options.version)
    try:
        check(builder)
    except CheckFailed as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
