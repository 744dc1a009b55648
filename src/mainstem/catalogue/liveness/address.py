"""Where a check may connect to: the guard against links that point into our own network.

A link comes from anybody, and the checker sits inside. So a link is taken apart by strict rules, its host is resolved
once, every address found must be public, and the connection goes to the very address that was looked at: a name that
answers differently the second time gains nothing. Each redirect is a new link and goes the whole way again.
"""

import asyncio
import re
import socket
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol
from urllib.parse import quote, urljoin, urlsplit

from mainstem.catalogue.liveness.verdict import Reason

LINK_CHARACTERS_MAX = 8_192

_USUAL_PORTS = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322}
_LOW_PORTS = frozenset({80, 322, 443, 554})
"""Below 1024 only the ports of these schemes: no mail server, no shell is ever spoken to."""

_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?\.?")

_NOT_FOR_STREAMS = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # the host of virtual machines in a large cloud: public in form, local in fact
        "192.88.99.0/24",  # relays of 6to4
    )
)
_V6_GLOBAL_UNICAST = IPv6Network("2000::/3")
_V6_TUNNELS = tuple(IPv6Network(network) for network in ("2001::/23", "2002::/16", "3fff::/20"))
_V6_TRANSLATED = IPv6Network("64:ff9b::/96")


class Unreachable(Exception):
    """A check cannot get there, or cannot understand what it was told; `reason` says why. Never says Offline."""

    def __init__(self, reason: Reason, detail: str = "", retry_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.retry_s = retry_s


class Target(NamedTuple):
    """A link, taken apart. All parts are ASCII, lower-cased where case means nothing."""

    scheme: str
    host: str
    port: int
    request: str
    """Path and query, as a request line has them; begins with a slash."""

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _USUAL_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def link(self) -> str:
        return f"{self.scheme}://{self.authority}{self.request}"

    @property
    def path(self) -> str:
        return self.request.partition("?")[0]

    @property
    def query(self) -> str:
        return self.request.partition("?")[2]

    @property
    def encrypted(self) -> bool:
        return self.scheme in {"https", "rtmps", "rtsps"}


def target_of(link: str) -> Target:
    """Take a link apart.

    Raises Unreachable (BAD_LINK) for another scheme than http, https, rtmp, rtmps, rtsp, rtsps; for user information,
    which would send a password to whoever answers; for a port below 1024 that is none of these schemes' own; and for
    what two programs might read in two ways (backslashes, blanks, control characters).
    """
    if len(link) > LINK_CHARACTERS_MAX or _FORBIDDEN_CHARACTERS.search(link):
        raise Unreachable(Reason.BAD_LINK, "too long, or with characters that no link has")
    try:
        parts = urlsplit(link)
        port = parts.port
    except ValueError as error:
        raise Unreachable(Reason.BAD_LINK, str(error)) from error
    usual = _USUAL_PORTS.get(parts.scheme)
    if usual is None:
        raise Unreachable(Reason.BAD_LINK, "unknown scheme")
    if "@" in parts.netloc:
        raise Unreachable(Reason.BAD_LINK, "user information")
    port = usual if port is None else port
    if port not in _LOW_PORTS and port < 1_024:
        raise Unreachable(Reason.BAD_LINK, f"port {port}")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(parts.scheme, _host_of(parts.hostname), port, f"{path}?{query}" if query else path)


def joined(base: Target, reference: str) -> Target:
    """The target that a reference found at `base` means; raises as `target_of` does."""
    if len(reference) > LINK_CHARACTERS_MAX or _FORBIDDEN_CHARACTERS.search(reference):
        raise Unreachable(Reason.BAD_LINK, "a reference with characters that no link has")
    try:
        return target_of(urljoin(base.link, reference))
    except ValueError as error:
        raise Unreachable(Reason.BAD_LINK, str(error)) from error


def _host_of(host: str | None) -> str:
    if not host:
        raise Unreachable(Reason.BAD_LINK, "no host")
    if ":" in host:
        try:
            return str(IPv6Address(host))  # refuses zones, which name our own interfaces, for they are no addresses
        except ValueError as error:
            raise Unreachable(Reason.BAD_LINK, "not an address") from error
    # Python's IDNA (2003) drops characters that nobody sees; to a browser a name with one is another name.
    if any(unicodedata.category(character) == "Cf" for character in host):
        raise Unreachable(Reason.BAD_LINK, "invisible characters in the host")
    try:
        ascii_host = host.encode("ascii" if host.isascii() else "idna").decode().lower()
    except UnicodeError as error:
        raise Unreachable(Reason.BAD_LINK, "not a host name") from error
    if not _HOST.fullmatch(ascii_host) or ".." in ascii_host:
        raise Unreachable(Reason.BAD_LINK, "not a host name")
    return ascii_host.removesuffix(".")


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet's, where a stranger's link may send us.

    What embeds an IPv4 address is judged by that address, or refused where it is a tunnel that nobody streams from.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        return _v6_is_public(address)
    return _v4_is_public(address)


def _v4_is_public(address: IPv4Address) -> bool:
    return (
        address.is_global  # leaves out private, shared (CGNAT), loopback, link-local, unspecified and reserved ranges
        and not address.is_multicast
        and not any(address in network for network in _NOT_FOR_STREAMS)
    )


def _v6_is_public(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return _v4_is_public(address.ipv4_mapped)
    if address in _V6_TRANSLATED:  # how IPv4 looks in a network that has IPv6 alone
        return _v4_is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return (
        address in _V6_GLOBAL_UNICAST and address.is_global and not any(address in network for network in _V6_TUNNELS)
    )


class Resolver(Protocol):
    """Asks for the addresses of a host, as text. Raises Unreachable (NAME_NOT_FOUND)."""

    async def __call__(self, host: str, port: int) -> Sequence[str]: ...


class SystemResolver:
    """What the machine's own resolver says, asked in threads of its own: a name server that hangs holds nobody else."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _look_up, host, port)
        except (OSError, UnicodeError) as error:
            raise Unreachable(Reason.NAME_NOT_FOUND, host) from error
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class AddressGuard:
    """Says to which address a connection for a target may go."""

    def __init__(self, resolver: Resolver, *, allow_private: bool = False) -> None:
        self._resolver = resolver
        self._allow_private = allow_private

    async def addresses(self, target: Target) -> Sequence[str]:
        """The addresses to connect to, best first, each of them looked at; at least one. Asks the resolver once.

        Raises Unreachable: NAME_NOT_FOUND, or FORBIDDEN_ADDRESS when any of the addresses is not public, for a name
        that answers with both kinds is no honest one.
        """
        found = await self._resolver(target.host, target.port)
        if not found:
            raise Unreachable(Reason.NAME_NOT_FOUND, target.host)
        if not self._allow_private and not all(map(is_public, found)):
            raise Unreachable(Reason.FORBIDDEN_ADDRESS, target.host)
        return found
