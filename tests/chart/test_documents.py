"""The documentation of the chart is in step with the chart."""

import re

import pytest
import yaml

from docs.generate import chart
from tests.chart.helm import CHART, KUBERNETES, ROOT, SERVICES

OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def test_every_value_is_documented_once():
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    documented = [value.key for value in chart.values(text)]
    assert len(documented) == len(set(documented))

    def leaves(values: dict, path: str = "") -> list[str]:
        found = []
        for key, value in values.items():
            name = f"{path}{key}"
            inside = isinstance(value, dict) and value and name not in documented
            found += leaves(value, f"{name}.") if inside else [name]
        return found

    assert set(leaves(yaml.safe_load(text))) == set(documented)


def test_a_value_without_a_comment_is_an_error():
    with pytest.raises(ValueError, match="b has no comment"):
        list(chart.values("# -- one\na: 1\nb: 2\n"))


def test_a_comment_may_span_lines_and_covers_all_keys_below_its_value():
    text = "top:\n  # -- One\n  # and two.\n  a:\n    x: 1\n  # -- Three.\n  b: []\n"
    found = [(value.key, value.default, value.text) for value in chart.values(text)]
    assert found == [("top.a", '{"x": 1}', "One and two."), ("top.b", "[]", "Three.")]


def test_values_named_in_the_operating_guide_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name in SERVICES:
        # The keys of `pods` are those of each component too.
        values[name] |= values["pods"] | {"settings": chart.settings_schema(name)["properties"]}
    named = set(re.findall(rf"`((?:{'|'.join(values)})(?:\.[A-Za-z_]+)+)`", OPERATING))
    assert len(named) > 20
    for key in named:
        found = values
        for name in key.split("."):
            assert name in found, key
            found = found[name]


def test_the_documented_kubernetes_versions_are_the_tested_ones():
    assert f"{KUBERNETES[0]} to {KUBERNETES[-1]}" in OPERATING


def test_the_chart_s_app_version_is_the_package_s_version():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]
