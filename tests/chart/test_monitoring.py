"""Alerts and the dashboard query metrics that the services have."""

import json
import re
import shutil
import subprocess

import promql_parser
import pytest

from docs.generate import metrics
from tests.chart.helm import NAME, ROOT, SERVICES, render

OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
# Series of other programs: KEDA's operator, the GPU exporter, the kubelet, and a process's own, which only Linux has.
_OTHERS = re.compile(r"keda_scaler_\w+|DCGM_FI_\w+|container_cpu_usage_seconds_total|process_start_time_seconds")
# Exactly the pods of the three Deployments of this release.
_PODS = f"{NAME}-(ingress|encoder|decoder)-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}"


def selectors(query: str) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """The series that a query reads, each with operator and value by label; raises ValueError for an invalid query."""
    found = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = {matcher.name: (str(matcher.op), matcher.value) for matcher in node.matchers.matchers}
            found.append((node.name, matchers))

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all series of the services."""
    return {name for service in SERVICES for family in metrics.families(service) for name in family.series}


def alerts() -> list[dict]:
    rule = render("gpu", {"metrics": {"prometheusRule": {"runbookUrl": "https://wiki.example.com/ops"}}})
    (group,) = rule.one("PrometheusRule", "alerts")["spec"]["groups"]
    return list(group["rules"])


def dashboard(values: str = "gpu", changes: dict | None = None) -> dict:
    (text,) = render(values, changes).one("ConfigMap", "dashboard")["data"].values()
    return dict(json.loads(text))


def panels(title: str = "") -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row" and title in panel["title"]]


def expressions(panels: list[dict]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def queries() -> list[str]:
    return [rule["expr"] for rule in alerts()] + expressions(panels())


def test_every_series_of_an_alert_or_a_panel_exists(known):
    queried = {name for query in queries() for name, _ in selectors(query) if not _OTHERS.fullmatch(name)}
    assert "videoanalysis_queue_depth" in queried
    assert queried - known == set()


def test_every_metric_of_the_services_is_on_the_dashboard_or_in_an_alert(known):
    """Except those that another one on it implies."""
    queried = {name for query in queries() for name, _ in selectors(query)}
    implied = {"grpc_server_started_total", "grpc_server_handling_seconds_count", "grpc_server_handling_seconds_sum"}
    seen_elsewhere = {"videoanalysis_arriving", "videoanalysis_sampling_sandbox"}
    own = {
        name for name in known if name.startswith(("videoanalysis", "grpc_server")) and not name.endswith("_created")
    }
    assert own - queried - implied - seen_elsewhere == set()


@pytest.mark.parametrize("values", ["local", "everything"])
def test_promtool_accepts_the_rules(values, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: its build takes minutes")
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps(render(values).one("PrometheusRule", "alerts")["spec"]))
    ended = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", rules], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("query", ["sum(rate(up[5m])", "rate(up)", "nosuch(up)", 'up{pod=~"("}', "sum(up[5m])"])
def test_an_invalid_query_is_found(query):
    with pytest.raises(ValueError, match=r"."):
        selectors(query)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_panels_for_queue_slots_latency_and_errors(service):
    (queue,) = panels(f"{service}: queue, slots and replicas")
    read = {(name, matchers["service"][1]) for query in expressions([queue]) for name, matchers in selectors(query)}
    metrics = ("queue_depth", "waiting", "running", "slots")
    assert read == {(f"videoanalysis_{metric}", service) for metric in metrics}
    (latency,) = panels(f"{service}: duration of calls")
    (errors,) = panels(f"{service}: calls by error and reason")
    read_by_service = {
        (name, matchers["grpc_service"][1])
        for query in expressions([latency, errors])
        for name, matchers in selectors(query)
    }
    api = {"ingress": "VideoAnalysisService", "encoder": "EncoderService", "decoder": "DecoderService"}[service]
    series = ("grpc_server_handling_seconds_bucket", "grpc_server_handled_total", "videoanalysis_refused_total")
    assert read_by_service == {(name, f"videoanalysis.v1.{api}") for name in series}


def test_every_stage_of_a_video_has_a_panel():
    stages = {
        stage
        for query in expressions(panels())
        for name, matchers in selectors(query)
        if name == "videoanalysis_stage_seconds_total" and "stage" in matchers
        for stage in matchers["stage"][1].split("|")
    }
    assert stages == {"download", "sample", "encode", "decode"}


def test_the_cost_of_a_minute_of_video_is_shown_in_gpu_and_cpu_seconds():
    spent = set()
    for panel in panels("seconds for a minute of video"):
        (query,) = expressions([panel])
        (cost, _), (video, _) = selectors(query)
        assert video == "videoanalysis_video_seconds_total"
        assert query.endswith("/ 60)"), "a minute"
        spent.add(cost)
    assert spent == {"videoanalysis_accelerator_seconds_total", "container_cpu_usage_seconds_total"}


def test_every_alert_has_a_severity_a_summary_and_a_runbook_line():
    assert len(alerts()) > 12
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["runbook"]) > 40


def test_the_operating_guide_explains_exactly_the_existing_alerts():
    explained = set(re.findall(r"^#+ (VideoAnalysis\w+)$", OPERATING, re.MULTILINE))
    assert explained == {rule["alert"] for rule in alerts()}


def test_a_runbook_url_is_the_anchor_of_its_alert():
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.com/ops#{rule['alert'].lower()}"
    (group,) = render("gpu").one("PrometheusRule", "alerts")["spec"]["groups"]
    assert not [rule for rule in group["rules"] if "runbook_url" in rule["annotations"]]


def test_alerts_and_panels_select_only_series_of_their_release():
    for query in queries():
        for name, matchers in selectors(query):
            if name.startswith("keda_"):
                scope = {"exported_namespace": "media", "scaledObject": f"{NAME}-(ingress|encoder|decoder)"}
            else:
                scope = {"namespace": "media", "pod": _PODS}
            assert {label: matchers[label][1] for label in scope} == scope, query


def test_alerts_of_two_releases_have_different_labels():
    for rule in alerts():
        assert (rule["labels"]["namespace"], rule["labels"]["release"]) == ("media", NAME)


def test_alerts_use_the_limits_of_the_autoscaler():
    changes = {"encoder": {"autoscaling": {"maxReplicas": 7, "target": 3}}}
    (group,) = render("gpu", changes).one("PrometheusRule", "alerts")["spec"]["groups"]
    (rule,) = [
        rule
        for rule in group["rules"]
        if rule["alert"] == "VideoAnalysisAtLimit" and rule["labels"]["component"] == "encoder"
    ]
    assert "> 21 and " in rule["expr"]
    assert rule["expr"].endswith(">= 7")


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_a_monitor_keeps_the_label_service_and_selects_every_pod(kind):
    changes = {"metrics": {"podMonitor": {"enabled": kind == "PodMonitor"}}}
    changes["metrics"]["serviceMonitor"] = {"enabled": kind == "ServiceMonitor", "labels": {"release": "prometheus"}}
    rendered = render("gpu", changes)
    monitor = rendered.one(kind, "metrics")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"]
    assert endpoint["honorLabels"] is True
    assert endpoint["path"] == "/metrics"
    wanted = monitor["selector"]["matchLabels"].items()
    for deployment in rendered.deployments().values():
        template = deployment["spec"]["template"]
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert endpoint["port"] in ports
        assert wanted <= template["metadata"]["labels"].items()
    # Through one Service each, or everything would be counted twice.
    reached = [
        service["spec"]["selector"]["app.kubernetes.io/component"]
        for service in rendered.of_kind("Service").values()
        if wanted <= service["metadata"]["labels"].items()
        and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    ]
    assert sorted(reached) == ["decoder", "encoder", "ingress"]


def test_the_dashboard_is_labelled_for_grafana_and_names_its_release():
    item = render("local").one("ConfigMap", "dashboard")
    assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
    # The sidecar writes the files of all namespaces into one directory.
    ((file, text),) = item["data"].items()
    assert file == f"media-{NAME}.json"
    assert "@" not in text
    assert dashboard()["title"] == f"Video analysis media/{NAME}"
    assert len(dashboard()["uid"]) <= 40


def test_the_dashboard_links_to_the_traces_if_their_url_is_known():
    url = "https://tempo.example.com/explore"
    (link,) = dashboard("local", {"metrics": {"dashboard": {"tracesUrl": url}}})["links"]
    assert (link["title"], link["url"]) == ("Traces", url)
    assert dashboard()["links"] == []


def test_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
