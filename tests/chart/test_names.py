"""Names and strings stay what they are, whatever YAML could take them for, and names stay different."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml

from tests.chart import helm, kinds, manifests, umbrella, value_space
from tests.chart.helm import KUBERNETES, SERVICES, Rendered, complaint, render
from tests.chart.value_space import DECEPTIVE

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONG = "a-release-name-of-fifty-three-characters-so-the-longe"


def problems(rendered: Rendered) -> list[str]:
    return [problem for item in rendered for problem in kinds.problems(item, KUBERNETES[-1])]


def names(rendered: Rendered) -> set[tuple[str, str]]:
    return {(item["kind"], item["metadata"]["name"]) for item in rendered}


def pod_of(rendered: Rendered, service: str) -> dict[str, Any]:
    (found,) = (item for name, item in rendered.of_kind("Deployment").items() if str(name).endswith(f"-{service}"))
    return dict(found["spec"]["template"]["spec"])


def deceptive(word: str) -> dict[str, Any]:
    """Every string that may be `word`; of alternatives, the ones that go together."""
    values = value_space.strings(word)
    values.pop("extraObjects", None)  # is a template
    values.get("authentication", {}).pop("policy", None)
    for bank in values.get("textBanks", {}).get("build", {}).values():
        bank.pop("baked", None)
        bank.pop("configMap", None)
    for key in ("nameOverride", "fullnameOverride"):
        values.pop(key, None)
    return dict(values)


def test_every_string_of_the_values_stays_a_string(tmp_path):
    aliases = {f"a{number}": word for number, word in enumerate(DECEPTIVE)}
    rendered = umbrella.render(
        tmp_path, {alias: deceptive(word) for alias, word in aliases.items()}, set_name="everything"
    )
    assert rendered.keys() == aliases.keys()
    for alias, objects in rendered.items():
        assert problems(objects) == [], aliases[alias]
        variables = {item["name"]: item.get("value") for item in pod_of(objects, "ingress")["containers"][0]["env"]}
        assert variables["INGRESS_S3_REGION"] == aliases[alias]


@pytest.mark.parametrize("word", ["5678", "0123", "1e5", "on", "null"])
def test_a_release_a_namespace_and_their_parts_may_look_like_numbers(word):
    rendered = render("everything", {"nameOverride": word, "extraObjects": []}, release=word, namespace=word)
    assert problems(rendered) == []
    assert {item["metadata"].get("namespace") for item in rendered} == {word}
    for kind, name in names(rendered):
        assert _NAME.fullmatch(name), kind
    for item in rendered.of_kind("Deployment").values():
        assert item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == word


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: {b: 1, b: 2}", "- {x: 1, y: 2, x: 3}"], ids=["block", "flow", "nested"]
)
def test_duplicate_keys_are_found(text):
    with pytest.raises(yaml.YAMLError, match="duplicate keys"):
        list(manifests.load(text))


def test_a_number_with_an_exponent_is_found():
    with pytest.raises(yaml.YAMLError, match="exponent"):
        list(manifests.load("a: 1e+07"))


@pytest.mark.parametrize("word", ["5678", "0123", "on", "y", "null", "~", "0x1f", "1_000", "2020-01-01"])
def test_an_unquoted_word_is_no_string(word):
    (found,) = manifests.load(f"a: {word}")
    assert not isinstance(found["a"], str)


STANDARD = ("version", "part-of", "managed-by", "created-by")


def test_labels_that_repeat_the_standard_ones_replace_them():
    labels = {f"app.kubernetes.io/{key}": "theirs" for key in STANDARD} | {"helm.sh/chart": "theirs"}
    own = {"app.kubernetes.io/instance": "prometheus"}
    changes = {
        "commonLabels": labels,
        "pods": {"podLabels": {**labels, "app.kubernetes.io/part-of": "pods"}},
        "ingress": {"podLabels": {**labels, "app.kubernetes.io/part-of": "ingress"}},
        "metrics": {"podMonitor": {"labels": labels | own}, "prometheusRule": {"labels": labels | own}},
    }
    rendered = render("local", changes)
    for item in rendered:
        assert labels.items() <= item["metadata"]["labels"].items() or item["kind"] == "Pod"
    for component, deployment in rendered.deployments().items():
        template = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= template.items()
        assert template["app.kubernetes.io/part-of"] == ("ingress" if component == "ingress" else "pods")
    for kind in ("PodMonitor", "PrometheusRule"):
        (item,) = rendered.of_kind(kind).values()
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "prometheus"


def test_a_label_that_selects_pods_is_refused_wherever_it_is_given():
    labels = {f"app.kubernetes.io/{key}": "theirs" for key in ("name", "instance", "component")}
    places = ["commonLabels", "textBanks.job.podLabels"]
    places += [f"{section}.podLabels" for section in ("pods", "ingress", "encoder", "decoder", "test")]
    changes: dict[str, Any] = {}
    for place in places:
        change: Any = labels
        for key in reversed(place.split(".")):
            change = {key: change}
        changes = helm.merged(changes, change)
    message = complaint("local", changes)
    for place, label in itertools.product(places, labels):
        assert f"  {place} must not have {label}: Services and Deployments select their pods by it." in message


def test_aliases_of_one_release_share_no_object(tmp_path):
    aliases = {
        "video": {},
        "analysis": {},
        "video-analysis": {},
        "videoAnalysis": {},
        "an-alias-that-is-so-long-that-it-is-cut-a": {},
        "an-alias-that-is-so-long-that-it-is-cut-b": {},
        f"{'x' * 62}a": {},
        f"{'x' * 62}b": {},
    }
    rendered = umbrella.render(tmp_path, aliases, release="video-analysis")
    assert rendered.keys() == aliases.keys()
    for one, other in itertools.combinations(rendered.values(), 2):
        assert not names(one) & names(other)
        for left, right in itertools.product(one, other):
            if left["kind"] == right["kind"] == "Deployment":
                assert left["spec"]["selector"] != right["spec"]["selector"]


def test_a_disabled_alias_has_no_objects_and_a_global_value_is_accepted(tmp_path):
    rendered = umbrella.render(tmp_path, {"one": {"enabled": False}, "two": {"enabled": True, "global": {"x": 1}}})
    assert rendered.keys() == {"two"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"release": f"{_LONG[:-1]}a"}, {"release": f"{_LONG[:-1]}b"}),
        ({"release": "a.b"}, {"release": "a-b"}),
        ({"release": "5678"}, {"release": "r5678"}),
        ({"override": "a" * 60}, {"override": "a" * 61}),
        ({"override": "a" * 38}, {"override": "a" * 39}),
        ({"override": "one"}, {"override": "two"}),
    ],
)
def test_two_releases_in_a_namespace_share_no_object(one, other):
    def rendered(release: str = "va", override: str = "") -> Rendered:
        return render("everything", {"fullnameOverride": override, "extraObjects": []}, release=release)

    first, second = rendered(**one), rendered(**other)
    assert not names(first) & names(second)
    for kind, name in names(first) | names(second):
        assert len(name) <= (54 if kind == "ScaledObject" else 63), name
        assert _NAME.fullmatch(name), name


def test_kubernetes_does_not_cut_the_names_of_pods():
    """It cuts what a pod's random suffix is added to at 58 characters; alerts select pods by their whole name."""
    for name in render("local", {"fullnameOverride": "a" * 60}).of_kind("Deployment"):
        assert len(f"{name}-{'h' * 10}-") <= 58


def test_a_name_within_the_limit_is_not_changed():
    override = "a" * 37 + "b"
    deployments = render("local", {"fullnameOverride": override}).of_kind("Deployment")
    assert set(deployments) == {f"{override}-{service}" for service in SERVICES}


def test_texts_of_a_bank_are_unchanged_whatever_they_begin_with():
    texts = ["  indented", "- item", "# comment", "a: b", "| block", "null", "{}", "é 💡", "tab\there"]
    build = {"default": None, "own": {"tags": texts, "descriptions": texts}}
    (item,) = (
        item
        for name, item in render("local", {"textBanks": {"build": build}}).of_kind("ConfigMap").items()
        if "texts" in name
    )
    assert {name: content.split("\n") for name, content in item["data"].items()} == {
        "tags.txt": texts,
        "descriptions.txt": texts,
    }


def test_large_numbers_are_not_written_with_an_exponent():
    changes = {
        "test": {"timeoutSeconds": 10_000_000},
        "autoscaling": {"keda": {"pollingInterval": 10_000_000, "failureThreshold": 10_000_000}},
        "encoder": {"autoscaling": {"minReplicas": 0, "cooldownPeriod": 10_000_000, "target": 10_000_000}},
        "textBanks": {"job": {"backoffLimit": 10_000_000}},
        "ingress": {
            "settings": {"scratch_bytes": 123_456_789_012},
            "resources": {"limits": {"memory": 12_000_000_000}},
        },
    }
    rendered = render("local", changes)
    (pod,) = rendered.of_kind("Pod").values()
    assert pod["spec"]["activeDeadlineSeconds"] == 10_000_000
    assert "--timeout=10000000" in pod["spec"]["containers"][0]["command"]
    (container,) = rendered.deployments()["ingress"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "INGRESS_SCRATCH_BYTES", "value": "123456789012"} in container["env"]
    assert json.dumps(container["resources"]["limits"]) == '{"memory": 12000000000}'
