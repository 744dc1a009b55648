"""Lists of listings as SQL: which index they are read along, and how they are counted. Pure.

Every list is read along an index that has its order and all that it is filtered by, so that a page far behind costs a
walk along the index and no row but its own. The archive and the rest are two halves of each index; who sees both has
them merged. SQLite is told which index: without statistics it guesses, and a wrong guess costs a hundred times as much.
"""

import string
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    column,
    func,
    literal,
    or_,
    select,
    table,
    text,
    union_all,
)

from mainstem.catalogue.model import Filters, Sort
from mainstem.catalogue.tables import listing_counts, listings

SEARCH_INDEXED_CHARACTERS_MIN = 3
"""Shorter texts than a trigram are looked for in every row."""
SEARCH_INDEXED_CHARACTERS_MAX = 64
"""What a longer text begins with is looked for in the index, and the whole of it in what that finds: the index takes a
phrase apart, and its work for each row grows with the length."""
NARROW_SEARCH_ROWS_MAX = 1_000
"""Up to here it is quicker to look up what was found than to walk along an index."""
SEARCHED = ("source", "link", "title", "city", "state", "notes", "posted_by")

_KEYS: dict[Sort, tuple[Any, ...]] = {
    Sort.DEFAULT: (listings.c.is_pinned, listings.c.created_us, listings.c.id),
    Sort.NAME: (listings.c.source_folded, listings.c.id),
    Sort.CREATED: (listings.c.created_us, listings.c.id),
    Sort.UPDATED: (listings.c.updated_us, listings.c.id),
    Sort.CHECKED: (listings.c.last_checked_us, listings.c.id),
}
_ALONG = ("link", "streamer", "location", "owner")
"""Filters with an index of their own, those that leave least first."""

_texts = table("listings_text", column("rowid"))

type Halves = tuple[bool, ...]
"""Which values of `is_archived` may be in the list: none, one or both."""


def halves(filters: Filters, *, sees_archive: bool) -> Halves:
    """Which halves of the catalogue fit the filters and may be seen."""
    both = (False, True) if sees_archive else (False,)
    return tuple(half for half in both if filters.is_archived in (None, half))


def fits_nothing(filters: Filters) -> bool:
    """Whether a filter asks for something that there cannot be."""
    if "\0" in (filters.search or ""):  # no text has it
        return True
    chosen = (filters.statuses, filters.platforms, filters.orientations, filters.kinds)
    return any(words is not None and not words for words in chosen)


def count(filters: Filters, within: Halves) -> Select[Any]:
    """How many listings fit, searches aside: what those find is counted when it is found."""
    if _only_counted(filters):
        cells = select(func.coalesce(func.sum(listing_counts.c.count), 0))
        return cells.where(*_of_halves(listing_counts, within), *_choices(listing_counts, filters))
    name = _index_along(filters) or "listings_by_default"
    rows = _along(select(func.count()).select_from(listings), name)
    return rows.where(*_of_halves(listings, within), *_conditions(filters))


def ids(
    filters: Filters,
    sort: Sort,
    within: Halves,
    *,
    descending: bool,
    offset: int = 0,
    limit: int | None = None,
    among: Sequence[int] | None = None,
) -> Select[Any] | CompoundSelect[Any]:
    """The numbers of the listings that fit, in order. `among`: the few that the search is known to find."""
    keys = _KEYS[sort]
    turned = descending or sort is Sort.DEFAULT
    name = _index_along(filters) if sort is Sort.DEFAULT or filters.link is not None else None
    name = name or f"listings_by_{sort}"
    if among is not None:
        name = ""
    searched = _searched(filters) if among is None else [listings.c.id.in_(among), *_whole(filters)]  # for both halves

    def half(archived: bool, *columns: Any) -> Select[Any]:
        rows = _along(select(*columns), name).where(listings.c.is_archived.is_(archived))
        return rows.where(*_conditions(filters), *searched)

    if len(within) == 1:
        one = half(within[0], listings.c.id).order_by(*(key.desc() if turned else key for key in keys))
        return one.limit(limit).offset(offset or None)
    both = union_all(*(half(archived, listings.c.id, *keys[:-1]) for archived in within))
    merged = [both.selected_columns[key.name] for key in keys]
    ordered = both.order_by(*(key.desc() if turned else key for key in merged))
    return ordered.limit(limit).offset(offset or None)


def matches(search: str) -> Select[Any]:
    """All rows in which the index of texts finds this, or what it begins with."""
    return _found(search).with_only_columns(_texts.c.rowid.label("id"))


def is_indexed(search: str) -> bool:
    return len(search) >= SEARCH_INDEXED_CHARACTERS_MIN


def is_wholly_indexed(search: str) -> bool:
    """Whether what the index finds has all of the text, and not only what that begins with."""
    return len(search) <= SEARCH_INDEXED_CHARACTERS_MAX


def _only_counted(filters: Filters) -> bool:
    others = (filters.owner, filters.streamer, filters.location, filters.link)
    return all(other is None for other in others)


def _index_along(filters: Filters) -> str | None:
    name = next((name for name in _ALONG if getattr(filters, name) is not None), None)
    return None if name is None else f"listings_by_{name}"


def _along(query: Select[Any], name: str) -> Select[Any]:
    hint = f"INDEXED BY {name}" if name else "NOT INDEXED"
    return query.with_hint(listings, hint, "sqlite")


def _of_halves(rows: Any, within: Halves) -> list[ColumnElement[bool]]:
    return [rows.c.is_archived.is_(within[0])] if len(within) == 1 else []


def _choices(rows: Any, filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.is_pinned is not None:
        yield rows.c.is_pinned.is_(filters.is_pinned)
    chosen = {
        "status": filters.statuses,
        "platform": filters.platforms,
        "orientation": filters.orientations,
        "kind": filters.kinds,
    }
    for name, words in chosen.items():
        if words is not None:
            yield rows.c[name].in_(sorted(words)) if len(words) > 1 else rows.c[name] == next(iter(words))


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    """All but the search."""
    yield from _choices(listings, filters)
    for name in _ALONG:
        wanted = getattr(filters, name)
        if wanted is not None:
            yield listings.c[name] == wanted


def _searched(filters: Filters) -> list[ColumnElement[bool]]:
    """That a listing has this text somewhere. With PostgreSQL it is ILIKE, which pg_trgm has an index for."""
    if filters.search is None:
        return []
    if is_indexed(filters.search):
        return [listings.c.id.in_(select(_found(filters.search).cte("found").c.rowid)), *_whole(filters)]
    return [_contains(filters.search)]


def _whole(filters: Filters) -> list[ColumnElement[bool]]:
    """That a listing has all of a text of which the index knows no more than the beginning."""
    search = filters.search or ""
    return [] if is_wholly_indexed(search) else [_contains(search)]


def _contains(search: str) -> ColumnElement[bool]:
    """Without the index. SQLite knows the case of ASCII letters alone, so others fit as they are written, or all in the
    same case."""
    everything: ColumnElement[str] = literal("", String)
    for name in SEARCHED:
        everything = everything + "\n" + func.coalesce(listings.c[name], "")
    spellings = sorted({text.translate(_ASCII_LOWER) for text in (search, search.lower(), search.upper())})
    return or_(*(func.instr(func.lower(everything), spelling) > 0 for spelling in spellings))


_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _found(search: str) -> Select[Any]:
    phrase = '"' + search[:SEARCH_INDEXED_CHARACTERS_MAX].replace('"', '""') + '"'
    return select(_texts.c.rowid).where(text("listings_text MATCH :phrase").bindparams(phrase=phrase))
