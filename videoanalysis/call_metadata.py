"""The metadata of a client's calls: the bearer token, the caller's own pairs, and the trace."""

from collections.abc import Callable, Sequence

from videoanalysis import tracing

# A bearer token, or a function that returns the one to use now.
Token = str | Callable[[], str]
# Pairs of a key in lower case and a value.
Metadata = Sequence[tuple[str, str | bytes]]
# The pairs, or a function that returns those to use now.
CallMetadata = Metadata | Callable[[], Metadata]


def call_metadata(token: Token | None, metadata: CallMetadata, traceparent: str | None) -> Metadata:
    """The metadata of one call; without `traceparent` it joins the current span of OpenTelemetry, if there is one."""
    pairs = [*(metadata() if callable(metadata) else metadata)]
    if token is not None:
        pairs.append(("authorization", f"Bearer {token if isinstance(token, str) else token()}"))
    return [*pairs, *(tracing.outgoing() if traceparent is None else [("traceparent", traceparent)])]
