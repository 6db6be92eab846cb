"""Alerts and the dashboard query metrics that the services have."""

import json
import re

import pytest

from docs.generate import metrics
from tests.chart.helm import CHART, NAME, ROOT, SERVICES, render

OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
# Series of other programs: KEDA's operator, the GPU exporter, and a process's own, which only Linux has.
_OTHERS = re.compile(r"keda_scaler_\w+|DCGM_FI_\w+|process_start_time_seconds")
_WORDS = {"absent", "and", "avg", "by", "changes", "count", "histogram_quantile", "label_replace", "le", "max", "on"}
_WORDS |= {"or", "rate", "sum", "unless", "vector"}


def series(query: str) -> set[str]:
    """The names of the series that a query reads."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|ignoring)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[A-Za-z_]\w*", bare)) - _WORDS


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all series of the services."""
    return {name for service in SERVICES for family in metrics.families(service) for name in family.series}


def alerts() -> list[dict]:
    rule = render("gpu", {"metrics": {"prometheusRule": {"runbookUrl": "https://wiki.example.com/ops"}}})
    (group,) = rule.one("PrometheusRule", "alerts")["spec"]["groups"]
    return list(group["rules"])


def queries() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [rule["expr"] for rule in alerts()] + panels


def test_every_series_of_an_alert_or_a_panel_exists(known):
    queried = {name for query in queries() for name in series(query) if not _OTHERS.fullmatch(name)}
    assert "videoanalysis_queue_depth" in queried
    assert queried - known == set()


def test_brackets_of_queries_are_balanced():
    for query in queries():
        bare = re.sub(r'"[^"]*"', '""', query)
        for opening, closing in ("()", "{}", "[]"):
            assert bare.count(opening) == bare.count(closing), query


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


def test_alerts_select_only_series_of_their_release():
    for rule in alerts():
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert selector.startswith(f'namespace="media",pod=~"{NAME}-.+"'), rule["alert"]


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


def test_the_dashboard_is_complete_and_labelled_for_grafana():
    dashboard = render("local").one("ConfigMap", "dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = dashboard["data"].values()
    assert json.loads(text) == DASHBOARD


def test_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
