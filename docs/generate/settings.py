"""The tables of settings, from the settings classes of the services."""

import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.generate.page import ROOT, fill, table
from services.decoder.settings import DecoderSettings
from services.encoder.settings import EncoderSettings
from services.ingress.settings import IngressSettings
from videoanalysis.settings import ServiceSettings

PAGE = ROOT / "docs" / "settings.md"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "ingress": IngressSettings,
    "encoder": EncoderSettings,
    "decoder": DecoderSettings,
}
_COLUMNS = ("variable", "type", "default", "meaning")
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def generated() -> dict[Path, str]:
    """The contents of the page of settings."""
    overridden = set.intersection(*(set(kind.__annotations__) for kind in SETTINGS.values()))
    shared = [name for name in ServiceSettings.model_fields if name not in overridden]
    parts = {"shared": table(_COLUMNS, (_row("…_", name, ServiceSettings.model_fields[name]) for name in shared))}
    for service, kind in SETTINGS.items():
        own = [name for name in kind.model_fields if name not in shared]
        prefix = f"{service.upper()}_"
        parts[service] = table(_COLUMNS, (_row(prefix, name, kind.model_fields[name]) for name in own))
    return {PAGE: fill(PAGE, parts)}


def _row(prefix: str, name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    return f"`{prefix}{name.upper()}`", _type(field), _default(field), field.description or ""


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}"
        for limit, sign in _LIMITS.items()
        for constraint in field.metadata
        if (value := getattr(constraint, limit, None)) is not None
    ]
    return ", ".join([_name(field.annotation), *limits])


def _name(annotation: Any) -> str:
    kind, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in inside)
    if kind is list:
        return f"JSON list of {_name(inside[0])}s"
    if kind in (typing.Union, types.UnionType):
        return _name(next(one for one in inside if one is not type(None)))
    names = {str: "text", int: "integer", float: "number", bool: "boolean", Path: "path", SecretStr: "secret"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default in (None, ""):
        return "unset"
    return f"`{field.default if isinstance(field.default, str) else json.dumps(field.default)}`"
