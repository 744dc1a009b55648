"""Whose request it is when it comes through a proxy."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers

type _Address = IPv4Address | IPv6Address


class TrustedProxies:
    """The proxies whose word on where a request came from is believed; by default none is."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Each is an address or a network in CIDR notation. Raises ValueError for anything else."""
        self._networks = [ip_network(network) for network in networks]

    def client(self, peer: str, headers: Headers) -> str:
        """The address that asks: the nearest in X-Forwarded-For that no trusted proxy has.

        What stands before that may be made up by the client, and is not looked at.
        """
        if not self._networks:
            return peer
        address = peer
        hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
        while hops and self._trusts(address):
            hop = _parsed(hops.pop())
            if hop is None:
                break
            address = str(hop)
        return address

    def _trusts(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
