"""The release in the cluster: its objects, replica counts and gauges."""

from datetime import UTC, datetime

from tests.cluster.kubernetes_api import Api, ApiError, Json
from tests.cluster.steps import Failed
from videoanalysis.scaling import objects
from videoanalysis.scaling.snapshot import SERVICES

_INSTANCE = "app.kubernetes.io/instance"
_COMPONENT = "app.kubernetes.io/component"


class Release:
    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self.api = api
        self.namespace = namespace
        self.name = name

    def path(self, group: str, plural: str, name: str = "") -> str:
        return f"/{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def deployment(self, service: str) -> Json:
        selector = f"{_INSTANCE}={self.name},{_COMPONENT}={service}"
        found = self.api.list(self.path("apis/apps/v1", "deployments"), labelSelector=selector)
        if not found:
            raise Failed(f"there is no Deployment with {selector} in namespace {self.namespace}")
        return found[0]

    def pods(self, service: str) -> list[Json]:
        selector = f"{_INSTANCE}={self.name},{_COMPONENT}={service}"
        return self.api.list(self.path("api/v1", "pods"), labelSelector=selector)

    def scaled_objects(self) -> list[Json]:
        selector = f"{_INSTANCE}={self.name}"
        return self.api.list(self.path("apis/keda.sh/v1alpha1", "scaledobjects"), labelSelector=selector)

    def has_scaled_objects_ready(self) -> tuple[bool, str]:
        ready = {}
        for item in self.scaled_objects():
            condition = objects.conditions(item).get("Ready")
            reason = "no condition yet" if condition is None else f"{condition.reason}: {condition.message}"
            ready[item["metadata"]["name"]] = True if condition is not None and condition.is_true else reason
        state = ", ".join(f"{name}: {'Ready' if reason is True else reason}" for name, reason in ready.items())
        return len(ready) == len(SERVICES) and all(reason is True for reason in ready.values()), state or "none"

    def has_replicas(self, service: str, least: int, most: int) -> tuple[bool, str]:
        """Whether all wanted replicas are ready and no other pods are terminating."""
        wanted = self.deployment(service)["spec"]["replicas"]
        pods = self.pods(service)
        # The Deployment's own number is late.
        ready = sum(objects.pod(pod).is_ready for pod in pods)
        state = f"{wanted} replicas wanted, {ready} ready, {len(pods)} pods"
        return least <= wanted <= most and ready == wanted == len(pods), state

    def restart(self, service: str) -> None:
        """As `kubectl rollout restart`."""
        stamp = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat()}
        path = self.path("apis/apps/v1", "deployments", self.deployment(service)["metadata"]["name"])
        self.api.patch(path, {"spec": {"template": {"metadata": {"annotations": stamp}}}})

    def delete_all(self, service: str, *, by_force: bool) -> list[str]:
        """Deletes all pods of a service, and returns their names; by force they get no time to end."""
        names = [pod["metadata"]["name"] for pod in self.pods(service)]
        for name in names:
            self.api.delete(self.path("api/v1", "pods", name), **({"gracePeriodSeconds": "0"} if by_force else {}))
        return names

    def has_rolled_out(self, service: str) -> tuple[bool, str]:
        """Whether all pods are new and ready, and the old ones have terminated."""
        item = self.deployment(service)
        status, wanted = item["status"], item["spec"]["replicas"]
        counts = {key: status.get(key) or 0 for key in ("updatedReplicas", "replicas", "readyReplicas")}
        leaving = [pod["metadata"]["name"] for pod in self.pods(service) if "deletionTimestamp" in pod["metadata"]]
        state = f"{counts['updatedReplicas']} of {wanted} new, {counts['readyReplicas']} ready, {len(leaving)} leaving"
        is_seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
        return is_seen and set(counts.values()) == {wanted} and not leaving, state

    def gauges(self, service: str) -> dict[str, float]:
        """The gauge by ingress pod, for the pods of the scaling Service, which KEDA reads."""
        scaling = f"{self.deployment('ingress')['metadata']['name']}-scaling"
        slices = self.api.list(
            self.path("apis/discovery.k8s.io/v1", "endpointslices"),
            labelSelector=f"kubernetes.io/service-name={scaling}",
        )
        endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or ()]
        if not endpoints:
            raise Failed(f"the Service {scaling} has no endpoints")
        ports = {pod["metadata"]["name"]: objects.scaling_port(pod) for pod in self.pods("ingress")}
        found: dict[str, float] = {}
        problems = []
        for endpoint in endpoints:
            pod = (endpoint.get("targetRef") or {}).get("name") or ""
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            path = self.path("api/v1", "pods", f"{pod}:{ports.get(pod)}/proxy/scaling")
            try:
                found[pod] = objects.depths(self.api.text(path, attempts=1, seconds=3))[service]
            except ApiError as error:
                problems.append(str(error))
        if not found:
            raise Failed(
                "the API server cannot read the scaling port of any ingress pod; if network policies keep it out, use "
                f"--set networkPolicy.enabled=false: {problems[0] if problems else 'no endpoint is ready'}"
            )
        return found

    def remnants(self) -> list[str]:
        """Objects that should not exist after the uninstall."""
        kinds = [
            ("apis/apps/v1", "deployments"),
            ("api/v1", "pods"),
            ("api/v1", "services"),
            ("apis/keda.sh/v1alpha1", "scaledobjects"),
            ("apis/autoscaling/v2", "horizontalpodautoscalers"),
        ]
        return [
            f"{plural}/{item['metadata']['name']}"
            for group, plural in kinds
            for item in self.api.list(self.path(group, plural))
            if (item["metadata"].get("labels") or {}).get(_INSTANCE) == self.name
            or plural == "horizontalpodautoscalers"
        ]

    def warnings(self, most: int = 10) -> list[str]:
        """The latest warning events, for the diagnosis of a failed step."""
        events = self.api.list(self.path("api/v1", "events"), fieldSelector="type=Warning")
        events.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
        return [
            f"{each['involvedObject']['kind']} {each['involvedObject'].get('name')}: {each.get('reason')}: "
            f"{each.get('message')}"
            for each in events[-most:]
        ]
