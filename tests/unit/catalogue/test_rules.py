"""What a listing must be like: every message in its order, and what follows from a change."""

from typing import Any

import pytest

from catalogue import NOW, ago, listing
from mainstem.catalogue import Kind, ListingChanges, Orientation, Platform, Status
from mainstem.catalogue.rules import Values, changed_values, new_values, problems
from mainstem.errors import InvalidFields

LINK = "https://www.twitch.tv/ada"


def sentences(is_new: bool = True, **fields: Any) -> list[str]:
    found = problems(ListingChanges(**fields), is_new=is_new)
    return InvalidFields(found).sentences if found else []


def new(**fields: Any) -> Values:
    return new_values(ListingChanges(**{"source": "Ada", "link": LINK, **fields}), "ada@example.com", NOW)


def changed(before: dict[str, Any], **fields: Any) -> Values:
    return changed_values(listing(**before), ListingChanges(**fields), "ada@example.com", NOW)


# What is wrong


def test_nothing_at_all_is_wrong_in_four_ways_in_this_order() -> None:
    assert sentences() == [
        "Link can't be blank",
        "Link must be a valid HTTP or HTTPS URL",
        "Source can't be blank",
        "Source is too short (minimum is 1 character)",
    ]


def test_words_that_are_none_come_last_in_this_order() -> None:
    assert sentences(link="x", source="", kind="x", orientation="x", platform="x", status="x") == [
        "Link must be a valid HTTP or HTTPS URL",
        "Source can't be blank",
        "Source is too short (minimum is 1 character)",
        "Status is not included in the list",
        "Platform is not included in the list",
        "Orientation is not included in the list",
        "Kind is not included in the list",
    ]


@pytest.mark.parametrize(
    ("count", "messages"), [(1, []), (255, []), (256, ["Source is too long (maximum is 255 characters)"])]
)
def test_a_source_has_at_most_255_characters(count: int, messages: list[str]) -> None:
    assert sentences(link=LINK, source="ä" * count) == messages


@pytest.mark.parametrize(
    "link", ["https://example.org/" + "a" * 1_980, "http://example.org/väg/到着", " https://e.org "]
)
def test_long_links_and_links_in_any_script_are_taken(link: str) -> None:
    assert sentences(link=link, source="Ada") == []


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps", "rtsp", "rtsps", "RTSP"])
def test_links_that_players_open_are_taken(scheme: str) -> None:
    """Beyond the sheet, because the checker plays them."""
    assert sentences(link=f"{scheme}://media.example/live/city", source="City") == []


@pytest.mark.parametrize("link", ["not-a-url", "ftp://x", "https://", "https://a b", "//example.org", "javascript:x"])
def test_what_nothing_opens_is_refused(link: str) -> None:
    assert sentences(link=link, source="Ada") == ["Link must be a valid HTTP or HTTPS URL"]


@pytest.mark.parametrize("field", ["status", "kind"])
@pytest.mark.parametrize("value", ["", None])
def test_a_status_or_kind_that_is_given_is_not_blank(field: str, value: str | None) -> None:
    assert sentences(is_new=False, **{field: value}) == [f"{field.capitalize()} is not included in the list"]


@pytest.mark.parametrize("field", ["platform", "orientation"])
@pytest.mark.parametrize("value", ["", None, " "])
def test_a_platform_or_orientation_may_be_blank(field: str, value: str | None) -> None:
    assert sentences(is_new=False, **{field: value}) == []


@pytest.mark.parametrize("word", ["live", "Live", "LIVE", "offline", "Unknown"])
def test_words_are_taken_in_any_case(word: str) -> None:
    assert sentences(is_new=False, status=word) == []
    assert new(status=word)["status"] == word.lower()


def test_an_update_is_held_to_what_it_says_alone() -> None:
    assert sentences(is_new=False) == []
    assert sentences(is_new=False, title="x" * 1_001) == ["Title is too long (maximum is 1000 characters)"]
    assert sentences(is_new=False, unreadable=("started_at",)) == ["Started at is invalid"]


@pytest.mark.parametrize("field", ["source", "title", "notes", "city", "state", "posted_by"])
def test_a_text_has_no_zero_in_it(field: str) -> None:
    message = f"{field.replace('_', ' ').capitalize()} is invalid"
    assert sentences(is_new=False, **{field: "a\0b"}) == [message]


# A new listing


def test_a_new_listing_has_defaults() -> None:
    values = new()
    assert (values["status"], values["kind"], values["posted_by"]) == (Status.UNKNOWN, Kind.VIDEO, "ada@example.com")
    assert [values[name] for name in ("last_checked_us", "last_live_us", "started_us", "orientation")] == [None] * 4


def test_its_link_is_trimmed_and_tells_the_platform() -> None:
    values = new(link=f" {LINK} ", platform=" ")
    assert (values["link"], values["platform"], values["platform_detected"]) == (LINK, Platform.TWITCH, True)


def test_a_platform_that_is_named_is_kept() -> None:
    values = new(platform="tikTOK")
    assert (values["platform"], values["platform_detected"]) == (Platform.TIKTOK, False)


def test_what_a_bot_calls_unknown_is_another_platform() -> None:
    assert new(platform="Unknown")["platform"] == Platform.OTHER


def test_words_for_orientation_and_kind_are_kept_as_they_were_chosen() -> None:
    values = new(orientation="Portrait", kind="stream")
    assert (values["orientation"], values["kind"]) == (Orientation.PORTRAIT, Kind.STREAM)


def test_one_that_is_live_began_now() -> None:
    values = new(status="live")
    assert [values[name] for name in ("last_checked_us", "last_live_us", "started_us")] == [NOW] * 3


def test_one_that_is_offline_was_checked_now() -> None:
    values = new(status="offline")
    assert [values[name] for name in ("last_checked_us", "last_live_us", "started_us")] == [NOW, None, None]


def test_times_that_are_given_win() -> None:
    values = new(status="live", last_checked_us=1, last_live_us=2, started_us=3)
    assert [values[name] for name in ("last_checked_us", "last_live_us", "started_us")] == [1, 2, 3]


def test_one_that_is_archived_at_once_has_ended() -> None:
    assert new(is_archived=True, last_checked_us=5)["ended_us"] == 5
    assert new(is_archived=True)["ended_us"] == NOW


# A change


def test_only_what_is_another_value_is_a_change() -> None:
    assert changed({"title": "x"}, title="x", source="Ada", is_pinned=False) == {}
    assert changed({}, title="y") == {"title": "y"}


def test_a_new_link_tells_the_platform_again_unless_somebody_named_it() -> None:
    detected = {"platform": Platform.TIKTOK, "platform_detected": True}
    assert changed(detected, link=LINK)["platform"] == Platform.TWITCH
    assert "platform" not in changed({**detected, "platform_detected": False}, link=LINK)


def test_a_status_that_stays_changes_no_time() -> None:
    assert changed({"status": Status.LIVE}, status="live") == {}
    assert changed({"status": Status.LIVE}, status="live", last_checked_us=NOW) == {"last_checked_us": NOW}


def test_going_offline_is_noted_and_ends_nothing() -> None:
    values = changed({"status": Status.LIVE, "started_us": 5}, status="offline")
    assert values == {"status": Status.OFFLINE, "last_checked_us": NOW, "left_live_us": NOW}


@pytest.mark.parametrize(("age_s", "goes_on"), [(1_799, True), (1_800, False), (1_801, False)])
def test_going_live_again_goes_on_within_half_an_hour_and_else_begins_anew(age_s: int, goes_on: bool) -> None:
    before = {"started_us": 5, "ended_us": 6, "last_checked_us": ago(age_s)}
    values = changed(before, status="live")
    assert values["last_live_us"] == values["last_checked_us"] == NOW
    assert values["ended_us"] is None
    assert values.get("started_us", 5) == (5 if goes_on else NOW)


def test_times_that_are_given_win_over_those_of_a_change() -> None:
    values = changed({}, status="live", last_checked_us=7, last_live_us=8, started_us=9)
    assert [values[name] for name in ("last_checked_us", "last_live_us", "started_us")] == [7, 8, 9]


@pytest.mark.parametrize(
    ("before", "ended_us"),
    [({"ended_us": 5, "last_checked_us": 6}, 5), ({"last_checked_us": 6}, 6), ({}, NOW)],
)
def test_what_goes_into_the_archive_ended_when_it_was_last_checked(before: dict[str, Any], ended_us: int) -> None:
    values = changed(before, is_archived=True)
    assert values["is_archived"] is True
    assert values.get("ended_us", before.get("ended_us")) == ended_us


def test_what_is_archived_already_is_not_archived_again() -> None:
    assert changed({"is_archived": True, "ended_us": 5}, is_archived=True) == {}


def test_who_takes_something_out_of_the_archive_leaves_its_times() -> None:
    values = changed({"is_archived": True, "ended_us": 5}, is_archived=False)
    assert values == {"is_archived": False, "unarchived_us": NOW}
