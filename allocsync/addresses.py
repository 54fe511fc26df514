"""Formats a host and a port as text. Pure.

The rule: an IPv6 address stands in brackets wherever a port follows it.

Left out: parsing HOST:PORT (`settings.validators`).
"""


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def http_url(host: str, port: int) -> str:
    """Return the http URL of a server at this address, without a path and without a slash at the end."""
    return f"http://{host_port(host, port)}"
