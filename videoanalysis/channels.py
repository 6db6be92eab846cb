"""How callers of our services connect: one place for what both sides must agree on."""

import grpc

# Idle connections are probed, so that a peer that vanished without a word is noticed within 30 s. The servers permit
# pings 10 s apart; a faster pace would be answered with GOAWAY "too_many_pings".
OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A replica that comes back is found within a second, not after gRPC's two-minute backoff.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Addresses are ours or loopback: an HTTP proxy of the environment is never meant for them.
    ("grpc.enable_http_proxy", 0),
]


def connect(address: str) -> grpc.aio.Channel:
    """A plaintext channel to host:port."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)
