"""What a playlist says of where its stream stands."""

import pytest

from mainstem.catalogue.liveness.address import Unreachable
from mainstem.catalogue.liveness.playlist import MediaPlaylist, Pointer, Position, parse_playlist
from mainstem.clock import SECOND_US

LIVE = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:00.000Z
#EXTINF:4.0,
a100.ts
#EXTINF:4.0,
a101.ts
"""

LOW_LATENCY = (
    LIVE
    + """#EXT-X-PART:DURATION=0.5,URI="p0.mp4",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI="p1.mp4"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p2.mp4"
"""
)

TEN_US = 1_795_341_600 * SECOND_US  # 2026-11-22T10:00:00Z


def media(text: str) -> MediaPlaylist:
    found = parse_playlist(text)
    assert isinstance(found, MediaPlaylist)
    return found


def test_a_position_is_the_last_segment_and_its_parts() -> None:
    assert media(LIVE).position[:2] == (101, 0)
    assert media(LOW_LATENCY).position[:2] == (101, 2)


def test_sequence_numbers_are_told_apart_to_the_last_digit() -> None:
    """Those that are times in nanoseconds are beyond what a float can tell apart."""
    one, next_one = (LIVE.replace("SEQUENCE:100", f"SEQUENCE:{1_795_389_120_000_000_000 + step}") for step in (0, 1))

    assert media(next_one).position.number - media(one).position.number == 1


def test_the_newest_moment_counts_segments_and_parts() -> None:
    assert media(LIVE).newest_us == TEN_US + 8 * SECOND_US
    assert media(LOW_LATENCY).newest_us == TEN_US + 9 * SECOND_US


@pytest.mark.parametrize(("age_s", "fresh"), [(0, True), (11.9, True), (12, False), (-59, True), (-61, False)])
def test_fresh_is_younger_than_three_target_durations(age_s: float, fresh: bool) -> None:
    """And no further ahead of our clock than a minute, for then its dates mean something else."""
    assert media(LIVE).is_fresh(TEN_US + int((8 + age_s) * SECOND_US)) is fresh


@pytest.mark.parametrize(
    ("before", "after", "past"),
    [
        (Position(5, 0, 1), Position(6, 0, 2), True),
        (Position(5, 1, 1), Position(5, 2, 1), True),
        (Position(5, 0, 1), Position(5, 0, 2), True),  # a server that forgets to count
        (Position(5, 0, 1), Position(5, 0, 1), False),
        (Position(5, 0, 1), Position(4, 0, 9), False),  # an older copy, or a new beginning
        (Position(5, 3, 1), Position(5, 2, 1), False),
    ],
)
def test_a_stream_goes_on_when_its_end_moves(before: Position, after: Position, past: bool) -> None:
    assert after.is_past(before) is past


@pytest.mark.parametrize("ending", ["#EXT-X-ENDLIST", "#EXT-X-PLAYLIST-TYPE:VOD"])
def test_an_end_is_an_end(ending: str) -> None:
    assert media(LIVE + ending + "\n").ended
    assert not media(LIVE).ended


def test_of_variants_the_lightest_is_taken() -> None:
    text = """\ufeff#EXTM3U
#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=10,BANDWIDTH=900000,RESOLUTION=640x360
#EXT-X-SOMETHING:x
high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=64000
low.m3u8
"""
    assert parse_playlist(text) == Pointer("low.m3u8")


@pytest.mark.parametrize(
    "text", ["#EXTM3U\nhttp://radio.example/stream\n", "[playlist]\nFile1=http://radio.example/stream\nTitle1=R\n"]
)
def test_a_stations_playlist_only_points(text: str) -> None:
    assert parse_playlist(text) == Pointer("http://radio.example/stream")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "#EXTM3U\n",
        "[playlist]\nNumberOfEntries=0\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:many\n",
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:99999999999999999999999999\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:nan\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:-1\n",
    ],
)
def test_what_is_no_playlist_says_nothing(text: str) -> None:
    with pytest.raises(Unreachable):
        parse_playlist(text)
