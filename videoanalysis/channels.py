"""gRPC channel options that every caller of a service uses, and that the servers' keepalive limits permit."""

import json

import grpc

OPTIONS: list[tuple[str, int | str]] = [
    # Idle connections are probed: a peer that vanishes without closing its connection is noticed within 30 s. The
    # servers permit pings 10 s apart; a faster pace would be answered with GOAWAY "too_many_pings".
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A replica that is available again is reconnected within a second, not after gRPC's two-minute backoff.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The connect timeout: a call to a host that drops packets fails after 2 s, not after gRPC's 20.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # Addresses are inside the cluster or loopback: an HTTP proxy of the environment does not apply to them.
    ("grpc.enable_http_proxy", 0),
]

# The client watches the server's health under the name `readiness`: calls skip replicas that are not ready, and fail
# at once with UNAVAILABLE if none is ready. A server without the health service counts as ready. Only round_robin
# checks health, pick_first ignores it.
READY_REPLICAS: tuple[str, str] = (
    "grpc.service_config",
    json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "readiness"}}),
)


def connect(
    address: str,
    *,
    while_ready: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
    peer_name: str | None = None,
) -> grpc.aio.Channel:
    """A channel to host:port, plaintext without `credentials`.

    With `while_ready`, calls fail at once while the server is not ready. The certificate must be for `peer_name`, by
    default for the host of the address.
    """
    options = [*OPTIONS, READY_REPLICAS] if while_ready else list(OPTIONS)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    if peer_name is not None:
        options.append(("grpc.ssl_target_name_override", peer_name))
    return grpc.aio.secure_channel(address, credentials, options=options)
