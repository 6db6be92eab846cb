"""One interpretation of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY for all URLs and libraries."""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

_DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_of(url: str) -> str | None:
    """The URL of the proxy through which `url` is reached, None for a direct connection.

    NO_PROXY lists, separated by commas, hosts with their subdomains (with or without a leading dot or `*.`), addresses
    and networks of hosts that are named by address, each with a port where only that is meant; `*` is every host.
    Loopback is always direct.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    if not proxy or _is_loopback(host) or any(_matches(entry, host, port) for entry in _entries(proxies.get("no", ""))):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _entries(no_proxy: str) -> list[str]:
    return [entry.lower() for entry in no_proxy.replace(",", " ").split()]


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if _is_in_network(host, entry):
        return True
    # An IPv6 address has a port only behind brackets.
    name, colon, entry_port = entry.rpartition(":")
    if colon and entry_port.isdigit() and (":" not in name or name.endswith("]")):
        if int(entry_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").strip(".")
    if not entry or _is_address(host):
        return _is_in_network(host, entry)
    return host == entry or host.endswith(f".{entry}")


def _is_in_network(host: str, network: str) -> bool:
    """Also where `network` is a single address."""
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or (_is_address(host) and ip_address(host).is_loopback)
