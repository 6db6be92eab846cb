"""Strict validation of objects, as by an API server, against the schemas in schemas/."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_SCHEMAS = Path(__file__).parent / "schemas"


def problems(item: dict[str, Any], kubernetes: str) -> list[str]:
    """The problems of an object, each with its path; a kind without a schema is a problem too."""
    kind = f"{item['apiVersion']}/{item['kind']}"
    validator = _validators(kubernetes).get(kind) or _validators("custom").get(kind)
    if validator is None:
        return [f"{kind}: unknown to Kubernetes {kubernetes}"]
    name = f"{kind} {item['metadata']['name']}"
    return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(item)]


def built_in_kinds(kubernetes: str) -> list[str]:
    return list(_validators(kubernetes))


@cache
def _validators(source: str) -> dict[str, Draft202012Validator]:
    file = _SCHEMAS / ("custom.json" if source == "custom" else f"kubernetes-{source}.json")
    schemas = json.loads(file.read_text())
    definitions = schemas.pop("definitions", {})
    return {kind: Draft202012Validator({**schema, "definitions": definitions}) for kind, schema in schemas.items()}
