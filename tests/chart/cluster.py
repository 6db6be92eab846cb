"""A fake API server with the parts that `helm` reads: the available kinds, and Secrets; and helm's install into it."""

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.chart import helm, manifests
from tests.chart.kinds import built_in_kinds

_SECRET = re.compile(r"/api/v1/namespaces/([^/]+)/secrets/([^/?]+)")


@contextmanager
def cluster(
    directory: Path, *, version: str, custom_kinds: Iterable[str] = (), secrets: Iterable[dict[str, Any]] = ()
) -> Iterator[dict[str, str]]:
    """The environment with which kubectl and helm use this cluster; its kubeconfig is in `directory`."""
    answers = _discovery(version, [*built_in_kinds(version), *custom_kinds])
    present = {(secret["metadata"]["namespace"], secret["metadata"]["name"]): secret for secret in secrets}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = answers.get(path)
            if match := _SECRET.fullmatch(path):
                found = present.get((match[1], match[2]))
            elif path.endswith("/secrets"):
                found = {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
            self._answer(
                200 if found else 404,
                found or {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"},
            )

        def _answer(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = directory / "kubeconfig"
        config.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
        try:
            # What helm learns of a cluster it keeps under HOME.
            yield {"KUBECONFIG": str(config), "HOME": str(directory)}
        finally:
            server.shutdown()


def install(
    environment: dict[str, str], values: str = "local", changes: Mapping[str, Any] | None = None
) -> tuple[helm.Rendered, str]:
    """The objects and the notes of a release that is not stored."""
    options = ["--dry-run=server", "--disable-openapi-validation", "--output=json"]
    ended = helm.run("install", values, changes, environment=environment, arguments=options)
    assert ended.returncode == 0, ended.stderr
    release = json.loads(ended.stdout)
    return helm.Rendered(manifests.load(release["manifest"])), release["info"]["notes"]


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
    }


def _discovery(version: str, kinds: Iterable[str]) -> dict[str, Any]:
    by_group_version: dict[str, list[str]] = {}
    for full_name in kinds:
        group_version, _, kind = full_name.rpartition("/")
        by_group_version.setdefault(group_version, []).append(kind)
    major, minor = version.split(".")
    groups = [
        {
            "name": group_version.partition("/")[0],
            "versions": [{"groupVersion": group_version, "version": group_version.partition("/")[2]}],
            "preferredVersion": {"groupVersion": group_version, "version": group_version.partition("/")[2]},
        }
        for group_version in by_group_version
        if group_version != "v1"
    ]
    answers: dict[str, Any] = {
        "/version": {"major": major, "minor": minor, "gitVersion": f"v{version}.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for group_version, names in by_group_version.items():
        resources = [
            {
                "name": f"{kind.lower()}s".replace("policys", "policies"),
                "singularName": kind.lower(),
                "kind": kind,
                "namespaced": True,
                "verbs": ["create", "get", "list", "patch"],
            }
            for kind in names
        ]
        root = "/api" if group_version == "v1" else "/apis"
        answers[f"{root}/{group_version}"] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        }
    return answers
