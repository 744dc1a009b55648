"""The pages for people: what they say to whom, and that they need nothing from elsewhere."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from mainstem.web import pages
from serving import Server

PAGES = ["/", "/v2/docs", "/api-docs", "/Evernest/docs", "/v1/stream/docs"]
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class _Links(HTMLParser):
    """Collects what a page loads and leads to, and whether it has scripts or styles inside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [link for name in ("href", "src") if (link := given.get(name))]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.fixture
def stranger(server: Server) -> Iterator[httpx.Client]:
    """Somebody without a key."""
    with server.client(None) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_only_from_here(stranger: httpx.Client, path: str) -> None:
    """Every link leads to something on this server, so that all works offline."""
    page = stranger.get(path, headers=HTML)
    links = _Links(page.text)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert links.found
    assert links.inline == []
    for link in links.found:
        assert link.startswith("/"), link
        assert stranger.get(link, headers=HTML).status_code == 200, link


@pytest.mark.parametrize("path", [*PAGES, "/assets/docs.js", "/assets/nothing"])
def test_browsers_are_told_to_be_careful(stranger: httpx.Client, path: str) -> None:
    """Scripts from here alone, no frames, no guessing of types."""
    headers = stranger.get(path, headers=HTML).headers
    policy = headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_a_browser_gets_a_page(stranger: httpx.Client) -> None:
    """It names the doors, the state, and where to begin."""
    text = stranger.get("/", headers=HTML).text
    address = stranger.base_url.netloc.decode()

    for wanted in ("DataStream", "Evernest", "healthy", "/v2/docs", f"curl {address}/v2/ingest"):
        assert wanted in text, wanted


def test_a_browser_that_shows_json_finds_a_mark_for_it(stranger: httpx.Client) -> None:
    """Beside what is no page browsers ask for this path, and complain where nothing is there."""
    mark = stranger.get("/favicon.ico")

    assert (mark.status_code, mark.headers["content-type"]) == (200, "image/svg+xml")


def test_curl_gets_text(stranger: httpx.Client) -> None:
    """The same, to be read in a terminal."""
    answer = stranger.get("/", headers={"Accept": "*/*"})

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "accept" in answer.headers["vary"]
    for wanted in ("DataStream", "Evernest", "healthy", "/v2/docs", "curl "):
        assert wanted in answer.text, wanted


def test_a_program_gets_json(stranger: httpx.Client) -> None:
    """When it asks for it."""
    answer = stranger.get("/", headers={"Accept": "application/json"}).json()

    assert answer["status"] in ("healthy", "degraded")
    assert [door["name"] for door in answer["doors"]] == ["DataStream", "Evernest", "StreamSource", "stream-server"]
    for path in (answer["docs"], answer["openapi"], answer["health"]):
        assert stranger.get(path).status_code == 200


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "a b", "x" * 300])
def test_a_made_up_host_is_not_repeated(stranger: httpx.Client, host: str) -> None:
    """The example has the address that the client used, when it is one."""
    text = stranger.get("/", headers={**HTML, "Host": host}).text

    assert "<script>" not in text
    assert "curl localhost:8082/v2/ingest" in text


def test_no_other_file_can_be_had(stranger: httpx.Client) -> None:
    """Only those that a page loads."""
    for name in ("first.html", "..%2Fpages.py", "%2e%2e/pages.py", "swagger-ui/LICENSE", ""):
        assert stranger.get(f"/assets/{name}").status_code == 404, name
    assert stranger.post("/").status_code == 405


def test_what_is_not_ours_keeps_its_licence() -> None:
    """Beside the files, as its terms want."""
    assert "Apache License" in pages._file("vendor/swagger-ui/LICENSE").decode()
    assert b"SmartBear" in pages._file("vendor/swagger-ui/NOTICE")
    named = re.search(rb"see (\S+LICENSE.txt)", pages._file("vendor/swagger-ui/swagger-ui-bundle.js")[:200])
    assert named is not None
    assert pages._file("vendor/swagger-ui/" + named[1].decode())
