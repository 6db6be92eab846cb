"""Turns the state of a video after one of its chunks into a signed resume token, and back."""

from services.ingress.resume.state import ResumeState
from services.ingress.resume.token import RequestTokens, ResumeTokens, Resumption, stale_token

__all__ = [
    "RequestTokens",
    "ResumeState",
    "ResumeTokens",
    "Resumption",
    "stale_token",
]
