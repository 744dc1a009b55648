"""Where a check may go: links that point inside are refused, however they are written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from farside import far_side, page
from mainstem.catalogue.liveness.address import (
    AddressGuard,
    SystemResolver,
    Target,
    Unreachable,
    is_public,
    joined,
    target_of,
)
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.verdict import Reason
from waiting import PATIENCE_S

DATA = Path(__file__).parents[3] / "data" / "liveness"


def lines_of(name: str) -> list[str]:
    return [line for line in (DATA / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


class Names:
    """A resolver that answers what a test says; a name's answers come one after the other, the last one forever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.asked: list[str] = []
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host, [])
        if not answers:
            raise Unreachable(Reason.NAME_NOT_FOUND, host)
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.mark.parametrize("address", lines_of("forbidden_addresses.txt"))
def test_an_address_inside_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", lines_of("public_addresses.txt"))
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("link", lines_of("forbidden_links.txt"))
async def test_a_link_that_leads_inside_is_refused(link: str) -> None:
    """By how it is written, or by what the machine's own resolver makes of it; never is a connection opened."""
    resolver = SystemResolver()
    try:
        with pytest.raises(Unreachable) as refused:
            await AddressGuard(resolver).addresses(target_of(link))
    finally:
        resolver.close()

    assert refused.value.reason in {Reason.BAD_LINK, Reason.FORBIDDEN_ADDRESS, Reason.NAME_NOT_FOUND}


@pytest.mark.parametrize(
    ("link", "authority"),
    [
        ("https://Example.COM/a?b=c", "example.com"),
        ("http://example.com:8080/", "example.com:8080"),
        ("rtmp://example.com/app/key", "example.com"),
        ("rtsp://example.com:8554/cam", "example.com:8554"),
        ("https://bücher.example/live", "xn--bcher-kva.example"),
        ("http://[2606:4700::1111]:8080/x", "[2606:4700::1111]:8080"),
        ("https://example.com./", "example.com"),
    ],
)
def test_an_honest_link_is_taken_apart(link: str, authority: str) -> None:
    assert target_of(link).authority == authority


@pytest.mark.parametrize("reference", ["//127.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "ftp://x/"])
async def test_a_redirect_is_a_new_link(reference: str) -> None:
    names = Names(example_com=[["93.184.216.34"]], **{"127_0_0_1": [["127.0.0.1"]], "::1": [["::1"]]})
    names._answers["169.254.169.254"] = [["169.254.169.254"]]

    with pytest.raises(Unreachable):
        await AddressGuard(names).addresses(joined(target_of("https://example.com/x"), reference))


async def test_a_name_with_a_public_and_a_private_address_is_refused() -> None:
    """Which of them would be taken is chance, and the name is no honest one."""
    names = Names(rebind_example=[["93.184.216.34", "10.0.0.7"]])

    with pytest.raises(Unreachable) as refused:
        await AddressGuard(names).addresses(target_of("http://rebind.example/"))

    assert refused.value.reason is Reason.FORBIDDEN_ADDRESS


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A name that answers differently the second time gains nothing: there is no second time."""
    async with far_side() as far:
        far.says("/", page("inside"))
        names = Names(rebind_example=[["127.0.0.2"], ["127.0.0.1"]])
        fetcher = Fetcher(Dialer(AddressGuard(names, allow_private=True)), Hosts(), timeout_s=PATIENCE_S)

        with pytest.raises(Unreachable):
            await fetcher.get(target_of(far.url("/", "rebind.example")))

    assert names.asked == ["rebind.example"]
    assert far.asked == []


async def test_a_redirect_inside_opens_no_connection() -> None:
    """The first hop is allowed here by a resolver that vouches for it; the second is not."""
    async with far_side() as outside, far_side() as inside:
        inside.says("/secret", page("secret"))
        outside.says("/", page("", 302, Location=inside.url("/secret", "localhost")))

        class OnlyTheFirst(AddressGuard):
            async def addresses(self, target: Target) -> Sequence[str]:
                return ["127.0.0.1"] if target.port == outside.port else await super().addresses(target)

        resolver = SystemResolver()
        fetcher = Fetcher(Dialer(OnlyTheFirst(resolver)), Hosts(), timeout_s=PATIENCE_S)
        with pytest.raises(Unreachable) as refused:
            await fetcher.get(target_of(outside.url("/")))
        resolver.close()

    assert refused.value.reason is Reason.FORBIDDEN_ADDRESS
    assert outside.asked == ["/"]
    assert inside.asked == []
