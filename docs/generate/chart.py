"""The chart's table of values and the part of its schema that repeats the services' settings.

The table is made here rather than by helm-docs, so that the test for stale tables also runs where there is no Go.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter

from docs.generate.page import ROOT, fill
from docs.generate.settings import SETTINGS

CHART = ROOT / "helm" / "video-analysis"
# Derived from other values, so that they agree with the rest of the manifests.
_DERIVED = {"port", "health_port", "metrics_port", "drain_delay_seconds", "grace_seconds"} | {
    *("tls_cert", "tls_key", "tls_client_ca", "metrics_tls"),
}
DERIVED_FROM_OTHER_VALUES: dict[str, set[str]] = {
    "ingress": _DERIVED
    | {"scaling_port", "encoders", "decoders", "image_size", "allowed_buckets", "resume_keys"}
    | {"s3_endpoint_url", "s3_region"}
    | {"upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key", "encoder_tls_name", "decoder_tls_name"}
    | {"tokens_file", "jwt_keys", "jwt_issuer", "jwt_audience", "policy_file"},
    "encoder": _DERIVED | {"engine", "model", "revision", "synthetic_image_size"},
    "decoder": _DERIVED | {"banks", "s3_endpoint_url", "s3_region"},
}


def generated() -> dict[Path, str]:
    """The contents of the chart's README and schema."""
    schema = CHART / "values.schema.json"
    document = json.loads(schema.read_text(encoding="utf-8"))
    for name in SETTINGS:
        document["definitions"][f"{name}Settings"] = settings_schema(name)
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    return {
        CHART / "README.md": fill(CHART / "README.md", {"values": tables(values)}),
        schema: json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }


def settings_schema(name: str) -> dict[str, Any]:
    """JSON Schema of `<name>.settings`: the settings of the service that are not derived from other values."""
    fields = {}
    for field, about in SETTINGS[name].model_fields.items():
        if field not in DERIVED_FROM_OTHER_VALUES[name]:
            annotated: Any = Annotated[about.annotation, about]
            fields[field] = _without({"title", "default", "format"}, TypeAdapter(annotated).json_schema())
    return {"type": "object", "additionalProperties": False, "properties": dict(sorted(fields.items()))}


def _without(keys: set[str], schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without(keys, item) for item in schema]
    if isinstance(schema, dict):
        return {key: _without(keys, value) for key, value in schema.items() if key not in keys}
    return schema


@dataclass(frozen=True, slots=True)
class Value:
    key: str
    default: str
    text: str


def values(text: str) -> Iterator[Value]:
    """The values with a comment `# --`; raises ValueError for a value that neither has one nor is part of one."""
    defaults = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    comment: list[str] | None = None
    documented_indent: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#"):
            if comment is not None:
                comment.append(stripped.removeprefix("# "))
        elif match := re.match(r"([A-Za-z0-9]+):( |$)", stripped):
            if documented_indent is not None and indent > documented_indent:
                continue
            documented_indent = None
            path = [(at, key) for at, key in path if at < indent] + [(indent, match[1])]
            key = ".".join(name for _, name in path)
            if comment is not None:
                yield Value(key, json.dumps(_at(defaults, key)), " ".join(comment))
                comment, documented_indent = None, indent
            elif match[2] == " ":
                raise ValueError(f"values.yaml: {key} has no comment that begins with # --")


def _at(defaults: Any, key: str) -> Any:
    for name in key.split("."):
        defaults = defaults[name]
    return defaults


def tables(text: str) -> str:
    """A table for each top-level key that holds others, and one for the rest."""
    sections: dict[str, list[Value]] = {"": []}
    for value in values(text):
        top, _, below = value.key.partition(".")
        sections.setdefault(top if below else "", []).append(value)
    parts = []
    for section, listed in sections.items():
        rows = [f"| `{value.key}` | {_default(value.default)} | {value.text} |" for value in listed]
        heading = f"### {section}" if section else "### Global"
        parts.append("\n".join([heading, "", "| key | default | |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _default(default: str) -> str:
    return "" if default in ('""', "{}", "[]", "null") else f"`{default}`"
