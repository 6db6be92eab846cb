"""The values that values.schema.json allows: its leaves, and strings that YAML could take for something else."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.chart.helm import CHART

Schema = dict[str, Any]
# Numbers, booleans, nulls and dates of YAML 1.1 or 1.2.
DECEPTIVE = (
    *("5678", "0123", "1e5", "0x1f", "0o17", "1_000", "1.0", "-1", "12:30:45", "2020-01-01"),
    *("on", "no", "y", "true", "null", "~"),
    *("=", "- a", "a: b", "a #b", "{a", "'", '"', "\\", "%", "*a", "{{ x }}", " "),
)


@cache
def schema() -> Schema:
    return dict(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


def resolved(leaf: Schema) -> Schema:
    """Without a reference, and with all parts of `allOf`."""
    if "$ref" in leaf:
        found: Any = schema()
        for name in leaf["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolved(found)
    merged = {key: value for key, value in leaf.items() if key != "allOf"}
    for part in leaf.get("allOf", []):
        merged |= resolved(part)
    return merged


def accepts(leaf: Schema, text: str) -> bool:
    """Whether a string is valid for a leaf of strings without an enumeration."""
    kinds = leaf.get("type", "")
    return (
        ("string" in kinds if isinstance(kinds, list) else kinds == "string")
        and "enum" not in leaf
        and leaf.get("minLength", 0) <= len(text) <= leaf.get("maxLength", len(text))
        and re.search(leaf.get("pattern", ""), text) is not None
    )


def strings(word: str, leaf: Schema | None = None) -> Any:
    """Values in which each string that may be `word` is, as are the keys of maps; None for a leaf that may not be."""
    leaf = resolved(schema() if leaf is None else leaf)
    if accepts(leaf, word):
        return word
    if leaf.get("type") == "array" and (item := strings(word, leaf.get("items", {}))) is not None:
        return [item]
    found = {key: value for key, value in _properties(word, leaf) if value is not None}
    return found if found and set(leaf.get("required", [])) <= found.keys() else None


def _properties(word: str, leaf: Schema) -> Iterator[tuple[str, Any]]:
    for key, below in leaf.get("properties", {}).items():
        yield key, strings(word, below)
    others = leaf.get("additionalProperties")
    names = resolved(leaf.get("propertyNames", {}))
    if isinstance(others, dict) and re.search(names.get("pattern", ""), word) and word.strip():
        yield word, strings(word, others)


# Left as they are: open objects, whose schemas are those of Kubernetes, and values that others must agree with.
_LEFT = {
    *("global", "extraObjects", "policy", "fullnameOverride", "nameOverride", "podSecurityContext", "securityContext"),
    *("source", "location", "mode", "build", "settings", "port", "ports", "minReplicas", "maxReplicas"),
    *("podMonitor", "serviceMonitor", "tls", "existingSecret", "keysUrl", "issuer", "audience", "strategy"),
}


def some_values(leaf: Schema, key: str = "") -> SearchStrategy[Any] | None:
    """Random valid values of some keys; None for those that are left as they are."""
    leaf = resolved(leaf)
    if key in _LEFT:
        return None
    if "enum" in leaf:
        return st.sampled_from(leaf["enum"])
    kinds = leaf.get("type", "object")
    parts = [
        part for kind in (kinds if isinstance(kinds, list) else [kinds]) if (part := _of_kind(kind, leaf)) is not None
    ]
    return st.one_of(parts) if parts else None


def _of_kind(kind: str, leaf: Schema) -> SearchStrategy[Any] | None:
    match kind:
        case "string":
            known = [word for word in DECEPTIVE if accepts(leaf, word)]
            made = st.from_regex(
                leaf.get("pattern", ".*"), alphabet=st.characters(codec="utf-8", exclude_categories=["C"])
            )
            fitting = made.filter(lambda text: accepts(leaf, text) and text.isprintable())
            return st.one_of(st.sampled_from(known), fitting) if known else fitting
        case "integer":
            return st.integers(leaf.get("minimum", -(10**9)), leaf.get("maximum", 10**9))
        case "number":
            return st.floats(leaf.get("minimum", 1), leaf.get("maximum", 10**6), width=32)
        case "boolean":
            return st.booleans()
        case "array":
            items = some_values(leaf.get("items", {}))
            return None if items is None else st.lists(items, min_size=leaf.get("minItems", 0), max_size=2)
        case "object":
            return _of_object(leaf)
    return None


def _of_object(leaf: Schema) -> SearchStrategy[Any] | None:
    below = {
        key: made for key, part in leaf.get("properties", {}).items() if (made := some_values(part, key)) is not None
    }
    required = set(leaf.get("required", []))
    if below and required <= below.keys():
        return st.fixed_dictionaries(
            {key: below[key] for key in required},
            optional={key: made for key, made in below.items() if key not in required},
        )
    others = leaf.get("additionalProperties")
    values = some_values(others) if isinstance(others, dict) else None
    keys = _of_kind("string", {"type": "string", "minLength": 1} | resolved(leaf.get("propertyNames", {})))
    return None if values is None or keys is None else st.dictionaries(keys, values, max_size=2)
