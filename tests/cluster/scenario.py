"""The steps of a run: changes of a release, in order, and what is checked after each."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tests.cluster.calls import Calls, interruption
from tests.cluster.freezing_pod import FreezingPod
from tests.cluster.helm import Helm
from tests.cluster.kubernetes_api import Api
from tests.cluster.load_pod import LoadPod
from tests.cluster.release import Release
from tests.cluster.steps import Failed, Step
from tests.cluster.values import GRACE_SECONDS, Values, from_zero, own_values, upgraded, with_another_model
from tests.cluster.waiting import wait_until
from videoanalysis.scaling.cluster import Cluster
from videoanalysis.scaling.explanation import Explanation, explain
from videoanalysis.scaling.snapshot import SERVICES

# The clip is 40 s: as many chunks, each of four times the usual frames. Minutes for one encoder.
_LONG_VIDEO = {"chunk_duration_seconds": 2, "frames_per_chunk": 64}
_SAMPLE_SECONDS = 0.5
# Until a replica is ready and in use.
_BEFORE_FREEZING_SECONDS = 30.0
# Less than the six liveness probes after which a pod is restarted.
_FROZEN_SECONDS = 40.0
# As many calls of a plain channel in progress as one ingress gets without a second.
_UNARY_CALLS = 2
# One chunk, so that many calls meet the end of a pod.
_SHORT_VIDEO = {"end_seconds": 5.0}


class Scenario:
    """`patience` multiplies every time limit, for clusters that are slow to pull images or to start pods."""

    def __init__(
        self,
        helm: Helm,
        api: Api,
        release: Release,
        directory: Path,
        *,
        context: str | None,
        encoders: int,
        concurrency: int,
        patience: float,
    ) -> None:
        self._helm = helm
        self._api = api
        self._release = release
        self._own_values = directory / "own.yaml"
        self._context = context
        self._encoders = encoders
        self._concurrency = concurrency
        self._patience = patience
        self._load: LoadPod | None = None
        self._leaving = ExitStack()
        self._names = 0
        self._keda_namespace = "keda"
        self._values: Values = {}

    def steps(self) -> Sequence[Step]:
        return [
            Step("the cluster has KEDA", self.has_keda, essential=True),
            Step("install", self.install, essential=True),
            Step("every ScaledObject is Ready", self.is_ready, essential=True),
            Step("AnalyzeVideo on sample://clip", self.analyze, essential=True),
            Step(f"load: encoders 1 → {self._encoders}", self.scale_up),
            *(
                Step(f"rollout of the {service} under load, no call fails", self._rollout(service))
                for service in ("encoder", "decoder", "ingress")
            ),
            *(
                Step(f"all pods of the {service} deleted by force, no call fails", self._loss(service))
                for service in ("encoder", "decoder", "ingress")
            ),
            *(
                Step(f"a frozen {service} under load, no call fails", self._freeze(service))
                for service in ("encoder", "decoder")
            ),
            Step("another model under load, no call fails", self.change_model),
            Step("upgrade keeps the number of replicas", self.upgrade),
            Step(f"no load: encoders {self._encoders} → 1", self.scale_down),
            Step("scale explain finds nothing wrong", self.explains),
            Step("the only ingress deleted, no call of a plain channel fails", self.delete_only_ingress),
            Step("rollout of the only ingress, no call of a plain channel fails", self.roll_out_only_ingress),
            Step("a draining ingress keeps reporting the encoders' demand", self.drain),
            Step("encoders to 0, and from 0 for one call", self.from_zero),
            Step("uninstall leaves nothing", self.uninstall),
        ]

    def close(self) -> None:
        self._leaving.close()

    def has_keda(self) -> str:
        service = self._api.find("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io")
        if service is None or self._api.find("/apis/keda.sh/v1alpha1") is None:
            raise Failed("there is no KEDA in this cluster: install 2.20.1 or newer")
        conditions = {each["type"]: each for each in (service.get("status") or {}).get("conditions") or ()}
        available = conditions.get("Available", {"status": "Unknown"})
        if available["status"] != "True":
            raise Failed(f"KEDA's metrics API is not available: {available.get('reason')} {available.get('message')}")
        self._keda_namespace = service["spec"]["service"]["namespace"]
        version = self._api.get("/version")["gitVersion"]
        return f"Kubernetes {version}, KEDA in namespace {self._keda_namespace}"

    def install(self) -> str:
        self._values = own_values(self._keda_namespace, self._encoders)
        self._deploy()
        return f"namespace {self._release.namespace}, release {self._release.name}"

    def is_ready(self) -> str:
        return wait_until(
            "every ScaledObject to be Ready", self._release.has_scaled_objects_ready, self._seconds(120), every=2
        )

    def analyze(self) -> str:
        return self._one_call("analyze", self._seconds(300))

    def scale_up(self) -> str:
        self._load = self._leaving.enter_context(LoadPod(self._release, "load", concurrency=self._concurrency))
        began = time.monotonic()
        wait_until(
            f"{self._encoders} encoders",
            lambda: self._release.has_replicas("encoder", self._encoders, self._encoders),
            self._seconds(300),
        )
        # One HPA period, and the start of a pod.
        taken = time.monotonic() - began
        return f"{taken:.0f} s from the first call to {self._encoders} ready; {self._no_call_failed(0.0)}"

    def change_model(self) -> str:
        load, began = self._loaded(), time.time()
        old = load.calls().models
        with_another_model(self._values)
        self._deploy()
        self._wait_for_rollout("encoder")

        def is_served() -> tuple[bool, str]:
            new = load.calls().models - old
            return bool(new), f"models so far: {', '.join(sorted(old | new))}"

        wait_until("an answer of the new model", is_served, self._seconds(120))
        return self._no_call_failed(began)

    def upgrade(self) -> str:
        before = self._release.deployment("encoder")["spec"]["replicas"]
        revision = self._helm.revision()
        upgraded(self._values, datetime.now(UTC).isoformat())
        began = time.time()
        self._deploy()
        after = self._release.deployment("encoder")["spec"]["replicas"]
        now = self._helm.revision()
        if now <= revision:
            raise Failed(f"helm made no new revision: it is still {now}")
        if before > 1 and after == 1:
            raise Failed(f"the upgrade put the encoders from {before} to 1: the Deployment carries `replicas`")
        for service in SERVICES:
            self._wait_for_rollout(service)
        return f"{before} encoders before, {after} after, revision {now}; {self._no_call_failed(began)}"

    def scale_down(self) -> str:
        calls = self._load.calls() if self._load else Calls(())
        self._leaving.close()
        self._load = None
        state = wait_until(
            "one encoder", lambda: self._release.has_replicas("encoder", 1, 1), self._seconds(600), every=2
        )
        return f"{state}; under load in all: {calls.summary()}"

    def explains(self) -> str:
        def is_healthy() -> tuple[bool, str]:
            found = [
                f"{each.service}: {finding.text}"
                for each in self.explanations()
                for finding in each.findings
                if finding.is_wrong
            ]
            return not found, "; ".join(found) or "all three services healthy"

        return wait_until("scale explain to find nothing wrong", is_healthy, self._seconds(120), every=5)

    def drain(self) -> str:
        long = LoadPod(self._release, self._name("long"), calls=1, timeout_seconds=GRACE_SECONDS, **_LONG_VIDEO)
        with long:
            pod = self._ingress_of_the_video()
            self._api.delete(self._release.path("api/v1", "pods", pod))
            samples: list[tuple[float, float]] = []
            listed = 0

            def is_over() -> tuple[bool, str]:
                gauges = self._release.gauges("encoder")
                nonlocal listed
                listed += pod in gauges
                samples.append((time.time(), sum(gauges.values())))
                done = long.calls().calls
                return bool(done), f"{len(samples)} samples, the last {samples[-1][1]:g}; no end of the call yet"

            wait_until("the call at the draining ingress to end", is_over, GRACE_SECONDS, every=_SAMPLE_SECONDS)
            (call,) = long.calls().calls
        if call.error or call.retries:
            raise Failed(f"the call did not end where it began: {call.error or 'the client had to repeat it'}")
        if problem := interruption(samples, call.ended):
            raise Failed(f"{problem}; {pod} was listed in {listed} of {len(samples)} samples")
        self._wait_for_rollout("ingress")
        lowest = min(value for at, value in samples if at <= call.ended)
        lasted = call.ended - samples[0][0]
        return f"{len(samples)} samples over {lasted:.0f} s, never under {lowest:g}; the call ended well"

    def delete_only_ingress(self) -> str:
        return self._plain_calls(lambda: self._release.delete_all("ingress", by_force=False))

    def roll_out_only_ingress(self) -> str:
        return self._plain_calls(lambda: self._release.restart("ingress"))

    def from_zero(self) -> str:
        from_zero(self._values)
        self._deploy()
        wait_until("no encoder", lambda: self._release.has_replicas("encoder", 0, 0), self._seconds(300), every=2)
        asleep = self._one_call("from-zero", self._seconds(300))
        replicas = self._release.deployment("encoder")["spec"]["replicas"]
        return f"{asleep}; {replicas} encoders after it"

    def uninstall(self) -> str:
        self._helm.uninstall(self._long())

        def is_gone() -> tuple[bool, str]:
            left = self._release.remnants()
            return not left, f"still there: {', '.join(left)}" if left else "nothing is left"

        return wait_until("everything to be gone", is_gone, self._long(), every=2)

    def explanations(self) -> Sequence[Explanation]:
        with Cluster(self._context, self._release.namespace) as cluster:
            return explain(cluster.snapshot(release=self._release.name))

    def _rollout(self, service: str) -> Callable[[], str]:
        def run() -> str:
            self._loaded()
            began = time.time()
            self._release.restart(service)
            return f"{self._wait_for_rollout(service)}; {self._no_call_failed(began)}"

        return run

    def _loss(self, service: str) -> Callable[[], str]:
        def run() -> str:
            self._loaded()
            began = time.time()
            lost = self._release.delete_all(service, by_force=True)
            wait_until(
                f"other pods of the {service}",
                lambda: self._release.has_replicas(service, 1, sys.maxsize),
                self._seconds(300),
            )
            return f"{len(lost)} deleted; {self._no_call_failed(began)}"

        return run

    def _freeze(self, service: str) -> Callable[[], str]:
        def run() -> str:
            self._loaded()
            after = self._seconds(_BEFORE_FREEZING_SECONDS)
            name = self._name(f"freezing-{service}")
            with FreezingPod(self._release, name, service, after=after, seconds=_FROZEN_SECONDS) as pod:
                wait_until(f"pod {name} to be ready", pod.is_ready, after)
                wait_until(f"pod {name} to be frozen", pod.is_frozen, after + 30)
                wait_until(f"pod {name} to resume", pod.has_resumed, _FROZEN_SECONDS + 30)
                note = self._no_call_failed(pod.frozen_at)
                longest = max(call.ended - call.began for call in self._loaded().calls().since(pod.frozen_at).calls)
            return f"for {_FROZEN_SECONDS:.0f} s; {note}; the longest took {longest:.1f} s"

        return run

    def _plain_calls(self, end_the_only_ingress: Callable[[], object]) -> str:
        wait_until(
            "one ingress", lambda: self._release.has_replicas("ingress", 1, 1), self._seconds(GRACE_SECONDS), every=2
        )
        with LoadPod(
            self._release,
            self._name("plain"),
            kind="unary",
            concurrency=_UNARY_CALLS,
            timeout_seconds=120,
            **_SHORT_VIDEO,
        ) as load:
            wait_until("an answer", lambda: (bool(load.calls().calls), "none yet"), self._seconds(120))
            end_the_only_ingress()
            self._wait_for_rollout("ingress")
            return self._no_call_failed(0.0, load)

    def _wait_for_rollout(self, service: str) -> str:
        return wait_until(f"the rollout of the {service}", lambda: self._release.has_rolled_out(service), self._long())

    def _no_call_failed(self, began: float, load: LoadPod | None = None) -> str:
        """Of those that ended since; waits for some that began after what was done, too."""
        load, done = load or self._loaded(), time.time()

        def are_enough() -> tuple[bool, str]:
            after = [call for call in load.calls().calls if call.began >= done]
            return len(after) >= load.concurrency, f"{len(after)} calls began and ended after it"

        wait_until("calls after it", are_enough, self._seconds(180), every=2)
        calls = load.calls().since(began)
        if calls.failed:
            raise Failed(calls.summary())
        return calls.summary()

    def _ingress_of_the_video(self) -> str:
        """The ingress pod at which the one video in progress is."""
        found: list[str] = []

        def is_somewhere() -> tuple[bool, str]:
            gauges = self._release.gauges("encoder")
            found[:] = [pod for pod, value in gauges.items() if value > 0]
            return len(found) == 1, f"gauges of the ingress pods: {gauges}"

        wait_until("the video to be in progress at one ingress", is_somewhere, self._seconds(60), every=0.5)
        return found[0]

    def _one_call(self, name: str, seconds: float) -> str:
        with LoadPod(self._release, self._name(name), calls=1, timeout_seconds=seconds) as load:
            wait_until("the answer", lambda: (bool(load.calls().calls), "no answer yet"), seconds + 30)
            (call,) = load.calls().calls
        if call.error:
            raise Failed(call.error)
        return f"answered in {call.ended - call.began:.1f} s by model {call.model[:19]}"

    def _deploy(self) -> None:
        self._own_values.write_text(yaml.safe_dump(self._values))
        self._helm.deploy(self._own_values, self._long())

    def _loaded(self) -> LoadPod:
        if self._load is None:
            raise Failed("there is no load: it could not be started")
        return self._load

    def _name(self, name: str) -> str:
        self._names += 1
        return f"{name}-{self._names}"

    def _seconds(self, seconds: float) -> float:
        return seconds * self._patience

    def _long(self) -> float:
        """What an ingress may take that has videos to finish."""
        return self._seconds(GRACE_SECONDS + 120)
