"""Half an hour: within it a broadcast goes on, past it a listing is over, and at the moment itself neither."""

from typing import Any

import msgspec
import pytest

from catalogue import NOW, ago, listing
from mainstem.catalogue import Status
from mainstem.catalogue.continuation import candidate, is_over, is_same_broadcast

AGES = [(29 * 60 + 59, "within"), (30 * 60, "at"), (30 * 60 + 1, "past")]


@pytest.mark.parametrize(("age_s", "when"), AGES)
def test_a_broadcast_goes_on_in_a_listing_checked_less_than_half_an_hour_ago(age_s: int, when: str) -> None:
    one = listing(last_checked_us=ago(age_s))
    assert candidate([one], NOW) == (one if when == "within" else None)


@pytest.mark.parametrize("status", Status)
def test_whatever_its_status(status: Status) -> None:
    one = listing(last_checked_us=ago(60), status=status)
    assert candidate([one], NOW) == one


def test_a_listing_that_is_archived_or_was_never_checked_is_none_to_go_on_in() -> None:
    assert candidate([listing(last_checked_us=ago(60), is_archived=True), listing()], NOW) is None


def test_of_several_the_one_that_never_began_is_chosen_then_the_one_that_began_last() -> None:
    old, new, never = (
        listing(number, last_checked_us=ago(60), started_us=started)
        for number, started in enumerate([ago(900), ago(800), None], 1)
    )
    assert candidate([old, new], NOW) == new
    assert candidate([old, never, new], NOW) == never


@pytest.mark.parametrize(("age_s", "when"), AGES)
def test_what_goes_live_again_within_half_an_hour_is_the_same_broadcast(age_s: int, when: str) -> None:
    assert is_same_broadcast(ago(age_s), None, NOW) == (when == "within")


@pytest.mark.parametrize(("age_s", "when"), AGES)
def test_a_listing_that_is_looked_at_all_day_long_is_not_live_all_day_long(age_s: int, when: str) -> None:
    """It was checked a minute ago, but stopped being live so long ago."""
    assert is_same_broadcast(ago(60), ago(age_s), NOW) == (when == "within")


@pytest.mark.parametrize(("age_s", "when"), AGES)
@pytest.mark.parametrize("status", [Status.OFFLINE, Status.UNKNOWN])
def test_a_listing_not_checked_for_more_than_half_an_hour_is_over(age_s: int, when: str, status: Status) -> None:
    assert is_over(listing(last_checked_us=ago(age_s), status=status), NOW) == (when == "past")


@pytest.mark.parametrize(("age_s", "when"), AGES)
def test_an_offline_listing_is_over_when_it_was_last_live_so_long_ago(age_s: int, when: str) -> None:
    one = listing(last_checked_us=ago(60), last_live_us=ago(age_s))
    assert is_over(one, NOW) == (when == "past")
    assert not is_over(msgspec.structs.replace(one, status=Status.UNKNOWN), NOW)


@pytest.mark.parametrize(
    "values",
    [{"status": Status.LIVE}, {"is_pinned": True}, {"is_archived": True}, {"last_checked_us": None}],
    ids=lambda values: next(iter(values)),
)
def test_a_listing_that_is_live_pinned_archived_or_never_checked_is_not_over(values: dict[str, Any]) -> None:
    assert not is_over(listing(**{"last_checked_us": ago(9_000), **values}), NOW)


@pytest.mark.parametrize(("age_s", "when"), AGES)
def test_who_takes_a_listing_out_of_the_archive_has_half_an_hour(age_s: int, when: str) -> None:
    one = listing(last_checked_us=ago(9_000), unarchived_us=ago(age_s))
    assert is_over(one, NOW) == (when == "past")
