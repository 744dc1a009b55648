"""Links as browsers and players read them: what is one, to which host it leads, and when two are the same. Pure."""

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote

_LINK = re.compile(
    r"(https?|rt[ms]ps?)://([^/\\?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.ASCII | re.DOTALL
)
_WEB = frozenset({"http", "https"})
_PLAYED_OVER_TLS = re.compile(r"^(rt[ms]p)s://")
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
    match = _matched(link)
    return _parts(match) if match is not None and match[1].lower() in _WEB else None


def parse_listed_link(link: str) -> Link | None:
    """The parts of a link that a listing may have: http or https, or RTMP or RTSP, plain or over TLS, which players
    open. These two have no `\\`, for programs do not agree on what it means there."""
    match = _matched(link)
    if match is None or (match[1].lower() not in _WEB and "\\" in link):
        return None
    return _parts(match)


def _matched(link: str) -> re.Match[str] | None:
    return None if _SPACE_OR_CONTROL.search(link) else _LINK.fullmatch(link)


def _parts(match: re.Match[str]) -> Link | None:
    host = _host(match[2].rpartition("@")[2])
    return None if host is None else Link(host, match[3].replace("\\", "/"), match[4] or "")


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
    """What two spellings of one link have in common: case, the slash at the end, and http or https (rtmp or rtmps, rtsp
    or rtsps) do not matter."""
    folded = _PLAYED_OVER_TLS.sub(r"\1://", link.strip().lower())
    return folded.removeprefix("https://").removeprefix("http://").rstrip("/")
