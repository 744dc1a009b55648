"""Many listings at once: each row by itself, and a Streamwall's words in ours."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from mainstem.catalogue import (
    Imports,
    Kind,
    ListingChanges,
    Listings,
    NotAllowed,
    Orientation,
    PageRequest,
    Platform,
    Status,
    StreamwallOutcome,
    read_streamwall,
)
from mainstem.catalogue.importing import streamwall_changes
from mainstem.clock import SECOND_US
from mainstem.errors import InvalidFields
from mainstem.identity import Principal
from mainstem.storage import Records

ROW = {"link": "https://www.twitch.tv/ada", "source": "Ada", "status": "Live", "city": "Austin", "state": "TX"}


def counts(outcome: StreamwallOutcome) -> tuple[int, int, int, int, int]:
    return (outcome.created, outcome.updated, outcome.unchanged, outcome.skipped, len(outcome.refused))


# Forms


@pytest.mark.parametrize(
    "body",
    [
        [ROW],
        {"streams": [ROW]},
        {"data": [ROW], "meta": 1},
        {"rows": [ROW]},
        {"items": [ROW]},
        [list(ROW), list(ROW.values())],
    ],
)
def test_a_streamwall_is_read_in_each_of_its_forms(body: Any) -> None:
    assert read_streamwall(msgspec.json.encode(body)) == [ROW]


@pytest.mark.parametrize("body", [b"{", b"5", b"null", b'{"nothing": []}', b'{"streams": 5}', b"\xff", b"[" * 5_000])
def test_what_is_no_streamwall_is_told(body: bytes) -> None:
    with pytest.raises(InvalidFields):
        read_streamwall(body)


# Words


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((word, Status.LIVE) for word in ("live", "Online", "ACTIVE")),
        *((word, Status.OFFLINE) for word in ("offline", "off", "Inactive")),
        *((word, Status.UNKNOWN) for word in ("unknown", "n-a")),
        *((word, UNSET) for word in ("", "-", "N/A", "null", "undefined", "on fire")),
    ],
)
def test_a_status_has_many_words(word: str, status: Status) -> None:
    assert streamwall_changes({"status": word}).status == status


@pytest.mark.parametrize(
    ("field", "word", "meant"),
    [
        ("platform", "YouTube Live", Platform.YOUTUBE),
        ("platform", "fb", Platform.FACEBOOK),
        ("platform", "yt", Platform.YOUTUBE),
        ("platform", "IG", Platform.INSTAGRAM),
        ("platform", "periscope", UNSET),
        ("orientation", "Tall", Orientation.VERTICAL),
        ("orientation", "portrait", Orientation.VERTICAL),
        ("orientation", "wide", Orientation.HORIZONTAL),
        ("orientation", "landscape", Orientation.HORIZONTAL),
        ("orientation", "?", UNSET),
        ("kind", "bg", Kind.BACKGROUND),
        ("kind", "Web", Kind.WEB),
        ("kind", "camera", UNSET),
        ("is_pinned", "Yes", True),
        ("is_pinned", True, True),
        ("is_pinned", 1, True),
        ("is_pinned", "no", False),
    ],
)
def test_other_fields_have_words_of_their_own(field: str, word: object, meant: object) -> None:
    assert getattr(streamwall_changes({field: word}), field) == meant


@pytest.mark.parametrize(
    ("given", "moment_s"),
    [
        (1_736_071_200, 1_736_071_200),
        ("1736071200", 1_736_071_200),
        (1_736_071_200_000, 1_736_071_200),
        ("2025-01-05T10:00:00Z", 1_736_071_200),
        ("2025-01-05 10:00", 1_736_071_200),
        ("2025-01-05T11:00:00+01:00", 1_736_071_200),
        ("nan", UNSET),
        ("inf", UNSET),
        ("tomorrow", UNSET),
        ("1e300", UNSET),
        ("9" * 5_000, UNSET),
        (True, UNSET),
    ],
)
def test_times_come_in_seconds_milliseconds_or_words(given: object, moment_s: int | UnsetType) -> None:
    read = streamwall_changes({"started_at": given}).started_us
    assert read == (moment_s * SECOND_US if isinstance(moment_s, int) else UNSET)


@pytest.mark.parametrize("header", ["Posted By", "postedBy", "posted_by", "POSTED BY", " posted-by "])
def test_headers_are_known_in_any_spelling(header: str) -> None:
    assert streamwall_changes({header: "bot"}).posted_by == "bot"


def test_the_source_is_the_title_or_the_host_where_there_is_none() -> None:
    assert streamwall_changes({"link": ROW["link"], "source": "-", "title": "Bridge"}).source == "Bridge"
    assert streamwall_changes({"link": ROW["link"]}).source == "www.twitch.tv"
    assert streamwall_changes({"link": "no link"}).source == UNSET


# Imports


async def test_rows_that_are_wrong_leave_the_others_alone(imports: Imports, listings: Listings, ada: Principal) -> None:
    good = ListingChanges(source="Ada", link=ROW["link"])
    imported = await imports.create_many(ada, [good, ListingChanges(), None, *[good] * 60])

    assert len(imported.created) == 61
    assert [refused.index for refused in imported.refused] == [1, 2]
    assert (await listings.page(ada, PageRequest())).total == 61


async def test_others_write_while_an_import_goes_on(imports: Imports, records: Records, ada: Principal) -> None:
    rows = [ListingChanges(link=f"https://www.twitch.tv/ada{number}", source="ada") for number in range(100)]
    importing = asyncio.create_task(imports.create_many(ada, rows))
    await asyncio.sleep(0)

    async with records.begin():
        assert not importing.done()

    assert len((await importing).created) == 100


async def test_readers_import_nothing(imports: Imports, reader: Principal) -> None:
    with pytest.raises(NotAllowed):
        await imports.create_many(reader, [])
    with pytest.raises(NotAllowed):
        await imports.from_streamwall(reader, [ROW])


async def test_a_streamwall_is_imported_once_and_then_kept_up_to_date(
    imports: Imports, listings: Listings, ada: Principal
) -> None:
    assert counts(await imports.from_streamwall(ada, [ROW, {"link": "x"}, 5])) == (1, 0, 0, 0, 2)
    assert counts(await imports.from_streamwall(ada, [ROW])) == (0, 0, 1, 0, 0)
    changed = {**ROW, "link": "HTTP://www.twitch.tv/Ada/", "title": "again"}
    assert counts(await imports.from_streamwall(ada, [changed], skips_known=True)) == (0, 0, 0, 1, 0)
    assert counts(await imports.from_streamwall(ada, [changed])) == (0, 1, 0, 0, 0)

    (one,) = (await listings.page(ada, PageRequest())).listings
    assert (one.title, one.status, one.platform) == ("again", Status.LIVE, Platform.TWITCH)


async def test_a_dry_run_says_the_same_and_writes_nothing(imports: Imports, listings: Listings, ada: Principal) -> None:
    entries = [{**ROW, "link": f"https://example.org/{number % 70}"} for number in range(120)]
    tried = await imports.from_streamwall(ada, [*entries, 5], dry_run=True)

    assert (await listings.page(ada, PageRequest())).total == 0
    assert (tried.created, tried.updated + tried.unchanged, len(tried.refused)) == (70, 50, 1)
    done = await imports.from_streamwall(ada, [*entries, 5])
    assert (done.created, len(done.refused)) == (tried.created, 1)


async def test_a_part_of_a_streamwall_can_be_imported(imports: Imports, ada: Principal) -> None:
    entries = [{**ROW, "link": f"https://example.org/{number}"} for number in range(10)]
    assert (await imports.from_streamwall(ada, entries, offset=4, limit=3)).created == 3
    assert (await imports.from_streamwall(ada, entries, offset=9)).created == 1
    assert (await imports.from_streamwall(ada, entries, offset=99)).created == 0


async def test_what_belongs_to_somebody_else_is_refused_row_by_row(
    imports: Imports, ada: Principal, bob: Principal
) -> None:
    await imports.from_streamwall(ada, [ROW])
    outcome = await imports.from_streamwall(bob, [{**ROW, "title": "mine"}, {**ROW, "link": "https://example.org/b"}])
    assert counts(outcome) == (1, 0, 0, 0, 1)
