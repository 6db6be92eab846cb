"""Static bearer tokens: a file of callers and the hashes of their tokens."""

import re
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

_LINE = re.compile(r"(?P<caller>\S{1,200})\s+sha256:(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class BearerTokens:
    """Callers with the SHA-256 of their tokens; a caller may have several, so that one can be replaced."""

    digests: tuple[tuple[str, bytes], ...]

    def caller(self, token: str) -> str | None:
        """The caller of the token, None if unknown; takes the same time for every token."""
        digest = sha256(token.encode(errors="replace")).digest()
        found = None
        for caller, known in self.digests:
            if compare_digest(known, digest):
                found = caller
        return found


def read_tokens(path: Path) -> BearerTokens:
    """Raises OSError, or ValueError with one line that names the number of the wrong line and not its content."""
    digests: list[tuple[str, bytes]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (matched := _LINE.fullmatch(line.strip())) is None:
            raise ValueError(f"{path}: line {number} is not of the form: caller sha256:<64 hexadecimal digits>")
        digest = bytes.fromhex(matched["digest"])
        if any(digest == other for _, other in digests):
            raise ValueError(f"{path}: line {number} repeats the token of a line above")
        digests.append((matched["caller"], digest))
    return BearerTokens(tuple(digests))
