"""A state of a video after one of its chunks goes in, a signed resume token comes out, and the reverse."""

from services.ingress.resume.state import ResumeState
from services.ingress.resume.token import RequestTokens, ResumeTokens, Resumption, stale_token

__all__ = [
    "RequestTokens",
    "ResumeState",
    "ResumeTokens",
    "Resumption",
    "stale_token",
]
