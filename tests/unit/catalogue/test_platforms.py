"""Every link of a corpus (look-alikes, tricks and no links among them) is taken for what it is."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from mainstem.catalogue import Platform
from mainstem.catalogue.links import normal_link, parse_link, parse_listed_link
from mainstem.catalogue.platforms import channel_in, platform_of

CORPUS = Path(__file__).parents[2] / "data" / "links.ndjson"


class Example(NamedTuple):
    link: str
    platform: Platform
    channel: str | None
    """Whose channel it is, where the link says so."""
    valid: bool
    """Whether a listing may have it."""


def corpus() -> list[Example]:
    return [Example(**msgspec.json.decode(line)) for line in CORPUS.read_bytes().splitlines()]


EXAMPLES = corpus()


def test_the_corpus_is_large_and_of_every_kind() -> None:
    assert len(EXAMPLES) >= 300
    assert {example.platform for example in EXAMPLES} == set(Platform)
    assert len({example.link for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: ascii(example.link)[1:60])
def test_a_link_is_taken_for_what_it_is(example: Example) -> None:
    assert (parse_listed_link(example.link) is not None) == example.valid
    assert platform_of(example.link) == example.platform
    assert channel_in(example.link) == example.channel


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/A",
        "http://EXAMPLE.org/a",
        "https://example.org/a/",
        " https://example.org/a ",
        "example.org/a",
    ],
)
def test_spellings_of_one_link_are_one_link(other: str) -> None:
    assert normal_link(other) == normal_link("https://example.org/a")


@pytest.mark.parametrize("scheme", ["rtmp", "rtsp"])
def test_whether_a_played_link_goes_over_tls_makes_no_other_link(scheme: str) -> None:
    assert normal_link(f"{scheme}s://Camera.example/a/") == normal_link(f"{scheme}://camera.example/a")


@pytest.mark.parametrize("other", ["https://example.org/a?b", "rtmp://example.org/a", "rtsp://example.org/a"])
def test_other_links_are_other_links(other: str) -> None:
    assert normal_link(other) != normal_link("https://example.org/a")


@pytest.mark.parametrize("link", ["rtmp://example.org/live/a", "rtsps://example.org/a", "httpſ://example.org/"])
def test_what_players_open_is_no_web_address(link: str) -> None:
    """A profile is a page, and a long s is no s."""
    assert parse_link(link) is None
