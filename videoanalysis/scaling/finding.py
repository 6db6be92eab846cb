"""One thing that an explanation says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is for programs. What `is_wrong` needs somebody, the rest explains."""

    code: str
    text: str
    remedy: str = ""
    is_wrong: bool = False
