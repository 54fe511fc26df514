"""Addresses as text."""

import pytest

from allocsync.addresses import host_port, http_url


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:80"), ("localhost", "localhost:80"), ("::1", "[::1]:80")],
)
def test_an_ipv6_address_stands_in_brackets(host: str, expected: str) -> None:
    assert host_port(host, 80) == expected
    assert http_url(host, 80) == f"http://{expected}"
