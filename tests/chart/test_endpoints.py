"""Network policies let pods reach the host and the port of every URL among their values."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chart import kinds, umbrella, value_space
from tests.chart.helm import KUBERNETES, Rendered, complaint, render

EVERYWHERE = {"ipBlock 0.0.0.0/0", "ipBlock ::/0"}
# URL → the peers and the port that must be open.
ENDPOINTS: dict[str, tuple[set[str], int]] = {
    "https://s3.example.com": (EVERYWHERE, 443),
    "http://s3.example.com": (EVERYWHERE, 80),
    "https://s3.example.com:9443": (EVERYWHERE, 9443),
    "https://s3.example.com:9443/prefix/7": (EVERYWHERE, 9443),
    "https://s3.example.com/prefix:9000": (EVERYWHERE, 443),
    "https://s3.example.com?port=:9000": (EVERYWHERE, 443),
    "https://user:pass@s3.example.com": (EVERYWHERE, 443),
    "https://user:9000@s3.example.com:9443/": (EVERYWHERE, 9443),
    "https://us%40er:p%zz@s3.example.com/%zz": (EVERYWHERE, 443),
    "http://10.1.2.3": ({"ipBlock 10.1.2.3/32"}, 80),
    "http://10.1.2.3:9000": ({"ipBlock 10.1.2.3/32"}, 9000),
    "https://10.1.2.3/": ({"ipBlock 10.1.2.3/32"}, 443),
    "https://[fd00::7]": ({"ipBlock fd00::7/128"}, 443),
    "http://[fd00::7]:9000/x": ({"ipBlock fd00::7/128"}, 9000),
    "http://[::1]:9000": ({"ipBlock ::1/128"}, 9000),
    "http://minio:9000": (EVERYWHERE | {"pods of the namespace"}, 9000),
    "http://minio.storage:9000": (EVERYWHERE | {"namespace storage"}, 9000),
    "http://minio.storage.svc": (EVERYWHERE | {"namespace storage"}, 80),
    "http://minio.5678.svc.cluster.local:9000": (EVERYWHERE | {"namespace 5678"}, 9000),
}


def peer(item: dict[str, Any]) -> str:
    if "ipBlock" in item:
        return f"ipBlock {item['ipBlock']['cidr']}"
    if "namespaceSelector" in item:
        return f"namespace {item['namespaceSelector']['matchLabels']['kubernetes.io/metadata.name']}"
    return "pods of the namespace" if item["podSelector"] == {} else "own pods"


def opened(policy: dict[str, Any]) -> list[tuple[frozenset[str], int]]:
    """The peers and ports that the pods of a policy may reach."""
    return [
        (frozenset(map(peer, rule.get("to", []))), port["port"])
        for rule in policy["spec"]["egress"]
        for port in rule["ports"]
    ]


# The values that hold an URL, and the components whose pods use it.
PLACES: dict[str, tuple[Callable[[str], dict[str, Any]], set[str]]] = {
    "s3.endpointUrl": (lambda url: {"s3": {"endpointUrl": url}}, {"ingress", "decoder", "textbank"}),
    "model.download.endpoint": (lambda url: {"model": {"download": {"endpoint": url}}}, {"encoder"}),
    "a variable of all pods": (
        lambda url: {"pods": {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": url}]}},
        {"ingress", "encoder", "decoder", "textbank", "test"},
    ),
    "tracing.endpoint": (lambda url: {"tracing": {"endpoint": url}}, {"ingress", "encoder", "decoder"}),
    "a variable of one component": (
        lambda url: {"encoder": {"extraEnv": [{"name": "HTTPS_PROXY", "value": url}]}},
        {"encoder"},
    ),
}


@pytest.fixture(scope="module")
def rendered_by_url(tmp_path_factory) -> dict[str, Rendered]:
    changes = {f"a{number}": PLACES["s3.endpointUrl"][0](url) for number, url in enumerate(ENDPOINTS)}
    rendered = umbrella.render(tmp_path_factory.mktemp("umbrella"), changes, set_name="gpu")
    return dict(zip(ENDPOINTS, (rendered[alias] for alias in changes), strict=True))


@pytest.mark.parametrize("url", ENDPOINTS)
def test_the_host_and_the_port_of_an_url_are_open(rendered_by_url, url):
    peers, port = ENDPOINTS[url]
    policies = rendered_by_url[url].of_kind("NetworkPolicy")
    for component in PLACES["s3.endpointUrl"][1]:
        (policy,) = (item for name, item in policies.items() if str(name).endswith(f"-{component}"))
        assert (frozenset(peers), port) in opened(policy), component
    assert [problem for item in policies.values() for problem in kinds.problems(item, KUBERNETES[-1])] == []


@pytest.mark.parametrize("place", PLACES)
def test_an_url_is_open_to_the_pods_that_have_it_and_to_no_other(place):
    change, components = PLACES[place]
    rendered = render("gpu", change("http://10.1.2.3:9000"))
    found = {
        component
        for component in ("ingress", "encoder", "decoder", "textbank", "test")
        if (frozenset({"ipBlock 10.1.2.3/32"}), 9000) in opened(rendered.one("NetworkPolicy", component))
    }
    assert found == components


def test_the_keys_of_tokens_are_open_to_the_ingress():
    jwt = {"keysUrl": "https://issuer.example.com:8444/keys", "issuer": "i", "audience": "a"}
    rendered = render("gpu", {"authentication": {"jwt": jwt}})
    assert (frozenset(EVERYWHERE), 8444) in opened(rendered.one("NetworkPolicy", "ingress"))


@pytest.mark.parametrize(
    ("name", "value", "port"),
    [
        ("HTTP_PROXY", "proxy.example.com:3128", 3128),
        ("https_proxy", "http://proxy.example.com", 80),
        ("ALL_PROXY", "socks5://proxy.example.com", 1080),
    ],
)
def test_a_proxy_may_have_no_scheme(name, value, port):
    rendered = render("local", {"pods": {"extraEnv": [{"name": name, "value": value}]}})
    assert (frozenset(EVERYWHERE), port) in opened(rendered.one("NetworkPolicy", "ingress"))


def test_variables_that_hold_no_url_are_no_endpoints():
    def rules(changes: dict[str, Any]) -> list[tuple[frozenset[str], int]]:
        return opened(render("local", changes).one("NetworkPolicy", "ingress"))

    variables = [
        {"name": "NO_PROXY", "value": "10.0.0.0/8,.svc"},
        {"name": "NOTE", "value": "see https://example.com:77"},
        {"name": "BUCKET", "value": "s3://bucket:77/x"},
        {"name": "NO_ADDRESS", "value": "http://[5]:1"},
        {"name": "NO_HOST", "value": "http://a b:1"},
        {"name": "NO_PORT", "value": "http://host:abc"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    assert rules({"pods": {"extraEnv": variables}}) == rules({})


@pytest.mark.parametrize(
    "text", ["http://host:abc", "http://", "http://[::1", "host:9000", "ftp://host", "http://ho st", "http://-x"]
)
def test_what_is_no_url_is_invalid(text):
    assert not value_space.accepts(value_space.resolved({"$ref": "#/definitions/urlOrEmpty"}), text)


def test_an_url_that_is_refused_is_named():
    assert "at '/s3/endpointUrl': 'ftp://host' does not match" in complaint(
        "local", {"s3": {"endpointUrl": "ftp://host"}}
    )
    changes = {
        "s3": {"endpointUrl": "http://user:70000@host:65536/x"},
        "model": {"source": "download", "download": {"endpoint": "http://[5]:1"}},
        "autoscaling": {"prometheus": {"serverAddress": "http://[1:2:3:4:5:6:7:8:9]:0"}},
    }
    message = complaint("local", changes)
    for line in (
        "s3.endpointUrl: the port must be 1 to 65535, not 65536.",
        "model.download.endpoint: 5 is no IPv6 address.",
        "autoscaling.prometheus.serverAddress: the port must be 1 to 65535, not 0.",
        "autoscaling.prometheus.serverAddress: 1:2:3:4:5:6:7:8:9 is no IPv6 address.",
    ):
        assert f"  {line}\n" in message


def test_no_list_of_addresses_or_ports_opens_everything_when_it_is_empty():
    for empty in ({"external": []}, {"externalPorts": []}):
        rendered = render("gpu", {"networkPolicy": empty, "s3": {"endpointUrl": "http://s3.example.com:9000"}})
        for policy in rendered.of_kind("NetworkPolicy").values():
            for rule in policy["spec"]["egress"]:
                assert rule["ports"]
                assert rule.get("to") or {port["port"] for port in rule["ports"]} == {53}


def test_dns_may_have_other_ports():
    rendered = render("local", {"networkPolicy": {"dnsPorts": [53, 5353]}})
    for policy in rendered.of_kind("NetworkPolicy").values():
        ports = {(port["port"], port["protocol"]) for port in policy["spec"]["egress"][0]["ports"]}
        assert ports == {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}


def test_callers_keda_and_prometheus_are_values():
    callers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "0123"}}}]
    changes = {"networkPolicy": {"callers": callers, "kedaNamespace": "1e5", "monitoringNamespace": "on"}}
    policy = render("local", changes).one("NetworkPolicy", "ingress")["spec"]
    calls, metrics, scaling, _ = policy["ingress"]
    assert peer(calls["from"][0]) == "namespace 0123"
    assert peer(metrics["from"][0]) == "namespace on"
    assert peer(scaling["from"][0]) == "namespace 1e5"


def test_the_endpoints_of_the_table_are_read_as_python_reads_them():
    for url, (_, port) in ENDPOINTS.items():
        parts = urlsplit(url)
        assert port == (parts.port or {"http": 80, "https": 443}[parts.scheme])
