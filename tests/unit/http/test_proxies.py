"""Whose request it is when it comes through a proxy."""

import pytest
from starlette.datastructures import Headers

from mainstem.http import TrustedProxies


def client(proxies: TrustedProxies, peer: str, *lines: str) -> str:
    return proxies.client(peer, Headers(raw=[(b"x-forwarded-for", line.encode()) for line in lines]))


@pytest.mark.parametrize(
    ("peer", "lines", "wanted"),
    [
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:ffff::2", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["127.0.0.1, not-an-address"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "10.0.0.1"),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_nearest_address_that_no_proxy_has_is_the_clients(peer: str, lines: list[str], wanted: str) -> None:
    """What stands before it may be made up, and what is no address ends the search."""
    proxies = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::2"])

    assert client(proxies, peer, *lines) == wanted


def test_without_proxies_nothing_is_believed() -> None:
    assert client(TrustedProxies(), "127.0.0.1", "198.51.100.1") == "127.0.0.1"


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="host bits"):
        TrustedProxies(["10.0.0.1/8"])
