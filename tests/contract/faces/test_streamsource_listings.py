"""Streams behind StreamSource's door: what clients send and read, from the first to the last."""

import asyncio
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mainstem.clock import SECOND_US, rfc3339
from mainstem.transcode import Transcodes
from serving import Server, serving
from streamsource import FORBIDDEN, House, Person, error_of, fresh, got, house
from waiting import PATIENCE_S, until

KEYS = {
    *("id", "source", "link", "status", "is_pinned", "is_archived", "platform", "orientation", "kind", "city", "state"),
    *("notes", "title", "posted_by", "started_at", "ended_at", "last_checked_at", "last_live_at", "created_at"),
    *("updated_at", "check", "user", "streamer_id", "streamer", "location_id", "location"),
}

COLUMNS = [
    *("source", "link", "status", "platform", "orientation", "kind", "city", "state", "notes", "title", "posted_by"),
    *("is_pinned", "created_at", "last_checked_at", "last_live_at", "owner_email"),
]
"""Of an export."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people choose their roles."""
    with serving(tmp_path_factory.mktemp("listings") / "data", signup_roles="yes") as running:
        yield running


def ids(answer: Any) -> list[int]:
    return [stream["id"] for stream in answer["streams"]]


# From the first to the last


def test_an_editor_does_everything_with_a_stream_of_his_own(ada: Person) -> None:
    made = ada.listing(title="a")
    path = f"/streams/{made['id']}"

    assert got(ada.api.get(path))["title"] == "a"
    assert got(ada.api.put(path, json={"title": "b"}))["title"] == "b"
    assert got(ada.api.patch(path, json={"stream": {"title": "c"}}))["title"] == "c"
    assert got(ada.api.put(f"{path}/pin"))["is_pinned"] is True
    assert got(ada.api.delete(f"{path}/pin"))["is_pinned"] is False
    assert got(ada.api.post(f"{path}/archive"))["is_archived"] is True
    assert got(ada.api.post(f"{path}/unarchive"))["is_archived"] is False
    gone = ada.api.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert error_of(ada.api.get(path), 404) == "Record not found"


def test_a_stream_has_all_its_keys_and_is_there_twice(ada: Person) -> None:
    """One family of clients reads `.id`, another `.stream.id`."""
    made = ada.listing()
    inner = made.pop("stream")
    assert inner == made
    # What else there is depends on features.
    assert set(made) - {"analytics_url", "tags"} == KEYS
    assert set(made["user"]) == {"id", "email", "role", "created_at", "updated_at"}
    assert made["user"]["email"] == made["posted_by"] == ada.email


def test_whatever_is_done_to_a_stream_answers_it_in_both_ways(ada: Person) -> None:
    path = f"/streams/{ada.listing()['id']}"
    calls = [("GET", ""), ("PUT", ""), ("PATCH", ""), ("PUT", "/pin"), ("DELETE", "/pin")]
    for method, rest in (*calls, ("POST", "/archive"), ("POST", "/unarchive")):
        answer = got(ada.api.request(method, path + rest))
        assert answer.pop("stream") == answer, (method, rest)


def test_it_has_defaults(ada: Person) -> None:
    made = ada.listing()
    expected = {"status": "unknown", "kind": "video", "is_pinned": False, "is_archived": False, "platform": "Other"}
    assert made.items() >= expected.items()
    assert [made[name] for name in ("last_checked_at", "last_live_at", "started_at", "orientation")] == [None] * 4


def test_times_have_milliseconds_and_a_z(ada: Person) -> None:
    assert len(ada.listing()["created_at"]) == len("2025-01-05T10:00:00.000Z")
    assert ada.listing()["created_at"].endswith("Z")


def test_a_body_may_be_missing_whatever_the_content_type_says(ada: Person) -> None:
    made = ada.listing()
    headers = {"Content-Type": "application/json"}
    path = f"/streams/{made['id']}"
    assert got(ada.api.put(f"{path}/pin", headers=headers))["is_pinned"] is True
    assert got(ada.api.request("DELETE", f"{path}/pin", headers=headers))["is_pinned"] is False
    assert got(ada.api.patch(path, headers=headers))["id"] == made["id"]
    assert got(ada.api.get(path, headers=headers))["id"] == made["id"]


def test_a_body_that_changes_nothing_answers_the_stream_as_it_was(ada: Person) -> None:
    made = ada.listing()
    assert got(ada.api.patch(f"/streams/{made['id']}", json={})) == made


def test_forms_are_taken_as_well_as_json(ada: Person) -> None:
    body = {"stream[source]": "Form", "stream[link]": "https://kick.com/form", "is_pinned": "1"}
    made = got(ada.api.post("/streams", data=body), 201)
    assert (made["source"], made["platform"], made["is_pinned"]) == ("Form", "Kick", True)


# What is refused


def test_an_empty_stream_is_wrong_in_four_ways_in_this_order(ada: Person) -> None:
    assert error_of(ada.api.post("/streams", json={}), 422) == (
        "Link can't be blank, Link must be a valid HTTP or HTTPS URL, Source can't be blank,"
        " Source is too short (minimum is 1 character)"
    )


@pytest.mark.parametrize("field", ["status", "platform", "orientation", "kind"])
def test_a_word_that_is_none_is_refused_and_no_server_error(ada: Person, field: str) -> None:
    body = {"source": "Ada", "link": "https://example.org/", field: "nothing of the kind"}
    assert error_of(ada.api.post("/streams", json=body), 422) == f"{field.capitalize()} is not included in the list"


def test_a_source_may_have_255_characters_and_a_link_2000(ada: Person) -> None:
    link = "https://example.org/配信/".ljust(2_000, "a")
    assert ada.listing(source="x" * 255, link=f" {link} ")["link"] == link
    body = {"source": "x" * 256, "link": link}
    assert error_of(ada.api.post("/streams", json=body), 422) == "Source is too long (maximum is 255 characters)"


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps", "rtsp", "rtsps"])
def test_a_link_that_players_open_goes_wherever_a_web_address_does(ada: Person, scheme: str) -> None:
    """Made, changed, imported, found and gone to; beyond the sheet, because the checker plays it."""
    link = f"{scheme}://media.example/{fresh('live')}/Key?token=a"
    made = ada.listing(link=link)
    assert (made["link"], made["platform"]) == (link, "Other")

    changed = got(ada.api.patch(f"/streams/{made['id']}", json={"link": f"{link}b"}))
    imported = got(ada.api.post("/streams/bulk_import", json=[{"source": "Ada", "link": link}]))
    assert (changed["link"], imported["imported"]) == (f"{link}b", 1)

    assert got(ada.api.get("/streams", params={"link": link}))["meta"]["total_count"] == 1
    opened = ada.api.get(f"/streams/{made['id']}/open", follow_redirects=False)
    assert (opened.status_code, opened.headers["location"]) == (302, f"{link}b")


@pytest.mark.parametrize("link", ["not-a-url", "ftp://x", "javascript:alert(1)", "https://", "https://a b/", 5, "//x"])
def test_what_nothing_opens_is_refused(ada: Person, link: object) -> None:
    body = {"source": "Ada", "link": link}
    assert error_of(ada.api.post("/streams", json=body), 422) == "Link must be a valid HTTP or HTTPS URL"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("started_at", "yesterday", "Started at is invalid"),
        ("streamer_id", 999_999, "Streamer must exist"),
        ("streamer_id", "x", "Streamer must exist"),
        ("location_id", 999_999, "Location must exist"),
        ("location", {"city": "x", "latitude": 91}, "Location validation failed: Latitude must be from -90 to 90"),
        ("kind", None, "Kind is not included in the list"),
        ("kind", "", "Kind is not included in the list"),
        ("status", None, "Status is not included in the list"),
        ("status", "", "Status is not included in the list"),
        ("title", "x" * 1_001, "Title is too long (maximum is 1000 characters)"),
    ],
)
def test_other_things_are_refused_in_words(ada: Person, field: str, value: object, message: str) -> None:
    body = {"source": "Ada", "link": "https://example.org/", field: value}
    assert error_of(ada.api.post("/streams", json=body), 422) == message


def test_malformed_json_is_told(ada: Person) -> None:
    headers = {"Content-Type": "application/json"}
    assert error_of(ada.api.post("/streams", content=b"{", headers=headers), 400) == "Malformed JSON"


@pytest.mark.parametrize("body", [[], "text", 5, None, [[1]], {"stream": 5}])
def test_a_body_of_another_kind_is_as_good_as_an_empty_one(ada: Person, body: object) -> None:
    assert "Link can't be blank" in error_of(ada.api.post("/streams", json=body), 422)


def test_readers_make_nothing(reader: Person) -> None:
    assert error_of(reader.api.post("/streams", json={}), 403) == FORBIDDEN


def test_nobody_changes_what_is_anothers_but_administrators(
    ada: Person, bob: Person, reader: Person, operator: httpx.Client
) -> None:
    path = f"/streams/{ada.listing()['id']}"
    for other in (bob, reader):
        assert error_of(other.api.patch(path, json={"kind": "x"}), 403) == FORBIDDEN
        assert error_of(other.api.delete(path), 403) == FORBIDDEN
        assert error_of(other.api.put(f"{path}/pin"), 403) == FORBIDDEN
        assert error_of(other.api.post(f"{path}/archive"), 403) == FORBIDDEN
        assert got(other.api.get(path))["title"] is None
    assert got(operator.patch(path, json={"title": "x"}))["title"] == "x"


def test_what_is_not_there_is_told_before_anything_else(bob: Person, reader: Person) -> None:
    for number in ("999999999", "0", "-1", "abc", "9" * 30):
        assert error_of(reader.api.patch(f"/streams/{number}", json={"kind": "x"}), 404) == "Record not found"


# What clients send and nobody documents


def test_a_bot_that_sends_other_names_and_lists_is_understood(ada: Person) -> None:
    body = {"source": "x", "url": "https://www.twitch.tv/x", "postedBy": "bot", "notes": [], "nobody": "knows"}
    made = got(ada.api.post("/streams", json=body), 201)
    assert (made["posted_by"], made["notes"], made["link"]) == ("bot", None, "https://www.twitch.tv/x")


@pytest.mark.parametrize(("sent", "shown"), [("Kick", "Kick"), ("Unknown", "Other"), ("tiktok", "TikTok")])
def test_platforms_that_bots_send_are_taken(ada: Person, sent: str, shown: str) -> None:
    assert ada.listing(platform=sent)["platform"] == shown


@pytest.mark.parametrize(
    ("field", "sent", "shown"),
    [
        ("status", "LIVE", "live"),
        ("status", "Live", "live"),
        ("status", "offline", "offline"),
        ("platform", "YOUTUBE", "YouTube"),
        ("orientation", "Landscape", "landscape"),
        ("orientation", "", None),
        ("kind", "Overlay", "overlay"),
    ],
)
def test_words_are_taken_in_any_case(ada: Person, field: str, sent: str, shown: str | None) -> None:
    assert ada.listing(**{field: sent})[field] == shown


@pytest.mark.parametrize(
    ("link", "platform"),
    [
        ("https://www.tiktok.com/@ada/live", "TikTok"),
        ("https://vm.tiktok.com/x", "TikTok"),
        ("https://vt.tiktok.com/x", "TikTok"),
        ("https://m.facebook.com/x", "Facebook"),
        ("https://fb.watch/x", "Facebook"),
        ("https://TWITCH.tv/x", "Twitch"),
        ("https://m.youtube.com/watch?v=x", "YouTube"),
        ("https://youtu.be/x", "YouTube"),
        ("https://instagram.com/x/live", "Instagram"),
        ("https://kick.com/x", "Kick"),
        ("https://evil.example/?x=twitch.tv", "Other"),
        ("https://twitch.tv.evil.example/x", "Other"),
        ("https://nottwitch.tv/x", "Other"),
    ],
)
def test_the_link_tells_the_platform_where_nobody_does(ada: Person, link: str, platform: str) -> None:
    assert ada.listing(link=link)["platform"] == platform
    assert ada.listing(link=link, platform="")["platform"] == platform
    assert ada.listing(link=link, platform="Facebook")["platform"] == "Facebook"


def test_another_link_tells_the_platform_again_unless_somebody_named_it(ada: Person) -> None:
    for named, shown in (({}, "YouTube"), ({"platform": "Facebook"}, "Facebook")):
        made = ada.listing(link="https://www.twitch.tv/x", **named)
        changed = got(ada.api.patch(f"/streams/{made['id']}", json={"link": "https://youtu.be/x"}))
        assert changed["platform"] == shown


def test_the_words_of_the_guides_example_are_kept(ada: Person) -> None:
    made = ada.listing(orientation="portrait", kind="stream", platform="TikTok", status="live")
    assert (made["orientation"], made["kind"]) == ("portrait", "stream")


def test_a_checker_keeps_what_it_found_and_archives(ada: Person) -> None:
    path = f"/streams/{ada.listing()['id']}"
    moment = "2025-07-05T10:00:00.000Z"
    found = got(ada.api.patch(path, json={"status": "live", "last_checked_at": moment, "last_live_at": moment}))
    assert (found["last_checked_at"], found["last_live_at"]) == (moment, moment)
    later = got(ada.api.patch(path, json={"status": "live", "last_checked_at": "2025-07-05T10:02:00Z"}))
    assert later["last_checked_at"] == "2025-07-05T10:02:00.000Z"
    archived = got(ada.api.patch(path, json={"is_archived": True}))
    assert archived["is_archived"] is True
    assert archived["ended_at"] == "2025-07-05T10:02:00.000Z"
    assert got(ada.api.get(path)) == archived


# Lists


def many(ada: Person, count: int, **fields: Any) -> tuple[str, list[int]]:
    """Streams that share a title of their own, and their numbers."""
    title = fresh("list")
    return title, [ada.listing(title=title, source=f"{title} {number}", **fields)["id"] for number in range(count)]


def test_pinned_streams_come_first_then_the_newest(ada: Person) -> None:
    title, numbers = many(ada, 3)
    got(ada.api.put(f"/streams/{numbers[0]}/pin"))
    assert ids(got(ada.api.get("/streams", params={"search": title}))) == [numbers[0], numbers[2], numbers[1]]


def test_lists_are_sorted_as_asked_and_by_default_where_nobody_understands(ada: Person) -> None:
    title, numbers = many(ada, 3)
    got(ada.api.put(f"/streams/{numbers[1]}/pin"))

    def sorted_by(sort: str, **more: str) -> list[int]:
        return ids(got(ada.api.get("/streams", params={"search": title, "sort": sort, **more})))

    assert sorted_by("name") == sorted_by("created") == sorted_by("created_at") == numbers
    assert sorted_by("-name") == sorted_by("-created") == sorted_by("created_at", direction="desc") == numbers[::-1]
    assert sorted_by("updated_at", direction="desc")[0] == numbers[1]
    assert sorted_by("garbage") == sorted_by("") == [numbers[1], numbers[2], numbers[0]]


def test_nine_streams_are_two_pages_of_five(ada: Person) -> None:
    title, _ = many(ada, 9)
    answer = ada.api.get("/streams", params={"search": title, "per_page": 5, "page": 2})

    body = got(answer)
    assert len(body["streams"]) == 4
    assert body["meta"] == {"current_page": 2, "total_pages": 2, "total_count": 9, "per_page": 5}
    assert (answer.headers["x-total-count"], answer.headers["x-page"], answer.headers["x-per-page"]) == ("9", "2", "5")
    assert f'</api/v1/streams?search={title}&per_page=5&page=1>; rel="prev"' in answer.headers["link"]
    behind = got(ada.api.get("/streams", params={"search": title, "per_page": 5, "page": 9}))
    assert behind == {"streams": [], "meta": {"current_page": 9, "total_pages": 2, "total_count": 9, "per_page": 5}}


@pytest.mark.parametrize(("page", "told"), [("0", 1), ("-1", 1), ("abc", 1), ("", 1), ("2", 2), ("9" * 30, 1)])
def test_a_page_that_is_none_is_the_first(ada: Person, page: str, told: int) -> None:
    assert got(ada.api.get("/streams", params={"page": page}))["meta"]["current_page"] == told


@pytest.mark.parametrize(("per_page", "told"), [("200", 100), ("0", 25), ("-5", 25), ("abc", 25), ("1", 1)])
def test_a_page_has_1_to_100_streams(ada: Person, per_page: str, told: int) -> None:
    assert got(ada.api.get("/streams", params={"per_page": per_page}))["meta"]["per_page"] == told


def test_an_empty_list_has_no_pages(ada: Person) -> None:
    meta = got(ada.api.get("/streams", params={"search": fresh("nothing")}))["meta"]
    assert (meta["total_pages"], meta["total_count"]) == (0, 0)


def test_lists_are_filtered_by_status_and_by_what_is_not_one(ada: Person) -> None:
    title = fresh("status")
    by_status = {status: ada.listing(title=title, status=status)["id"] for status in ("live", "offline", "unknown")}

    def found(**parameters: str) -> set[int]:
        return set(ids(got(ada.api.get("/streams", params={"search": title, **parameters}))))

    assert found(status="live") == found(status="Live") == {by_status["live"]}
    assert found(notStatus="live") == found(notStatus="LIVE") == {by_status["offline"], by_status["unknown"]}
    assert found(status="live", notStatus="live") == found(status="nothing") == set()
    assert found(notStatus="nothing") == found(status="", notStatus="") == set(by_status.values())


@pytest.mark.parametrize("yes", ["true", "1", "t", "on", "anything"])
@pytest.mark.parametrize("no", ["false", "0", "F", "OFF"])
def test_pinned_or_not_is_asked_for_in_many_words(ada: Person, yes: str, no: str) -> None:
    title = fresh("pinned")
    pinned, plain = ada.listing(title=title, is_pinned=True)["id"], ada.listing(title=title)["id"]
    for name in ("is_pinned", "pinned"):
        assert ids(got(ada.api.get("/streams", params={"search": title, name: yes}))) == [pinned]
        assert ids(got(ada.api.get("/streams", params={"search": title, name: no}))) == [plain]


def test_lists_are_filtered_by_all_that_a_stream_has(ada: Person) -> None:
    title = fresh("fields")
    fields = {"platform": "TikTok", "orientation": "portrait", "kind": "web", "city": "Ulm", "state": "BW"}
    made = ada.listing(title=title, **fields)
    ada.listing(title=title, platform="Twitch")
    for name, value in {
        "platform": "tiktok",
        "orientation": "vertical",
        "kind": "WEB",
        "streamer_id": made["streamer_id"],
        "location_id": made["location_id"],
        "link": f" {made['link']} ",
        "user_id": ada.id,
    }.items():
        found = got(ada.api.get("/streams", params={"search": title, "orientation": "portrait", name: value}))
        assert ids(found) == [made["id"]], name
    for name in ("streamer_id", "location_id"):
        assert ids(got(ada.api.get("/streams", params={name: "abc"}))) == []


def test_a_link_finds_its_stream_or_none(ada: Person) -> None:
    link = f"https://example.org/{fresh('exact')}"
    made = ada.listing(link=link)
    assert ids(got(ada.api.get("/streams", params={"link": link, "per_page": 1}))) == [made["id"]]
    assert ids(got(ada.api.get("/streams", params={"link": f"{link}x"}))) == []
    assert ids(got(ada.api.get("/streams", params={"search": link.upper()}))) == [made["id"]]


@pytest.mark.parametrize("text", ["a\0b", "***", '"', "'", "%_%", "NEAR(", '"a" OR "b"', "-", "é" * 3_000, "😀", " "])
def test_a_search_for_anything_is_answered(ada: Person, text: str) -> None:
    found = got(ada.api.get("/streams", params={"search": text}))
    assert all(text.lower() in str(stream).lower() for stream in found["streams"]) or not text.strip()


def test_an_owner_that_nobody_is_is_not_found(ada: Person) -> None:
    for number in ("999999", "abc", "0"):
        assert error_of(ada.api.get("/streams", params={"user_id": number}), 404) == "Record not found"


def test_archived_streams_are_in_lists_of_administrators_alone(
    ada: Person, reader: Person, operator: httpx.Client
) -> None:
    title = fresh("archived")
    made = ada.listing(title=title, is_archived=True)["id"]
    for somebody in (ada.api, reader.api):
        assert ids(got(somebody.get("/streams", params={"search": title}))) == []
        assert ids(got(somebody.get("/streams", params={"search": title, "is_archived": "true"}))) == []
        assert got(somebody.get(f"/streams/{made}"))["is_archived"] is True
    assert ids(got(operator.get("/streams", params={"search": title}))) == [made]
    assert ids(got(operator.get("/streams", params={"search": title, "is_archived": "false"}))) == []


# Many at once


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_import_takes_what_is_right_and_tells_what_is_wrong(ada: Person, wrapped: bool) -> None:
    good = {"source": "Import", "link": "https://www.twitch.tv/import"}
    rows = [good, good | {"status": "live"}, {"source": "x", "link": "x"}, "no object"]
    answer = got(ada.api.post("/streams/bulk_import", json={"streams": rows} if wrapped else rows))

    assert (answer["imported"], answer["total"], answer["failed"]) == (2, 4, 2)
    assert answer["errors"] == [
        {"index": 2, "errors": ["Link must be a valid HTTP or HTTPS URL"]},
        {"index": 3, "errors": ["Stream must be an object"]},
    ]
    assert [stream["status"] for stream in answer["streams"]] == ["unknown", "live"]
    assert all(got(ada.api.get(f"/streams/{number}")) for number in ids(answer))


def test_an_import_of_nothing_imports_nothing(ada: Person) -> None:
    bodies: list[Any] = [{}, [], {"streams": []}]
    for body in bodies:
        assert got(ada.api.post("/streams/bulk_import", json=body))["imported"] == 0
    assert error_of(ada.api.post("/streams/bulk_import", json={"streams": 5}), 422) == "Streams must be an array"


def test_an_import_has_ten_thousand_rows_at_most_and_readers_none(ada: Person, reader: Person) -> None:
    rows: list[dict[str, Any]] = [{}] * 10_001
    assert "At most 10000" in error_of(ada.api.post("/streams/bulk_import", json=rows), 422)
    assert reader.api.post("/streams/bulk_import", json=rows).status_code == 403


def test_an_export_has_what_a_list_has(ada: Person) -> None:
    title, numbers = many(ada, 3, status="live")
    ada.listing(title=title, status="offline")
    answer = got(ada.api.get("/streams/export", params={"search": title, "status": "live", "sort": "name"}))

    assert answer["count"] == len(answer["streams"]) == len(numbers)
    assert [stream["source"] for stream in answer["streams"]] == [f"{title} {number}" for number in range(3)]
    assert answer["streams"][0]["owner_email"] == ada.email
    assert len(answer["exported_at"]) == len(answer["streams"][0]["created_at"]) == len("2025-07-05T10:00:00Z")
    assert "id" not in answer["streams"][0]


def test_an_export_has_the_same_columns_in_both_forms(ada: Person) -> None:
    title, _ = many(ada, 1)
    query = {"search": title}
    (found,) = got(ada.api.get("/streams/export", params=query))["streams"]
    (line,) = csv.DictReader(io.StringIO(ada.api.get("/streams/export", params={**query, "format": "csv"}).text))

    assert list(found) == list(line) == COLUMNS
    assert {name: "" if value is None else value for name, value in found.items() if name != "is_pinned"} == {
        name: value for name, value in line.items() if name != "is_pinned"
    }


def test_an_export_for_spreadsheets_has_no_formulas(ada: Person) -> None:
    title = fresh("csv")
    ada.listing(title=title, source='=HYPERLINK("https://evil.example")', notes='a "b", c\nd')
    answer = ada.api.get("/streams/export", params={"search": title, "format": "csv"})

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "streams.csv" in answer.headers["content-disposition"]
    (found,) = csv.DictReader(io.StringIO(answer.text))
    assert found["source"] == '\'=HYPERLINK("https://evil.example")'
    assert (found["notes"], found["is_pinned"], found["city"]) == ('a "b", c\nd', "false", "")


# Half an hour, by the server's clock


async def test_one_that_is_made_live_was_checked_and_began_that_moment(tmp_path: Path) -> None:
    """One that is made offline was checked, and no more."""
    async with house(tmp_path) as here, here.operator() as client:
        body = {"source": "Ada", "link": "https://example.org/"}
        live = got(await client.post("/streams", json=body | {"status": "live"}), 201)
        offline = got(await client.post("/streams", json=body | {"status": "offline"}), 201)
    assert {live[name] for name in ("last_checked_at", "last_live_at", "started_at")} == {live["created_at"]}
    assert (offline["last_checked_at"], offline["last_live_at"], offline["started_at"]) == (
        live["created_at"],
        None,
        None,
    )


@pytest.mark.parametrize(("age_s", "goes_on"), [(1_799, True), (1_800, False), (1_801, False)])
async def test_a_stream_that_is_live_again_goes_on_within_half_an_hour(
    tmp_path: Path, age_s: int, goes_on: bool
) -> None:
    async with house(tmp_path) as here, here.operator() as client:
        body = {"source": "Ada", "link": "https://example.org/", "status": "live"}
        made = got(await client.post("/streams", json=body), 201)
        got(await client.patch(f"/streams/{made['id']}", json={"status": "offline"}))
        here.clock.advance(age_s)
        again = got(await client.patch(f"/streams/{made['id']}", json={"status": "live"}))
    assert (again["started_at"] == made["started_at"]) == goes_on
    assert again["ended_at"] is None


async def test_an_earlier_broadcast_stays_in_the_log(tmp_path: Path) -> None:
    """The stream tells of the one that goes on, its figures of both."""
    async with house(tmp_path) as here, here.operator() as client:
        body = {"source": "Ada", "link": "https://example.org/", "status": "live"}
        path = f"/streams/{got(await client.post('/streams', json=body), 201)['id']}"
        for seconds, status in ((600, "offline"), (1_801, "live"), (60, "live")):
            here.clock.advance(seconds)
            again = got(await client.patch(path, json={"status": status}))
        async with asyncio.timeout(PATIENCE_S):
            while (figures := got(await client.get(f"{path}/analytics")))["broadcasts"] < 2:
                continue
    assert again["started_at"] == rfc3339(here.clock() - 60 * SECOND_US).replace("Z", ".000Z")
    assert (figures["live_seconds"], figures["duration_seconds"]) == (660, 60)


@pytest.mark.parametrize(("age_s", "status"), [(1_799, 200), (1_800, 201), (1_801, 201)])
async def test_a_streamer_who_is_live_again_goes_on_within_half_an_hour(
    tmp_path: Path, age_s: int, status: int
) -> None:
    """Else he has a stream more."""
    async with house(tmp_path) as here, here.operator() as client:
        path = f"/streamers/{got(await client.post('/streamers', json={'name': 'Ada'}), 201)['id']}/continue"
        body = {"source": "Ada", "link": "https://example.org/"}
        made = got(await client.post(path, json=body), 201)
        here.clock.advance(age_s)
        again = got(await client.post(path, json=body), status)
    assert (again["id"] == made["id"]) == (again["started_at"] == made["started_at"]) == (status == 200)
    assert again["last_checked_at"] == again["last_live_at"] == again["updated_at"]


async def test_what_is_over_for_longer_than_the_operators_minutes_is_archived_by_itself(tmp_path: Path) -> None:
    """It ended when it was last checked; what is pinned, live, not yet so old or was never live stays."""
    async with house(tmp_path, archive_after_minutes=0) as here, here.operator() as client:
        over = await checked(client, here, 40 * 60 + 1)
        watched = await checked(client, here, 60, last_live_at=rfc3339(here.clock() - 9_999 * SECOND_US))
        for seconds_ago, fields in ((2_400, {}), (9_999, {"is_pinned": True}), (9_999, {"status": "live"}), (60, {})):
            await checked(client, here, seconds_ago, **fields)
    async with house(tmp_path, archive_after_minutes=40) as here, here.operator() as client:
        swept: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while not swept:
                swept = got(await client.get("/streams", params={"is_archived": "true", "sort": "created"}))["streams"]
    assert {one["id"]: one["ended_at"] for one in swept} == {
        one["id"]: one["last_checked_at"] for one in (over, watched)
    }


@pytest.mark.parametrize(("minutes", "is_archived"), [(0, False), (30, True)])
async def test_nothing_is_archived_by_itself_where_the_operators_minutes_are_nought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, is_archived: bool
) -> None:
    rounds: list[object] = []

    async def begin(transcodes: Transcodes) -> None:
        rounds.append(transcodes)

    monkeypatch.setattr(Transcodes, "sweep", begin)  # every round of sweeps begins with it
    monkeypatch.setattr("mainstem.app._SWEEP_EVERY_S", 0.01)
    async with house(tmp_path, archive_after_minutes=minutes) as here, here.operator() as client:
        made = await checked(client, here, 9_999)
        before = len(rounds)
        await until(lambda: len(rounds) >= before + 2)  # the first of them is over
        assert got(await client.get(f"/streams/{made['id']}"))["is_archived"] == is_archived


async def checked(client: httpx.AsyncClient, here: House, seconds_ago: int, **fields: Any) -> dict[str, Any]:
    """A stream that is offline, unless something else is said, and was looked at so long ago."""
    moment = rfc3339(here.clock() - seconds_ago * SECOND_US)
    body = {"source": "Ada", "link": "https://example.org/", "status": "offline", "last_checked_at": moment, **fields}
    made: dict[str, Any] = got(await client.post("/streams", json=body), 201)
    return made


async def test_twenty_who_say_at_once_that_a_streamer_is_live_make_one_stream(tmp_path: Path) -> None:
    async with house(tmp_path) as here, here.operator() as client:
        streamer = got(await client.post("/streamers", json={"name": "Ada"}), 201)["id"]
        body = {"source": "Ada", "link": "https://example.org/"}
        path = f"/streamers/{streamer}/continue"
        answers = await asyncio.gather(*[client.post(path, json=body) for _ in range(20)])
        assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
        assert got(await client.get("/streams"))["meta"]["total_count"] == 1
