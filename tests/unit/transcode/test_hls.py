"""Playlists as clients of stream-server know them."""

from hypothesis import given
from hypothesis import strategies as st

from mainstem.transcode import Codec, Rung, Segment, hls
from mainstem.transcode.child import file_name

AAC = Rung(name="aac-256", codec=Codec.AAC, bitrate=256_000, sample_rate=48_000, channels=2)
FLAC = Rung(name="flac", codec=Codec.FLAC, bitrate=None, sample_rate=44_100, channels=2)
SEGMENTS = [Segment(1, 288_000, 200_000), Segment(2, 288_000, 220_000), Segment(3, 96_000, 70_000)]


def test_a_media_playlist_has_the_form_of_the_seed() -> None:
    assert hls.media(AAC, SEGMENTS, ended=True, event=False) == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:3\n"
        "#EXT-X-TARGETDURATION:6\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXTINF:6.0,\n"
        "segment_00001.ts\n"
        "#EXTINF:6.0,\n"
        "segment_00002.ts\n"
        "#EXTINF:2.0,\n"
        "segment_00003.ts\n"
        "#EXT-X-ENDLIST\n"
    )


def test_fragments_have_a_map_and_version_seven() -> None:
    lines = hls.media(FLAC, [Segment(0, 0, 700), Segment(1, 100_000, 1)], ended=True, event=False).splitlines()

    assert lines[1] == "#EXT-X-VERSION:7"
    assert lines[4:] == ['#EXT-X-MAP:URI="init.mp4"', "#EXTINF:2.267574,", "segment_00001.m4s", "#EXT-X-ENDLIST"]


def test_a_playlist_that_grows_says_so_and_has_no_end() -> None:
    growing = hls.media(AAC, SEGMENTS[:1], ended=False, event=True)
    whole = hls.media(AAC, SEGMENTS, ended=True, event=True)

    assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in growing
    assert "#EXT-X-ENDLIST" not in growing
    assert whole.startswith(growing)


def test_a_master_names_codecs_and_rates() -> None:
    master = hls.master([("aac-256/index.m3u8", AAC, SEGMENTS), ("flac/index.m3u8", FLAC, SEGMENTS)])

    assert 'BANDWIDTH=293334,AVERAGE-BANDWIDTH=280000,CODECS="mp4a.40.2"\naac-256/index.m3u8\n' in master
    assert 'CODECS="fLaC"\nflac/index.m3u8\n' in master


def test_a_short_end_alone_is_no_peak() -> None:
    """It has the overhead of a whole segment; RFC 8216 looks at runs of half a target duration and more."""
    assert hls.peak_bitrate(AAC, [Segment(1, 288_000, 180_000), Segment(2, 480, 1_000)]) == 240_932
    assert hls.peak_bitrate(AAC, [Segment(1, 4_800, 1_000)]) == 80_000


@given(st.integers(1, 10**9))
def test_segment_names_lead_back_to_their_numbers(number: int) -> None:
    name = file_name(AAC, number)

    assert hls.segment_number(AAC, name) == (number if number < 10**9 else None)
    assert hls.segment_number(FLAC, name) is None


def test_other_names_are_no_segments() -> None:
    names = [
        "segment_00000.ts",
        "segment_1.ts",
        "segment_000001.ts",
        "index.m3u8.bak",
        "../x",
        "source",
        "",
        "init.mp4",
    ]

    assert [hls.segment_number(AAC, name) for name in names] == [None] * len(names)
    assert hls.segment_number(FLAC, "init.mp4") == 0


def test_after_99999_names_grow() -> None:
    assert file_name(AAC, 100_000) == "segment_100000.ts"
    assert hls.segment_number(AAC, "segment_100000.ts") == 100_000
