"""A fake Kubernetes API server: lists of objects, the scaling endpoints of pods, KEDA's metric."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

TOKEN = "let-me-in"
LISTS = {
    "/apis/apps/v1/namespaces/videos/deployments": "Deployment",
    "/apis/autoscaling/v2/namespaces/videos/horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "/apis/keda.sh/v1alpha1/namespaces/videos/scaledobjects": "ScaledObject",
    "/api/v1/namespaces/videos/pods": "Pod",
    "/api/v1/namespaces/videos/events": "Event",
}
_SCALING = re.compile(r"/api/v1/namespaces/videos/pods/([\w-]+:\d+)/proxy/scaling")
_METRIC = re.compile(r"/apis/external.metrics.k8s.io/v1beta1/namespaces/videos/(.+)")


class ApiServer:
    """`objects` by kind, `scaling` by pod and port: what its endpoint answers."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LISTS.values()}
        self.absent: set[str] = set()
        self.refused: set[str] = set()
        self.scaling: dict[str, str] = {}
        self.metrics: dict[str, str] = {}
        self.requested: list[str] = []
        self.methods: set[str] = set()
        self.url = ""

    def kubeconfig(self, directory: Path, namespace: str = "videos", server: str | None = None) -> Path:
        """With the contexts `here`, the current one, and `elsewhere`, in which there is nothing."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "one", "cluster": {"server": server or self.url}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "one", "user": "me", "namespace": namespace}},
                {"name": "elsewhere", "context": {"cluster": "one", "user": "me", "namespace": "empty"}},
            ],
            "current-context": "here",
        }
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    def answer(self, path: str, query: Mapping[str, str]) -> tuple[int, str]:
        if path.replace("/empty/", "/videos/") in LISTS:
            return self._list(path, query)
        if match := _SCALING.fullmatch(path):
            text = self.scaling.get(match[1])
            return (
                (200, text)
                if text is not None
                else _status(503, "error trying to reach service: dial tcp: i/o timeout")
            )
        if (match := _METRIC.fullmatch(path)) and (value := self.metrics.get(query["labelSelector"])) is not None:
            item = {"metricName": unquote(match[1]), "timestamp": "2026-05-04T10:00:00Z", "value": value}
            return 200, json.dumps({"kind": "ExternalMetricValueList", "items": [item]})
        return _status(404, f"{path} is not here")

    def _list(self, path: str, query: Mapping[str, str]) -> tuple[int, str]:
        kind = LISTS[path.replace("/empty/", "/videos/")]
        if kind in self.absent:
            return 404, "404 page not found\n"
        if kind in self.refused:
            return _status(403, f'{kind} is forbidden: User "me" cannot list resource')
        found = [] if "/empty/" in path else [item for item in self.objects[kind] if _matches(item, query)]
        return 200, json.dumps({"kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": found})


def _matches(item: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    labels = item["metadata"].get("labels") or {}
    for term in re.split(r",(?![^(]*\))", query.get("labelSelector", "")):
        if match := re.fullmatch(r"(\S+) in \((.*)\)", term):
            if labels.get(match[1]) not in match[2].split(","):
                return False
        elif term and labels.get(term.partition("=")[0]) != term.partition("=")[2]:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        field, _, value = term.partition("=")
        found: Any = item
        for part in field.split("."):
            found = found[part]
        if found != value:
            return False
    return True


def _status(code: int, message: str) -> tuple[int, str]:
    return code, json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": code})


@contextmanager
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            server.requested.append(parts.path)
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                code, body = server.answer(parts.path, dict(parse_qsl(parts.query)))
            else:
                code, body = _status(401, "Unauthorized")
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
