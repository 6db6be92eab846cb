"""Writes what follows from elsewhere: the values in the chart's README, the settings in values.schema.json.

python helm/generate.py
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from services.decoder.settings import DecoderSettings  # noqa: E402
from services.encoder.settings import EncoderSettings  # noqa: E402
from services.ingress.settings import IngressSettings  # noqa: E402
from videoanalysis.settings import ServiceSettings  # noqa: E402

CHART = ROOT / "helm" / "video-analysis"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "ingress": IngressSettings,
    "encoder": EncoderSettings,
    "decoder": DecoderSettings,
}
# Made of other values, so that they agree with the rest of the manifests.
_MADE = {"port", "health_port", "metrics_port", "drain_delay_seconds", "grace_seconds"}
MADE_OF_OTHER_VALUES: dict[str, set[str]] = {
    "ingress": _MADE
    | {"scaling_port", "encoders", "decoders", "image_size", "allowed_buckets", "resume_keys"}
    | {"s3_endpoint_url", "s3_region"},
    "encoder": _MADE | {"engine", "model", "revision", "synthetic_image_size"},
    "decoder": _MADE | {"banks", "s3_endpoint_url", "s3_region"},
}
_BEGIN, _END = "<!-- values: python helm/generate.py -->", "<!-- end of values -->"


def main() -> None:
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


def generated() -> dict[Path, str]:
    """What the files are to hold."""
    readme, schema = CHART / "README.md", CHART / "values.schema.json"
    head, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    document = json.loads(schema.read_text(encoding="utf-8"))
    for name in SETTINGS:
        document["definitions"][f"{name}Settings"] = settings_schema(name)
    return {
        readme: f"{head}{_BEGIN}\n\n{tables(values)}\n{_END}{tail}",
        schema: json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }


def settings_schema(name: str) -> dict[str, Any]:
    """JSON Schema of `<name>.settings`: the fields of the service's own settings that no other value makes."""
    fields = {}
    for field, about in SETTINGS[name].model_fields.items():
        if field not in MADE_OF_OTHER_VALUES[name]:
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
    """The values that have a comment `# --`; raises ValueError for one that has none, nor is part of one that has."""
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
        heading = f"### {section}" if section else "### Of the whole"
        parts.append("\n".join([heading, "", "| key | default | |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _default(default: str) -> str:
    return "" if default in ('""', "{}", "[]", "null") else f"`{default}`"


if __name__ == "__main__":
    main()
