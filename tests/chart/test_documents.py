"""What is written about the chart is in step with it."""

import re

import pytest
import yaml

from helm import generate
from tests.chart.helm import CHART, KUBERNETES, ROOT, SERVICES

README = (CHART / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", generate.generated(), ids=lambda path: path.name)
def test_what_is_generated_is_in_step(path):
    assert generate.generated()[path] == path.read_text(encoding="utf-8"), "run: python helm/generate.py"


def test_every_value_is_documented_once():
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    documented = [value.key for value in generate.values(text)]
    assert len(documented) == len(set(documented))

    def leaves(values: dict, path: str = "") -> list[str]:
        found = []
        for key, value in values.items():
            name = f"{path}{key}"
            inside = isinstance(value, dict) and value and name not in documented
            found += leaves(value, f"{name}.") if inside else [name]
        return found

    assert set(leaves(yaml.safe_load(text))) == set(documented)


def test_a_value_without_a_comment_is_told():
    with pytest.raises(ValueError, match="b has no comment"):
        list(generate.values("# -- one\na: 1\nb: 2\n"))


def test_comments_run_on_over_lines_and_what_a_documented_value_holds_needs_none():
    text = "top:\n  # -- One\n  # and two.\n  a:\n    x: 1\n  # -- Three.\n  b: []\n"
    found = [(value.key, value.default, value.text) for value in generate.values(text)]
    assert found == [("top.a", '{"x": 1}', "One and two."), ("top.b", "[]", "Three.")]


@pytest.mark.parametrize("document", ["README.md", "OPERATING.md"])
def test_links_lead_somewhere(document):
    text = (CHART / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        target = (CHART / path).resolve() if path else CHART / document
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}, link


def test_values_that_the_documents_name_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name in SERVICES:
        values[name]["settings"] = generate.settings_schema(name)["properties"]
    text = (CHART / "OPERATING.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(values)})(?:\.[A-Za-z_]+)+)`", text))
    assert len(named) > 20
    for key in named:
        found = values
        for name in key.split("."):
            assert name in found, key
            found = found[name]


def test_versions_of_kubernetes_are_those_that_are_tested():
    assert f"{KUBERNETES[0]} to {KUBERNETES[-1]}" in (CHART / "OPERATING.md").read_text(encoding="utf-8")


def test_the_chart_is_of_the_package_s_version():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]
