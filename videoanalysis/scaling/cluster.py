"""Reads a release from the API server with the rights of the kubeconfig's user; changes nothing.

Needs `get` and `list` on deployments, pods, events, horizontalpodautoscalers and scaledobjects, and `get` on
pods/proxy, through which the gauges of the ingress pods are read. KEDA's metric (external.metrics.k8s.io) is read where
it is allowed.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from urllib3.exceptions import HTTPError

from videoanalysis.scaling import objects
from videoanalysis.scaling.objects import Json
from videoanalysis.scaling.snapshot import SERVICES, Gauges, Snapshot, Workload

_ANSWER_SECONDS = 10.0
# The scaling endpoint answers from memory: a pod that takes longer is unreachable.
_GAUGE_SECONDS = 4.0
_CONCURRENCY = 8

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_INSTANCE = "app.kubernetes.io/instance"
_COMPONENT = "app.kubernetes.io/component"


class ClusterError(OSError):
    """The cluster cannot be read, or has no release; the message names the remedy."""


class Cluster:
    """One namespace of a cluster: of the kubeconfig's `context`, or of the pod's own cluster where there is none.

    A `namespace` of None is that of the context, a `kubeconfig` of None that of the environment.
    """

    def __init__(
        self, context: str | None = None, namespace: str | None = None, kubeconfig: Path | None = None
    ) -> None:
        configuration = Configuration()
        configuration.retries = False
        try:
            default = _load(configuration, context, str(kubeconfig) if kubeconfig else None)
        except config.ConfigException as error:
            raise ClusterError(f"no cluster: {error}; name one with KUBECONFIG and --context") from error
        self.namespace = namespace or default
        self.host: str = configuration.host
        self._client = ApiClient(configuration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def snapshot(self, services: Iterable[str] = SERVICES, release: str | None = None) -> Snapshot:
        """Raises ClusterError, also where several releases match."""
        deployments = self.deployments(release)
        release = next(iter(deployments.values()))["metadata"]["labels"][_INSTANCE]
        hpas = _by_target(self._list("apis/autoscaling/v2", "horizontalpodautoscalers"))
        scaled_objects = _by_target(self._list("apis/keda.sh/v1alpha1", "scaledobjects", absent_is_empty=True))
        pods = {service: self._pods(deployments[service]) for service in {*services, "ingress"} & {*deployments}}
        ingress_pods = [pod for pod in pods.get("ingress", ()) if pod["status"].get("phase") == "Running"]
        before = self._gauges(ingress_pods)
        workloads = [
            self._workload(service, deployment, pods[service], hpas, scaled_objects)
            for service, deployment in deployments.items()
            if service in services
        ]
        return Snapshot(
            at=datetime.now(UTC),
            namespace=self.namespace,
            release=release,
            workloads=tuple(workloads),
            gauges=tuple(self._gauges(ingress_pods)),
            sums_before={
                service: sum(each.depths[service] for each in before if each.depths is not None)
                for service in SERVICES
                if any(each.depths is not None for each in before)
            },
        )

    def deployments(self, release: str | None = None) -> dict[str, Json]:
        """The Deployments of one release by service. Raises ClusterError, also where several releases match."""
        selector = f"{_COMPONENT} in ({','.join(SERVICES)})" + (f",{_INSTANCE}={release}" if release else "")
        found: defaultdict[str, dict[str, Json]] = defaultdict(dict)
        for item in self._list("apis/apps/v1", "deployments", labelSelector=selector):
            labels = item["metadata"]["labels"]
            found[labels.get(_INSTANCE, "")][labels[_COMPONENT]] = item
        complete = {name: items for name, items in found.items() if set(items) == set(SERVICES)}
        if len(complete) == 1:
            items = next(iter(complete.values()))
            return {service: items[service] for service in SERVICES}
        if complete:
            names = ", ".join(sorted(complete))
            raise ClusterError(f"several releases in namespace {self.namespace}: {names}; name one with --release")
        named = f" of release {release}" if release else ""
        raise ClusterError(
            f"no Deployments of ingress, encoder and decoder{named} in namespace {self.namespace} of {self.host}; "
            "--namespace, --context and --release say where to look"
        )

    def _workload(
        self,
        service: str,
        deployment: Json,
        pods: Sequence[Json],
        hpas: dict[str, Json],
        scaled_objects: dict[str, Json],
    ) -> Workload:
        name, status = deployment["metadata"]["name"], deployment.get("status") or {}
        existing = status.get("replicas") or 0
        hpa, scaled = hpas.get(name), scaled_objects.get(name)
        unable = objects.conditions(deployment).get("ReplicaFailure")
        return Workload(
            service=service,
            deployment=name,
            replicas=requested_replicas(deployment),
            existing=existing,
            ready=status.get("readyReplicas") or 0,
            hpa=objects.hpa(hpa, existing, self._events(hpa)) if hpa else None,
            scaled_object=objects.scaled_object(scaled, self._events(scaled)) if scaled else None,
            pods=tuple(objects.pod(pod, () if _is_ready(pod) else self._events(pod)) for pod in pods),
            metric_now=self._metric(hpa, scaled) if hpa and scaled else None,
            replica_failure=unable.message if unable is not None and unable.is_true else "",
        )

    def _pods(self, deployment: Json) -> list[Json]:
        labels = deployment["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        items = self._list("api/v1", "pods", labelSelector=selector)
        return sorted(
            (pod for pod in items if pod["status"].get("phase") != "Succeeded"), key=lambda pod: pod["metadata"]["name"]
        )

    def _events(self, item: Json) -> list[Json]:
        selector = f"involvedObject.kind={item['kind']},involvedObject.name={item['metadata']['name']}"
        return self._list("api/v1", "events", fieldSelector=selector)

    def _metric(self, hpa: Json, scaled: Json) -> float | None:
        """The sum that KEDA serves to the HPA now."""
        names = objects.metric_names(hpa)
        if not names:
            return None
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{self.namespace}/{names[0]}"
        try:
            answer = self._get(path, {"labelSelector": f"scaledobject.keda.sh/name={scaled['metadata']['name']}"})
            return sum(objects.quantity(each["value"]) for each in json.loads(answer)["items"])
        except (ApiException, HTTPError, ValueError, LookupError):
            # The conditions of the HPA and of the ScaledObject state the reason.
            return None

    def _gauges(self, pods: Sequence[Json]) -> list[Gauges]:
        if not pods:
            return []
        with ThreadPoolExecutor(min(_CONCURRENCY, len(pods))) as threads:
            return list(threads.map(self._gauges_of, pods))

    def _gauges_of(self, pod: Json) -> Gauges:
        name, is_draining = pod["metadata"]["name"], "deletionTimestamp" in pod["metadata"]
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}:{objects.scaling_port(pod)}/proxy/scaling"
        try:
            return Gauges(name, is_draining, objects.depths(self._get(path, seconds=_GAUGE_SECONDS)))
        except ApiException as error:
            return Gauges(name, is_draining, None, f"{error.status} {_message(error)}")
        except HTTPError:
            return Gauges(name, is_draining, None, f"no answer within {_GAUGE_SECONDS:.0f} s")
        except ValueError as error:
            return Gauges(name, is_draining, None, str(error))

    def _list(self, group: str, plural: str, *, absent_is_empty: bool = False, **query: str) -> list[Json]:
        try:
            answer = json.loads(self._get(f"/{group}/namespaces/{self.namespace}/{plural}", query))
        except ApiException as error:
            if absent_is_empty and error.status == HTTPStatus.NOT_FOUND:
                return []
            if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise ClusterError(
                    f"{error.status} {_message(error)}: you need get and list on {plural} in namespace "
                    f"{self.namespace} of {self.host}"
                ) from error
            raise ClusterError(f"the API server at {self.host} answers {error.status} {_message(error)}") from error
        except HTTPError as error:
            raise ClusterError(f"the API server at {self.host} cannot be reached: {error}") from error
        except ValueError as error:
            raise ClusterError(f"{self.host} is no API server: {error}") from error
        # Items of a list carry no kind.
        kind = (answer.get("kind") or "").removesuffix("List")
        return [{"kind": kind, **item} for item in answer.get("items") or ()]

    def _get(
        self, path: str, query: Mapping[str, str] = MappingProxyType({}), *, seconds: float = _ANSWER_SECONDS
    ) -> str:
        request = self._client.param_serialize(
            "GET",
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json, */*"},
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request, _request_timeout=seconds)
        body: bytes = response.read()
        if not 200 <= response.status < 300:
            raise ApiException(response.status, response.reason, body=body.decode(errors="replace"))
        return body.decode(errors="replace")


def _load(configuration: Any, context: str | None, kubeconfig: str | None) -> str:
    """Fill `configuration` with the address and credentials of the cluster; return the namespace."""
    try:
        config.load_kube_config(kubeconfig, context, configuration)
        contexts, active = config.list_kube_config_contexts(kubeconfig)
        chosen = active if context is None else next(each for each in contexts if each["name"] == context)
        return str(chosen["context"].get("namespace") or "default")
    except config.ConfigException:
        if context is not None or kubeconfig is not None:
            raise
        try:
            config.load_incluster_config(configuration)
            return _NAMESPACE_FILE.read_text().strip()
        except config.ConfigException:
            pass
        raise


def _by_target(items: Iterable[Json]) -> dict[str, Json]:
    """By the name of the Deployment that each scales."""
    return {
        item["spec"]["scaleTargetRef"]["name"]: item
        for item in items
        if item["spec"]["scaleTargetRef"].get("kind", "Deployment") == "Deployment"
    }


def requested_replicas(deployment: Json) -> int:
    """The API defaults a Deployment without replicas to one."""
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else replicas


def _is_ready(pod: Json) -> bool:
    ready = objects.conditions(pod).get("Ready")
    return ready is not None and ready.is_true is True


def _message(error: Any) -> str:
    """The message of a Status object, otherwise the body."""
    try:
        message = json.loads(error.body)["message"]
    except (ValueError, LookupError, TypeError):
        message = error.body or error.reason or ""
    return " ".join(str(message).split())[:300]
