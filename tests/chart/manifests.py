"""Reads manifests as the strictest of their readers would: Kubernetes, kustomize or Flux."""

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode


class _Loader(yaml.CSafeLoader):
    """Refuses duplicate keys. A plain scalar is no string if it is none for Go's readers or for Python's."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            keys = [key.value for key, _ in node.value]
            raise yaml.MarkedYAMLError(
                problem=f"duplicate keys: {sorted({key for key in keys if keys.count(key) > 1})}",
                problem_mark=node.start_mark,
            )
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]$"), list("yYnN"))


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    if "e" in text.lower():
        # Go refuses it where an integer is expected.
        raise yaml.MarkedYAMLError(problem=f"number with an exponent: {text}", problem_mark=node.start_mark)
    return float(loader.construct_yaml_float(node))


_Loader.yaml_constructors = dict(_Loader.yaml_constructors)
_Loader.add_constructor(
    "tag:yaml.org,2002:bool",
    lambda loader, node: loader.construct_scalar(node).lower() in ("y", "yes", "on", "true"),
)


_Loader.add_constructor("tag:yaml.org,2002:float", _number)
# "=", a string to all but PyYAML.
_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def load(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a stream of documents; raises yaml.YAMLError for a duplicate key or a number with an exponent."""
    return (item for item in yaml.load_all(text, _Loader) if item)
