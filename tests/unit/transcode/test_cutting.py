"""Segments are cut where players and validators want them."""

from hypothesis import given
from hypothesis import strategies as st

from mainstem.transcode.cutting import Cut, Cutter, Frame

KINDS = st.sampled_from(
    [(44_100, 1_024), (48_000, 1_024), (8_000, 1_024), (96_000, 1_024), (44_100, 1_152), (8_000, 576), (48_000, 960)]
)


def cuts(rate: int, ticks: list[int]) -> list[Cut]:
    cutter = Cutter(rate)
    made = [cutter.add(Frame(b"", one)) for one in ticks]
    return [cut for cut in [*made, cutter.rest()] if cut is not None]


@given(KINDS, st.integers(1, 4_000), st.integers(1, 100))
def test_no_frame_is_lost_and_none_moves(kind: tuple[int, int], count: int, last_percent: int) -> None:
    rate, ticks = kind
    frames = [ticks] * (count - 1) + [max(1, ticks * last_percent // 100)]

    made = cuts(rate, frames)

    assert [frame.ticks for cut in made for frame in cut.frames] == frames
    assert [cut.number for cut in made] == list(range(1, len(made) + 1))
    assert [cut.start for cut in made] == [
        sum(frames[: sum(len(c.frames) for c in made[:i])]) for i in range(len(made))
    ]


@given(KINDS, st.integers(1, 4_000))
def test_every_segment_rounds_to_six_seconds_at_most_and_only_the_last_is_short(
    kind: tuple[int, int], count: int
) -> None:
    rate, ticks = kind
    lengths = [cut.ticks / rate for cut in cuts(rate, [ticks] * count)]

    assert all(round(length) <= 6 for length in lengths)
    assert all(length > 6 - ticks / rate for length in lengths[:-1])
    assert len(lengths) == 1 or lengths[-1] >= 0.3


@given(KINDS, st.integers(600, 4_000))
def test_the_error_of_a_boundary_never_adds_up(kind: tuple[int, int], count: int) -> None:
    rate, ticks = kind

    for cut in cuts(rate, [ticks] * count):
        assert abs(cut.start - (cut.number - 1) * 6 * rate) <= ticks / 2


def test_twenty_seconds_are_three_segments_of_six_and_one_of_two() -> None:
    assert [cut.ticks for cut in cuts(48_000, [4_800] * 200)] == [288_000, 288_000, 288_000, 96_000]


def test_an_end_of_one_frame_goes_with_the_segment_before() -> None:
    assert [cut.ticks for cut in cuts(48_000, [4_800] * 61)] == [292_800]


def test_a_segment_comes_out_as_soon_as_no_tiny_one_can_be_left() -> None:
    cutter = Cutter(48_000)

    number = next(number for number in range(1, 200) if cutter.add(Frame(b"", 4_800)) is not None)

    assert number == 64


def test_of_nothing_there_is_no_segment() -> None:
    assert cuts(48_000, []) == []
