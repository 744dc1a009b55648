"""Whatever a stranger sends, a check ends in words of ours: no other exception, no Offline out of nonsense."""

import contextlib
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mainstem.catalogue.liveness import rtmp
from mainstem.catalogue.liveness.address import Unreachable, joined, target_of
from mainstem.catalogue.liveness.direct import _Trace
from mainstem.catalogue.liveness.fetch import Answer
from mainstem.catalogue.liveness.platforms import ADAPTERS, Adapter, adapter_for, read
from mainstem.catalogue.liveness.playlist import parse_playlist
from mainstem.catalogue.liveness.verdict import Reason, Result

TAGS = [
    "#EXTM3U",
    "#EXT-X-TARGETDURATION:",
    "#EXT-X-MEDIA-SEQUENCE:",
    "#EXTINF:",
    "#EXT-X-PART:DURATION=",
    "#EXT-X-SKIP:",
]
TAGS += [
    "#EXT-X-PROGRAM-DATE-TIME:",
    "#EXT-X-STREAM-INF:BANDWIDTH=",
    "#EXT-X-ENDLIST",
    "SKIPPED-SEGMENTS=",
    "a.ts",
    "\n",
]

pieces = some.one_of(some.sampled_from(TAGS), some.text(max_size=12), some.integers().map(str))
playlists = some.lists(pieces, max_size=30).map(lambda lines: "#EXTM3U\n" + "\n".join(lines))
links = some.one_of(
    some.text(max_size=60),
    some.tuples(some.sampled_from(["http://", "https://", "rtmp://", "rtsp:", "//", ""]), some.text(max_size=40)).map(
        "".join
    ),
)


@given(links)
def test_any_text_is_a_target_or_a_bad_link(link: str) -> None:
    try:
        target = target_of(link)
    except Unreachable as refused:
        reason = refused.reason
    else:
        reason = Reason.BAD_LINK
        assert target_of(target.link) == target
        assert target.link.isascii()
        assert not any(mark in target.request + target.host for mark in " \r\n\t")
        adapter_for(target)
    assert reason == Reason.BAD_LINK


@given(some.text(max_size=60))
def test_any_reference_is_a_target_or_a_bad_link(reference: str) -> None:
    with contextlib.suppress(Unreachable):
        joined(target_of("https://example.com/a/b.m3u8"), reference)


@given(playlists)
def test_any_playlist_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreachable):
        parse_playlist(text)


@given(some.text(max_size=80))
def test_any_trace_is_read_or_forgotten(text: str) -> None:
    """It was written by us, but perhaps by another version of us."""
    assert _Trace.parse(text) is None
    assert _Trace.parse(f"hls 1 2 3 {text}x") is None


@given(some.binary(max_size=200))
def test_any_command_of_a_server_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Unreachable, IndexError, struct.error):
        list(rtmp._amf_values(body))


json = some.recursive(
    some.none() | some.booleans() | some.integers(-3, 9) | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(
            some.sampled_from(["data", "liveRoom", "statusCode", "code", "live", "livestream", "slug", "message"]),
            inner,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: str(adapter.name))
@given(body=json, status=some.sampled_from([200, 206, 403, 429, 500, 503]))
def test_any_json_is_read_or_unknown(adapter: Adapter, body: object, status: int) -> None:
    link = target_of(f"https://{adapter.hosts[0]}/somebody")
    for step in adapter.steps(link):
        answer = Answer(step.target, status, {"content-type": "application/json"}, msgspec.json.encode(body))
        verdict = read(answer, step)
        assert status in {200, 206} or verdict.result is Result.UNKNOWN
