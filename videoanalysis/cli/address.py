"""The address of a service, as people write it."""

# Of gRPC's name resolvers.
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:")


def checked(address: str) -> str:
    """`address`, which is host:port or a target of gRPC's such as dns:///host:port; raises ValueError."""
    if address.startswith(_SCHEMES):
        return address
    if "://" in address:
        raise ValueError(f"{address} is a URL; name the service by host:port, without a scheme")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address} is not host:port, such as {(host or address).strip(':[]') or 'ingress'}:50051")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{address}: an IPv6 address has brackets, as in [::1]:50051")
    return address
