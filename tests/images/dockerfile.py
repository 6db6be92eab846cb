"""Dockerfiles as the tests read them."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == keyword]

    def last(self, keyword: str) -> str:
        return self.all(keyword)[-1]

    def exec_form(self, keyword: str) -> list[str]:
        return json.loads(self.last(keyword))

    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for line in self.all("ENV") for pair in shlex.split(line))

    def copied_from_the_context(self) -> list[str]:
        arguments = [line.split() for line in self.all("COPY") if not line.startswith("--from=")]
        return [source.rstrip("/") for *sources, _ in arguments for source in sources]


def stages(service: str) -> list[Stage]:
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, map(str.strip, lines.splitlines())):
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            found.append(Stage(rest))
        elif found:
            found[-1].instructions.append((keyword, re.sub(r"\s+", " ", rest)))
    return found


def in_the_context(path: str) -> bool:
    """Whether .dockerignore lets `path` through: the last line that matches it or a directory above it decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern and not line.startswith("#") and any(_expression(pattern).fullmatch(prefix) for prefix in prefixes):
            included = line.startswith("!")
    return included


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*"))
