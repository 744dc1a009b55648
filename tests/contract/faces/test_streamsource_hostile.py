"""What hostile and careless clients send to StreamSource's door: never a server error, always its own words."""

import gzip
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import PASSWORD_OF_ALL, Person, error_of, fresh, fresh_email, got
from waiting import PATIENCE_S

NUL = "a\0b"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("hostile") / "data", signup_roles=True) as running:
        yield running


@pytest.fixture(scope="module")
def number(admin: Person) -> int:
    """A stream."""
    made: int = admin.listing(title="A stream", city="Austin", state="TX")["id"]
    return made


# Characters that end a text


STREAM = {"source": "Ada", "link": "https://live.example/ada"}
MOMENT = {"title": "A moment", "event_timestamp": "2025-01-05T10:00:00Z"}
ENTRY = {"list_type": "domain", "value": "example.com"}
ACCOUNT = {"platform": "twitch", "username": "ada"}

DRAFTS: dict[str, dict[str, Any]] = {
    "/users/signup": {"email": "ada@example.com", "password": PASSWORD_OF_ALL},
    "/streams": STREAM,
    "/locations": {"city": "Austin"},
    "/streamers": {"name": "Ada", "accounts_attributes": [ACCOUNT]},
    "/ignore_lists": ENTRY,
    "/timestamps": MOMENT,
}

TEXTS = [
    *(("/users/signup", name) for name in ("email", "role")),
    *(
        ("/streams", name)
        for name in (
            *("source", "link", "status", "platform", "orientation", "kind", "title", "notes", "city", "state"),
            *("posted_by", "started_at", "ended_at", "last_checked_at", "last_live_at"),
            *("location.city", "location.state_province", "location.region", "location.country"),
        )
    ),
    *(("/locations", name) for name in ("city", "state_province", "region", "country", "latitude", "longitude")),
    *(("/streamers", name) for name in ("name", "notes", "posted_by")),
    *(("/streamers", f"accounts_attributes.0.{name}") for name in ("platform", "username", "profile_url")),
    *(("/ignore_lists", name) for name in ("list_type", "value", "notes")),
    *(("/timestamps", name) for name in ("title", "description", "event_timestamp")),
]


def with_text(draft: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    """The draft with this text at a place in it, such as `location.city`."""
    body: dict[str, Any] = deepcopy(draft)
    inside: Any = body
    *way, last = name.split(".")
    for step in way:
        if isinstance(inside, dict) and step not in inside:
            inside[step] = {"city": "Austin"}
        inside = inside[int(step) if isinstance(inside, list) else step]
    inside[last] = text
    return body


@pytest.mark.parametrize(("path", "name"), TEXTS)
def test_a_new_thing_has_no_nul_in_its_texts(admin: Person, path: str, name: str) -> None:
    """422, and nothing is made: databases, shells and spreadsheets end a text there."""
    listed = "/users" if path.startswith("/users") else path
    before = got(admin.api.get(listed))["meta"]["total_count"]
    error_of(admin.api.post(path, json=with_text(DRAFTS[path], name, NUL)), 422)
    assert got(admin.api.get(listed))["meta"]["total_count"] == before


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, name in TEXTS if path != "/users/signup"])
def test_a_change_brings_no_nul_into_a_text(admin: Person, path: str, name: str) -> None:
    """422, and what was there stays."""
    draft = DRAFTS[path] | {key: fresh(key) for key in ("city", "name", "value") if key in DRAFTS[path]}
    made = got(admin.api.post(path, json=draft), 201)
    changes = with_text({"accounts_attributes": [{}]} if "accounts" in name else {}, name, NUL)
    error_of(admin.api.patch(f"{path}/{made['id']}", json=changes), 422)
    assert "\\u0000" not in admin.api.get(f"{path}/{made['id']}").text


@pytest.mark.parametrize("name", ["title", "city", "started_at"])
def test_rows_with_a_nul_are_refused_each_by_itself(admin: Person, name: str) -> None:
    """In imports as in lists of what is passed over."""
    rows = got(admin.api.post("/streams/bulk_import", json=[STREAM, {**STREAM, name: NUL}]))
    assert (rows["imported"], [error["index"] for error in rows["errors"]]) == (1, [1])
    entries = [{**ENTRY, "value": fresh("site")}, {**ENTRY, "value": NUL}, {**ENTRY, "notes": NUL}]
    made = got(admin.api.post("/ignore_lists/bulk_create", json={"entries": entries}), 201)
    assert (len(made["created"]), len(made["errors"])) == (1, 2)


def test_flags_have_no_nul_in_them(admin: Person) -> None:
    """Neither their names nor those they are on for."""
    error_of(admin.api.post("/features/a%00b/enable"), 422)
    for gate in ("actor", "group", "percentage_of_actors", "percentage_of_time"):
        error_of(admin.api.post("/features/stream_tags/enable", json={gate: NUL}), 422)
    error_of(admin.api.patch("/users/8", json={"role": NUL}), 422)


def test_a_query_string_writes_no_nul_either(admin: Person, number: int) -> None:
    """It counts as the body does."""
    for path in ("?title=a%00b", "?stream[title]=a%00b", "?city=%00"):
        error_of(admin.api.patch(f"/streams/{number}{path}"), 422)


# Searches


SEARCHES = [
    *("\0", NUL, '"', '""', "'", "''; DROP TABLE listings; --", "%", "_", "\\", "*", "a*", "aus*"),
    *(
        "NEAR(a b)",
        "source:ada",
        "title : x",
        "NOT a",
        "a AND b",
        "a OR",
        "(",
        ")",
        "^a",
        "-a",
        "+a",
        "{a}",
        "a NEAR/2 b",
    ),
    *(
        "\U0001f4fa",
        "\U0001f4fa\U0001f4fa\U0001f4fa",
        "ÄÖÜ",
        "é",
        "e\u0301",
        "\u202e",
        "\ufffd",
        "\ud7ff",
        "北京",
        "x" * 60_000,
        "_" * 60_000,
        "%" * 20_000,
    ),
]


@pytest.mark.parametrize("search", SEARCHES, ids=range(len(SEARCHES)))
def test_a_search_is_text_and_nothing_else(admin: Person, search: str) -> None:
    """No operators, no wildcards: what is found has the text in it."""
    for path, name in (
        ("/streams", "streams"),
        ("/locations", "locations"),
        ("/streamers", "streamers"),
        ("/timestamps", "timestamps"),
        ("/ignore_lists", "ignore_lists"),
        ("/users", "users"),
    ):
        found = got(admin.api.get(path, params={"search": search}))
        assert found["meta"]["total_count"] == len(found[name])
        for one in found[name]:
            assert search.lower() in json.dumps(one, ensure_ascii=False).lower(), path
    got(admin.api.get("/streams/export", params={"search": search}))


@pytest.mark.parametrize(
    "text", ["\U0001f4fa", "北京", "É", "a\u0301", "'; --", '"x"', "NEAR", "*", "100%", "a_b", "\\"]
)
def test_what_is_written_is_found_again(admin: Person, text: str) -> None:
    """Characters of four bytes, marks, and what databases read as more than text; also in any case."""
    title = f"{fresh('so')} {text}{text}{text} it is"
    made = admin.listing(title=title)
    for search in (title, f"{text}{text}{text} it", title.upper(), title.lower()):
        assert made["id"] in [one["id"] for one in got(admin.api.get("/streams", params={"search": search}))["streams"]]


@pytest.mark.parametrize("letter", ["a", "É", "\U0001f4fa", "%"])
def test_a_long_text_is_looked_for_to_its_end(admin: Person, letter: str) -> None:
    """Not only what it begins with, which is all that the index is asked for; a page of it is found in no time."""
    text = f"{fresh('long')} " + f"{letter} yz " * 100 + "."
    made = admin.listing(title=text, notes=text * 10)["id"]
    for search, is_found in ((text, True), (text.upper(), True), (text * 10, True), (f"{text}x", False)):
        found = got(admin.api.get("/streams", params={"search": search}))
        assert (made in [one["id"] for one in found["streams"]]) is is_found


@pytest.mark.parametrize("letter", ["É", "Ж", "京", "\U0001f4fa"])
def test_one_letter_is_found_in_either_case(admin: Person, letter: str) -> None:
    """Although it is too short for the index."""
    made = admin.listing(title=f"{fresh('one')}{letter}", source=fresh("One"))["id"]
    for search in (letter, letter.lower()):
        found = got(admin.api.get("/streams", params={"search": search}))["streams"]
        assert made in [one["id"] for one in found]


def test_a_time_full_of_space_is_none_at_once(admin: Person, number: int) -> None:
    """However long it is: nobody waits while one text is read."""
    got(admin.api.get(f"/timestamps?start_date=1{'+' * 60_000}x"))
    body = {"started_at": f"1{' ' * 1_000_000}x"}
    assert error_of(admin.api.patch(f"/streams/{number}", json=body), 422) == "Started at is invalid"


# Numbers


NUMBERS = ["0", "-1", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e3", "1.0", "+1", "%00"]
NUMBERS += ["%31%00", "abc", "٣", "１", "1%20", "%2e%2e", "%ff", "null", "9" * 5_000, "-9223372036854775809"]


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_what_is_no_number_of_anything_is_not_found(admin: Person, number: str) -> None:
    """404 with every method of every path that has a number in it."""
    for collection in ("streams", "locations", "streamers", "timestamps", "ignore_lists", "users"):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            error_of(admin.api.request(method, f"/{collection}/{number}", json={}), 404)
    for method, path in (
        ("PUT", f"/streams/{number}/pin"),
        ("POST", f"/streams/{number}/archive"),
        ("GET", f"/streams/{number}/analytics"),
        ("GET", f"/streams/{number}/open"),
        ("POST", f"/streamers/{number}/continue"),
        ("POST", f"/timestamps/{number}/streams"),
        ("DELETE", f"/timestamps/{number}/streams/{number}"),
    ):
        error_of(admin.api.request(method, path), 404)


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808", "1e3", "abc", "\0", "1.5"])
def test_a_filter_by_no_number_finds_nothing(admin: Person, number: str) -> None:
    """An owner is the exception: one who does not exist is 404."""
    for path, name in (("/streams", "streamer_id"), ("/streams", "location_id"), ("/timestamps", "stream_id")):
        assert got(admin.api.get(path, params={name: number}))["meta"]["total_count"] == 0, (path, name)
    error_of(admin.api.get("/streams", params={"user_id": number}), 404)


@pytest.mark.parametrize("value", [-1, 1 << 63, 1 << 64, 10**400, 1.5, "x", [], {}, True])
def test_numbers_in_bodies_are_held_to_what_there_is(admin: Person, value: Any) -> None:
    """422 for a streamer, a place, a stream that cannot be; never stored, never a server error."""
    for name in ("streamer_id", "location_id"):
        error_of(admin.api.post("/streams", json={**STREAM, name: value}), 422)
    error_of(admin.api.post("/timestamps", json={**MOMENT, "streams": [{"stream_id": value}]}), 422)
    for name in ("latitude", "longitude"):
        reply = admin.api.post("/locations", json={"city": fresh("Town"), name: value})
        assert reply.status_code in (201, 422), reply.text
    for name in ("started_at", "last_checked_at"):
        reply = admin.api.post("/streams", json={**STREAM, name: value})
        assert reply.status_code in (201, 422), reply.text


@pytest.mark.parametrize("page", ["0", "-1", "abc", "9007199254740993", "9" * 30, "1e3", "", "\0", "1.5", "٣"])
@pytest.mark.parametrize("path", ["/streams", "/locations", "/streamers", "/timestamps", "/ignore_lists", "/users"])
def test_pages_are_never_an_error(admin: Person, path: str, page: str) -> None:
    """What is no page is the first, what is no length the usual one; behind the end there is nothing."""
    for parameters in ({"page": page}, {"per_page": page}, {"page": page, "per_page": page}):
        meta = got(admin.api.get(path, params=parameters))["meta"]
        assert meta["current_page"] >= 1
        assert 1 <= meta["per_page"] <= 100


# Queries


def test_of_a_parameter_that_comes_twice_the_last_counts(admin: Person, number: int) -> None:
    """As in a form; and one with brackets is not the one without."""
    assert got(admin.api.get("/streams?per_page=7&per_page=3"))["meta"]["per_page"] == 3
    assert got(admin.api.get("/streams?status=nonsense&status="))["meta"]["total_count"] >= 1
    assert got(admin.api.get("/streams?status[]=live&status[a]=x&per_page[]=1"))["meta"]["per_page"] == 25


@pytest.mark.parametrize(
    "query", ["a=%ff%fe", "search=%ED%A0%80", "%00=1", "=", "&&&", "a[[]=1", "a[b][c][d][e][f][g][h][i]=1"]
)
def test_odd_queries_are_read_as_far_as_they_can_be(admin: Person, query: str) -> None:
    got(admin.api.get(f"/streams?{query}"))


def test_a_very_long_question_is_answered_without_links(admin: Person) -> None:
    """Links would repeat it four times in a header, more than proxies take."""
    reply = admin.api.get("/streams", params={"search": "x" * 50_000})

    assert got(reply)["streams"] == []
    assert "link" not in reply.headers
    assert admin.api.get("/streams", params={"kind": "video"}).headers["link"]
    assert "parameters" in error_of(admin.api.get(f"/streams?{'a&' * 10_001}"), 400)


# Methods, paths, types


def test_other_methods_are_refused_with_those_that_there_are(admin: Person) -> None:
    """405 and Allow, for everybody, whatever is behind the path."""
    for method in ("POST", "PUT", "TRACE", "OPTIONS"):
        reply = admin.api.request(method, "/streams/export")
        assert error_of(reply, 405) == "Method Not Allowed"
        assert reply.headers["allow"] == "GET, HEAD"
    assert error_of(admin.api.request("PATCH", "/streams"), 405) == "Method Not Allowed"


@pytest.mark.parametrize(
    "path", ["/streams/", "//streams", "/streams/1/", "/streams/1/pin/", "/Streams", "/streams/1/nothing", "/", ""]
)
def test_a_path_that_is_not_written_so_is_not_found(admin: Person, path: str) -> None:
    """No redirect: a body would be lost on the way."""
    for method in ("GET", "POST", "DELETE"):
        assert error_of(admin.api.request(method, f"{admin.api.base_url}"[:-1] + path), 404) == "Not Found"


def test_head_answers_as_get_without_the_body(admin: Person, number: int) -> None:
    """The same headers, errors too; and to look at a link is not to open it."""
    for path in ("/streams", f"/streams/{number}", "/locations", "/features", "/feed", "/streams/999999"):
        asked, looked = admin.api.get(path), admin.api.head(path)
        assert (looked.status_code, looked.content) == (asked.status_code, b"")
        assert looked.headers["content-length"] == asked.headers.get("content-length", looked.headers["content-length"])
    before = got(admin.api.get(f"/streams/{number}/analytics"))["views_count"]
    assert admin.api.head(f"/streams/{number}/open").status_code == 302
    assert got(admin.api.get(f"/streams/{number}/analytics"))["views_count"] == before


def test_pages_of_other_origins_may_read_errors_too(server: Server) -> None:
    """Else a browser shows nothing but that something failed."""
    origin = {"Origin": "https://wall.example"}
    for method, path, status in (("GET", "/streams", 401), ("GET", "/nothing", 404), ("PUT", "/users/login", 405)):
        reply = httpx.request(method, f"{server.url}/api/v1{path}", headers=origin, timeout=PATIENCE_S)
        error_of(reply, status)
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "X-RateLimit-Remaining" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "image/png", "?"]
)
def test_a_body_of_another_type_says_nothing(admin: Person, number: int, media_type: str) -> None:
    """As if it were not there: a new thing lacks what it needs, an old one stays as it is."""
    headers = {"Content-Type": media_type}
    body = json.dumps({"source": "Other", "link": "https://live.example/other"}).encode()
    assert "can't be blank" in error_of(admin.api.post("/streams", content=body, headers=headers), 422)
    assert got(admin.api.patch(f"/streams/{number}", content=body, headers=headers))["source"] == "Ada"


@pytest.mark.parametrize(
    "body", [b"{", b"nul", b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b'"\\ud800"', b"1e999", b"NaN"]
)
def test_what_is_no_json_is_told_as_such(admin: Person, number: int, body: bytes) -> None:
    """400, however it is broken."""
    headers = {"Content-Type": "application/json"}
    for method, path in (("POST", "/streams"), ("PATCH", f"/streams/{number}"), ("POST", "/streams/bulk_import")):
        assert error_of(admin.api.request(method, path, content=body, headers=headers), 400) == "Malformed JSON"


@pytest.mark.parametrize("body", [[], 1, "text", None, True, [[]], {"stream": []}, {"stream": {"stream": {}}}])
def test_json_that_is_no_object_lacks_everything(admin: Person, number: int, body: Any) -> None:
    """422 where something is needed, else nothing happens."""
    assert "can't be blank" in error_of(admin.api.post("/streams", json=body), 422)
    assert got(admin.api.patch(f"/streams/{number}", json=body))["source"] == "Ada"


# Sizes


def test_a_mebibyte_is_read_and_a_byte_more_is_not(admin: Person) -> None:
    """Unpacked, too: what is small on the way may be large here."""
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"source": "x", "link": "nothing"}).encode()
    whole = body + b" " * ((1 << 20) - len(body))
    error_of(admin.api.post("/streams", content=whole, headers=headers), 422)
    error_of(admin.api.post("/streams", content=whole + b" ", headers=headers), 413)
    packed = gzip.compress(whole + b" " * (64 << 20))
    error_of(admin.api.post("/streams", content=packed, headers={**headers, "Content-Encoding": "gzip"}), 413)


def test_an_import_has_ten_thousand_rows_in_sixteen_mebibytes(admin: Person) -> None:
    """One row more is told before any is taken; a byte more is not read."""
    before = got(admin.api.get("/streams"))["meta"]["total_count"]
    refusal = error_of(admin.api.post("/streams/bulk_import", json=[STREAM] * 10_001), 422)
    assert "10000" in refusal
    error_of(admin.api.post("/streams/bulk_import", content=b"[%b]" % (b"{}," * 2_000_000 + b"{}")), 422)
    error_of(admin.api.post("/streams/bulk_import", content=b" " * ((16 << 20) + 1)), 413)
    assert got(admin.api.get("/streams"))["meta"]["total_count"] == before


def test_nobody_fills_memory_who_may_not_even_ask(reader: Person) -> None:
    """Who is refused is refused before his body is read."""
    flood = b'{"entries":[%b]}' % (b"{}," * 1_000_000 + b"{}")
    error_of(reader.api.post("/ignore_lists/bulk_create", content=flood), 403)
    error_of(reader.api.request("DELETE", "/ignore_lists/bulk_delete", content=b"[" * 1_000), 403)
    error_of(reader.api.post("/streams/bulk_import", content=flood), 403)


def test_lists_within_bodies_have_an_end(admin: Person) -> None:
    """Too many are told at once, and none of them is taken."""
    accounts = [{"platform": "twitch", "username": f"u{count}"} for count in range(20_000)]
    name = fresh("Grace")
    assert "100" in error_of(admin.api.post("/streamers", json={"name": name, "accounts_attributes": accounts}), 422)
    made = got(admin.api.post("/streamers", json={"name": name, "accounts_attributes": accounts[:50]}), 201)
    assert len(made["accounts"]) == 50
    assert "50" in error_of(admin.api.patch(f"/streamers/{made['id']}", json={"accounts": accounts[50:60]}), 422)
    entries = [{"list_type": "domain", "value": f"{count}.example"} for count in range(10_001)]
    error_of(admin.api.post("/ignore_lists/bulk_create", json={"entries": entries}), 422)
    error_of(admin.api.request("DELETE", "/ignore_lists/bulk_delete", json={"ids": list(range(10_001))}), 422)
    links = [{"stream_id": count} for count in range(30_000)]
    error_of(admin.api.post("/timestamps", json={**MOMENT, "streams": links}), 422)


@pytest.mark.parametrize(
    ("path", "fields", "name", "characters_max"),
    [
        ("/streams", STREAM, "source", 255),
        ("/streams", STREAM, "title", 1_000),
        ("/streams", STREAM, "notes", 65_535),
        ("/streamers", {}, "name", 255),
        ("/timestamps", MOMENT, "title", 200),
        ("/timestamps", MOMENT, "description", 2_000),
        ("/locations", {}, "city", 1_000),
    ],
)
def test_lengths_are_counted_in_characters(
    admin: Person, path: str, fields: dict[str, str], name: str, characters_max: int
) -> None:
    """Of whatever bytes: what a person sees as one of four bytes is one."""
    text = fresh("a") + "\U0001f4fa" * characters_max
    made = got(admin.api.post(path, json={**fields, name: text[:characters_max]}), 201)
    assert made[name] == text[:characters_max]
    assert "too long" in admin.api.post(path, json={**fields, name: text[: characters_max + 1]}).text


def test_emails_are_ascii(server: Server) -> None:
    """Two that look alike would be two accounts."""
    for email in ("аda@example.com", "ada@exämple.com", f"{'a' * 250}@b.example", "a@b@c", "a b@c.example", NUL):
        body = {"email": email, "password": PASSWORD_OF_ALL}
        error_of(httpx.post(f"{server.url}/api/v1/signup", json=body, timeout=PATIENCE_S), 422)
    body = {"email": fresh_email(), "password": f"{PASSWORD_OF_ALL}\U0001f4fa"}
    got(httpx.post(f"{server.url}/api/v1/signup", json=body, timeout=PATIENCE_S), 201)
    got(httpx.post(f"{server.url}/api/v1/login", json=body, timeout=PATIENCE_S))


def test_nothing_of_all_this_was_a_server_error(server: Server) -> None:
    """The log knows of those that a client may have missed."""
    assert [line for line in server.log_lines() if line.get("level") in ("error", "critical")] == []
