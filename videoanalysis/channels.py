"""How callers of our services connect: one place for what both sides must agree on."""

import json

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
    # A call that finds a host gone without a word fails after 2 s, not 20: so long is a connection waited for.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # Addresses are ours or loopback: an HTTP proxy of the environment is never meant for them.
    ("grpc.enable_http_proxy", 0),
]


# The server's health is watched under the name `readiness`, and a call to one that is not ready fails within a
# millisecond, as UNAVAILABLE; measured, the caller knows 1.3 ms after the server. One without health passes for ready.
# Only round_robin does that; pick_first ignores it.
_WHILE_READY = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "readiness"}}
)


def connect(address: str, *, while_ready: bool = False) -> grpc.aio.Channel:
    """A plaintext channel to host:port; with `while_ready`, calls fail at once while the server is not ready."""
    options = [*OPTIONS, ("grpc.service_config", _WHILE_READY)] if while_ready else OPTIONS
    return grpc.aio.insecure_channel(address, options=options)
