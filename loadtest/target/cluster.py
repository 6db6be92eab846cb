"""Replicas in a Kubernetes cluster: what is asked for and what is ready, of each service."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadtest.sweep.samples import DESIRED, READY, SERVICES

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_COMPONENT = "app.kubernetes.io/component"
_INSTANCE = "app.kubernetes.io/instance"
_SECONDS = 5.0


class Cluster:
    """The Deployments of one namespace whose component is one of our services; of one release, if it is named.

    Needs the right to list Deployments there.
    """

    def __init__(self, client: "ApiClient", namespace: str, release: str | None = None) -> None:
        from kubernetes.client import AppsV1Api

        self._api = AppsV1Api(client)
        self._namespace = namespace
        self._selector = f"{_COMPONENT} in ({','.join(SERVICES)})" + (f",{_INSTANCE}={release}" if release else "")

    @property
    def name(self) -> str:
        return f"the Deployments of namespace {self._namespace}"

    def read(self) -> Mapping[str, float]:
        """Raises OSError, also where there is none."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            # As the API's own JSON: models refuse what a newer server may add or leave out.
            answer: Any = self._api.list_namespaced_deployment(
                self._namespace, label_selector=self._selector, _request_timeout=_SECONDS, _preload_content=False
            )
            found = json.loads(answer.data)["items"]
        except ApiException as error:
            raise OSError(f"the API server answers {error.status} {error.reason}") from error
        except HTTPError as error:
            raise OSError(f"the API server does not answer ({error})") from error
        if not found:
            raise OSError(f"none has {self._selector}")
        replicas: dict[str, float] = defaultdict(float)
        for deployment in found:
            service = deployment["metadata"]["labels"][_COMPONENT]
            replicas[f"{DESIRED}.{service}"] += deployment["spec"]["replicas"]
            # Left out while it is zero.
            replicas[f"{READY}.{service}"] += deployment.get("status", {}).get("readyReplicas", 0)
        return replicas


def client_of(context: str | None) -> "ApiClient":
    """By the kubeconfig of the environment; raises OSError."""
    from kubernetes.config import ConfigException, new_client_from_config

    try:
        client: ApiClient = new_client_from_config(config_file=os.environ.get("KUBECONFIG"), context=context)
    except ConfigException as error:
        raise OSError(f"--kube-context: {error}") from error
    return client
