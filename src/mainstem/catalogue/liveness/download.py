"""A document from an address that somebody gave us, by the client that checks use: only from where that may go."""

from mainstem.catalogue.liveness.address import AddressGuard, SystemResolver, Unreachable, target_of
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.verdict import Reason
from mainstem.errors import Unavailable

DOWNLOAD_BYTES_MAX = 64 << 20
_TIMEOUT_S = 60.0
_WORDS = {
    Reason.BAD_LINK: "it has no plain host and path, a user name, or a port below 1024 that is not the web's",
    Reason.FORBIDDEN_ADDRESS: "its address is private; MAINSTEM_CHECK_ALLOW_PRIVATE=true allows that",
    Reason.NAME_NOT_FOUND: "there is no such host",
    Reason.NOT_REACHED: "nobody answers there",
    Reason.TLS_FAILED: "its certificate is not good",
    Reason.TIMED_OUT: "it takes too long",
    Reason.REDIRECTS: "it leads from one address to the next without end",
}


async def download(link: str, *, allow_private: bool = False) -> bytes:
    """The whole of it, 64 MiB and a minute at most. Raises Unavailable, with why."""
    resolver = SystemResolver()
    dialer = Dialer(AddressGuard(resolver, allow_private=allow_private))
    fetcher = Fetcher(dialer, Hosts(), timeout_s=_TIMEOUT_S, body_bytes_max=DOWNLOAD_BYTES_MAX)
    try:
        answer = await fetcher.get(target_of(link), "application/json")
    except Unreachable as error:
        raise Unavailable(f"{link} cannot be read: {_WORDS.get(error.reason, error.reason)}.") from error
    finally:
        resolver.close()
    if answer.status != 200:
        raise Unavailable(f"{link} answers {answer.status}.")
    if not answer.complete:
        raise Unavailable(f"{link} has more than {DOWNLOAD_BYTES_MAX >> 20} MiB, or broke off.")
    return answer.body
