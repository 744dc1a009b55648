"""stream-server's words: states and times as Rust prints them, and playlists that carry a query on."""

import pytest

from mainstem.faces.streamserver import wire
from mainstem.faces.streamserver.access import with_query
from mainstem.transcode import Job, JobState, Media, Order, Rung
from mainstem.transcode.audio import Codec

TIME_US = 1_737_979_200_250_000


def job(state: JobState, error: str | None = None) -> Job:
    return Job(
        id="550e8400-e29b-41d4-a716-446655440000",
        track_id="my track",
        owner=None,
        state=state,
        progress=45.5,
        created_us=TIME_US,
        started_us=None,
        completed_us=None,
        error=error,
        attempt=1,
        order=Order(),
        media=Media(duration_s=1.0, codec="flac", bitrate=None, sample_rate=44_100, channels=2, bits=16, lossless=True),
        loudness=None,
        rungs=[Rung(name="aac-256", codec=Codec.AAC, bitrate=256_000, sample_rate=44_100, channels=2)],
        source_bytes=1,
        cover=None,
        has_waveform=False,
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("the file ends too early", 'Failed("the file ends too early")'),
        ('it says "no" \\ never', 'Failed("it says \\"no\\" \\\\ never")'),
        ("two\nlines\tand more", 'Failed("two lines and more")'),
        ("a bell \x07 and ünïcode", 'Failed("a bell \\u{7} and ünïcode")'),
        ("x" * 300, f'Failed("{"x" * 200}")'),
        (None, 'Failed("")'),
    ],
)
def test_a_failure_has_its_reason_as_rust_quotes_it(error: str | None, status: str) -> None:
    assert wire.status_of(job(JobState.FAILED, error)) == status


def test_other_states_are_their_names() -> None:
    states = [state for state in JobState if state is not JobState.FAILED]

    assert [wire.status_of(job(state)) for state in states] == ["Pending", "Processing", "Completed", "Cancelled"]


def test_times_are_rfc_3339_or_rusts() -> None:
    assert wire.moment(TIME_US, "rfc3339") == "2025-01-27T12:00:00.250000Z"
    assert wire.moment(TIME_US, "rust") == "SystemTime { tv_sec: 1737979200, tv_nsec: 250000000 }"
    assert wire.moment_or_null(TIME_US, "rust") == "Some(SystemTime { tv_sec: 1737979200, tv_nsec: 250000000 })"
    assert wire.moment_or_null(None, "rust") is None


def test_every_address_of_a_playlist_carries_the_query() -> None:
    playlist = '#EXTM3U\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:6.0,\nsegment_00001.m4s\n#EXT-X-ENDLIST\n'

    assert with_query(playlist, "") == playlist
    assert with_query(playlist, "expires=1&sig=ab").split("\n") == [
        "#EXTM3U",
        '#EXT-X-MAP:URI="init.mp4?expires=1&sig=ab"',
        "#EXTINF:6.0,",
        "segment_00001.m4s?expires=1&sig=ab",
        "#EXT-X-ENDLIST",
        "",
    ]
