"""What a listing must be like, and what follows when it changes. Pure.

Messages, their order and the rules of half an hour are those that StreamSource's clients know.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET

from mainstem.catalogue.continuation import is_same_broadcast
from mainstem.catalogue.links import normal_link, parse_listed_link
from mainstem.catalogue.model import (
    LINK_CHARACTERS_MAX,
    NOTES_CHARACTERS_MAX,
    SOURCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Choice,
    Kind,
    Listing,
    ListingChanges,
    Orientation,
    Platform,
    Status,
)
from mainstem.catalogue.platforms import platform_of

_CHOICES: Mapping[str, type[Choice]] = {
    "status": Status,
    "platform": Platform,
    "orientation": Orientation,
    "kind": Kind,
}
_MAY_BE_BLANK = frozenset({"platform", "orientation"})
_TEXTS = {
    "title": TEXT_CHARACTERS_MAX,
    "city": TEXT_CHARACTERS_MAX,
    "state": TEXT_CHARACTERS_MAX,
    "notes": NOTES_CHARACTERS_MAX,
    "posted_by": TEXT_CHARACTERS_MAX,
}
_TIMES = ("started_us", "ended_us", "last_checked_us", "last_live_us")

Values = dict[str, Any]
"""Columns of a listing, by name."""


def problems(changes: ListingChanges, *, is_new: bool) -> list[tuple[str, str]]:
    """Every field that is wrong and what is wrong with it, in the order in which it is told."""
    return [*_link_problems(changes, is_new), *_source_problems(changes, is_new), *_other_problems(changes)]


def _link_problems(changes: ListingChanges, is_new: bool) -> Iterator[tuple[str, str]]:
    if changes.link is UNSET and not is_new:
        return
    link = (changes.link or "").strip()
    if not link:
        yield "link", "can't be blank"
    if len(link) > LINK_CHARACTERS_MAX:
        yield "link", _too_long(LINK_CHARACTERS_MAX)  # and not taken apart: in an import it may have 16 MiB
    elif parse_listed_link(link) is None:
        yield "link", "must be a valid HTTP or HTTPS URL"


def _source_problems(changes: ListingChanges, is_new: bool) -> Iterator[tuple[str, str]]:
    if changes.source is UNSET and not is_new:
        return
    source = changes.source or ""
    if not source.strip():
        yield "source", "can't be blank"
    if not source:
        yield "source", "is too short (minimum is 1 character)"
    if len(source) > SOURCE_CHARACTERS_MAX:
        yield "source", _too_long(SOURCE_CHARACTERS_MAX)


def _other_problems(changes: ListingChanges) -> Iterator[tuple[str, str]]:
    for field, choice in _CHOICES.items():
        given = getattr(changes, field)
        if given is UNSET or (field in _MAY_BE_BLANK and not (given or "").strip()):
            continue
        if choice.read(given or "") is None:
            yield field, "is not included in the list"
    for field, characters_max in _TEXTS.items():
        given = getattr(changes, field)
        if given is not UNSET and len(given or "") > characters_max:
            yield field, _too_long(characters_max)
    for field in ("source", *_TEXTS):
        if "\0" in (getattr(changes, field) or ""):  # databases end a text there
            yield field, "is invalid"
    for field in changes.unreadable:
        yield field, "is invalid"


def _too_long(characters_max: int) -> str:
    return f"is too long (maximum is {characters_max} characters)"


# What becomes of it


def new_values(changes: ListingChanges, owner_email: str | None, now_us: int) -> Values:
    """The columns of a new listing, but for its owner, streamer and location. `changes` must be without problems."""
    assert isinstance(changes.link, str)
    assert isinstance(changes.source, str)
    values = _text_values(changes, owner_email)
    values |= {name: None for name in (*_TEXTS, *_TIMES, "orientation", "left_live_us") if name not in values}
    values.setdefault("posted_by", owner_email)
    values["posted_by"] = values["posted_by"] or owner_email
    values.setdefault("status", Status.UNKNOWN)
    values.setdefault("kind", Kind.VIDEO)
    values |= _platform_values(changes, values["link"], None)
    values |= {name: getattr(changes, name) for name in _TIMES if getattr(changes, name) is not UNSET}
    if values["status"] is not Status.UNKNOWN and changes.last_checked_us is UNSET:
        values["last_checked_us"] = now_us
    if values["status"] is Status.LIVE:
        values["last_live_us"] = values["last_live_us"] or now_us
        values["started_us"] = values["started_us"] or now_us
    values["is_pinned"] = changes.is_pinned is True
    values["is_archived"] = changes.is_archived is True
    if values["is_archived"]:
        values["ended_us"] = values["ended_us"] or values["last_checked_us"] or now_us
    return _with_derived(values | {"unarchived_us": None, "created_us": now_us, "updated_us": now_us})


def changed_values(before: Listing, changes: ListingChanges, owner_email: str | None, now_us: int) -> Values:
    """The columns that get another value, but for streamer and location. `changes` must be without problems."""
    values = _text_values(changes, owner_email)
    values |= _platform_values(changes, values.get("link", before.link), before)
    if "status" in values and values["status"] is not before.status:
        values |= _status_values(before, values["status"], now_us)
    if changes.is_pinned is not UNSET:
        values["is_pinned"] = changes.is_pinned
    explicit = {name: getattr(changes, name) for name in _TIMES if getattr(changes, name) is not UNSET}
    values |= explicit
    if changes.is_archived is not UNSET and changes.is_archived != before.is_archived:
        values |= archived_values(before, values, now_us) if changes.is_archived else unarchived_values(now_us)
    return _with_derived({name: value for name, value in values.items() if value != getattr(before, name, UNSET)})


def archived_values(before: Listing, values: Values, now_us: int) -> Values:
    """What archiving sets beside `values`: a broadcast ended when it was last checked, unless that is told."""
    ended_us = values.get("ended_us", before.ended_us)
    checked_us = values.get("last_checked_us", before.last_checked_us)
    return {"is_archived": True, "ended_us": ended_us or checked_us or now_us}


def unarchived_values(now_us: int) -> Values:
    return {"is_archived": False, "unarchived_us": now_us}


def _text_values(changes: ListingChanges, owner_email: str | None) -> Values:
    values: Values = {}
    if isinstance(changes.link, str):
        values["link"] = changes.link.strip()
    if isinstance(changes.source, str):
        values["source"] = changes.source
    for field, choice in _CHOICES.items():
        given = getattr(changes, field)
        if given is not UNSET and field != "platform":
            values[field] = choice.read(given or "")
    for field in _TEXTS:
        given = getattr(changes, field)
        if given is not UNSET:
            values[field] = given
    if "posted_by" in values and not (values["posted_by"] or "").strip():
        values["posted_by"] = owner_email
    return values


def _with_derived(values: Values) -> Values:
    if "source" in values:
        values["source_folded"] = folded(values["source"])
    if "link" in values:
        values["link_normal"] = normal_link(values["link"])
    return values


def _platform_values(changes: ListingChanges, link: str, before: Listing | None) -> Values:
    """The platform is what the client says; where he says nothing the link tells it, and goes on to when it changes."""
    given = changes.platform if changes.platform is not UNSET else None
    if given is not None and given.strip():
        return {"platform": Platform.read(given), "platform_detected": False}
    follows = before is None or (before.platform_detected and link != before.link)
    if follows or changes.platform is not UNSET:
        return {"platform": platform_of(link), "platform_detected": True}
    return {}


def _status_values(before: Listing, status: Status, now_us: int) -> Values:
    values: Values = {"last_checked_us": now_us}
    if before.status is Status.LIVE:
        values["left_live_us"] = now_us
    if status is Status.LIVE:
        goes_on = is_same_broadcast(before.last_checked_us, before.left_live_us, now_us)
        values |= {
            "last_live_us": now_us,
            "started_us": (before.started_us if goes_on else None) or now_us,
            "ended_us": None,
        }
    return values


def folded(name: str) -> str:
    """A name without what does not make it another one: case, and space at its ends."""
    return name.strip().casefold()
