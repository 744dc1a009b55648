"""The windows of time in which a page is looked for, and cursors."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.filters import InvalidQuery
from mainstem.events.paging import Cursor, Extent, Range, Timeline, decode_cursor, encode_cursor

MOMENTS = st.integers(-(10**17), 10**17)


def extent(first_us: int, last_us: int, rows: int) -> Extent:
    return Extent(None, rows, 0, first_us, last_us, None)


EXTENTS = st.builds(
    lambda start, span, rows: extent(start, start + span, rows),
    MOMENTS,
    st.one_of(st.just(0), st.integers(0, 10**15)),
    st.integers(1, 10**7),
)


@given(
    st.lists(EXTENTS, max_size=6),
    st.one_of(st.none(), MOMENTS),
    st.one_of(st.none(), st.integers(1, 10**17)),
    st.integers(1, 5_000),
    st.floats(0, 1),
    st.booleans(),
)
def test_windows_are_all_of_the_time_once(
    found: Sequence[Extent], start_us: int | None, span_us: int | None, wanted: int, share: float, descending: bool
) -> None:
    """Whatever the extents, each window begins where the one before it ends, and together they are the range."""
    end_us = None if span_us is None else (start_us or 0) + span_us
    timeline = Timeline(found, Range(start_us, end_us), None)
    windows = list(timeline.windows(wanted, share, descending=descending))
    if descending:
        windows.reverse()

    assert (windows[0].start_us, windows[-1].end_us) == (start_us, end_us)
    assert all(left.end_us == right.start_us for left, right in pairwise(windows))
    assert all(None in window or window[0] <= window[1] for window in windows)  # type: ignore[operator]


@pytest.mark.parametrize("descending", [False, True])
def test_the_first_window_has_about_what_is_wanted(descending: bool) -> None:
    """Ten million events and a page of 100: the first query reads a small part of them."""
    found = [extent(day * 10_000, day * 10_000 + 9_999, 1_000_000) for day in range(10)]
    first = next(Timeline(found, Range(), None).windows(101, 0.001, descending=descending))

    assert first == (Range(98_485, None) if descending else Range(None, 1_515))


def test_a_cursor_comes_back_as_it_was() -> None:
    """What a client is given holds all that the next page needs."""
    cursor = Cursor(b"q" * 16, -5, 7, 2**62, 12)

    assert decode_cursor(encode_cursor(cursor), b"q" * 16) == cursor


@given(st.text() | st.binary().map(lambda raw: raw.hex()))
def test_no_text_breaks_the_cursor(text: str) -> None:
    """A cursor is somebody's input."""
    with pytest.raises(InvalidQuery, match="cursor"):
        decode_cursor(text, b"q" * 16)
