"""HTML that cannot be broken by the texts in it: what is not markup already is escaped."""

from collections.abc import Iterable
from html import escape

_VOID = {"meta", "br", "img"}


class Markup(str):
    """HTML, put into other elements as it is."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element. Of an attribute's name a last _ is left out and others become -; None and False leave it out."""
    written = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    start = f"<{name}{written}>"
    return Markup(start if name in _VOID else f"{start}{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """One after the other, without anything around them."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
