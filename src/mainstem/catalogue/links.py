"""Links as browsers read them: whether one is an address, of which host, and when two are the same. Pure."""

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote

_LINK = re.compile(r"https?://([^/\\?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_PORT = re.compile(r"[0-9]{0,5}", re.ASCII)
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]", re.IGNORECASE | re.ASCII)
# What no host may have in it, after decoding (WHATWG URL, forbidden domain code points).
_FORBIDDEN = re.compile(r"[\x00-\x20\"#%/:<>?@\[\\\]^`{|}\x7f]")
# Code points that a host is read without (UTS 46: ignored).
_IGNORED = dict.fromkeys(
    (0x00AD, 0x034F, 0x200B, 0x2060, 0x2064, 0xFEFF, *range(0xFE00, 0xFE10), *range(0x180B, 0x180E))
)
_DOTS = str.maketrans("。．｡", "...")


class Link(NamedTuple):
    """The parts of a link."""

    host: str
    """In lower case, without port, user or the dot at its end, as a resolver would get it but for Punycode."""
    path: str
    query: str


def parse_link(link: str) -> Link | None:
    """The parts of an http or https link; None where it is none, or has a space or no host.

    The host is what a browser would go to: what stands before an `@` is no part of it, `\\` ends it as `/` does, and
    letters that only look wide are plain ones.
    """
    match = _LINK.fullmatch(link)
    if match is None or _SPACE_OR_CONTROL.search(link):
        return None
    host = _host(match[1].rpartition("@")[2])
    return None if host is None else Link(host, match[2].replace("\\", "/"), match[3] or "")


def _host(authority: str) -> str | None:
    if authority.startswith("["):
        address, bracket, port = authority.partition("]")
        whole = address + bracket
        return whole.lower() if _IPV6.fullmatch(whole) and _is_port(port.removeprefix(":")) else None
    name, _, port = authority.partition(":")
    host = unicodedata.normalize("NFKC", unquote(name).translate(_IGNORED).translate(_DOTS)).lower()
    host = host.removesuffix(".")
    is_host = bool(host) and _FORBIDDEN.search(host) is None and all(host.split("."))
    return host if is_host and _is_port(port) else None


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text or "0") < 1 << 16


def is_within(host: str, domain: str) -> bool:
    """Whether a host is this domain or lies under it."""
    return host == domain or host.endswith(f".{domain}")


def normal_link(link: str) -> str:
    """What two spellings of one link have in common: case, the slash at the end, and http or https do not matter."""
    folded = link.strip().lower()
    return folded.removeprefix("https://").removeprefix("http://").rstrip("/")
