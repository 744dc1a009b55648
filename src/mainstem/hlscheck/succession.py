"""What a playlist may become: the rules between two states of it, one fetched after the other."""

from collections.abc import Iterator

from mainstem.hlscheck.playlist import Playlist, Segment
from mainstem.hlscheck.rules import Finding, finding


def succession_rules(before: Playlist, after: Playlist) -> Iterator[Finding]:
    name = after.name
    if after.target_s != before.target_s:
        yield finding("live.target", name, f"went from {before.target_s} to {after.target_s}")
    removed = after.sequence - before.sequence
    if removed < 0:
        yield finding(
            "live.sequence", name, f"the media sequence number fell from {before.sequence} to {after.sequence}"
        )
        return
    is_kept = "EVENT" in (before.type, after.type) or "VOD" in (before.type, after.type)
    if is_kept and (removed or len(after.segments) < len(before.segments)):
        message = f"{len(before.segments)} segments from {before.sequence} became {len(after.segments)}"
        yield finding("live.removed", name, f"{message} from {after.sequence}")
        return
    yield from _same_segments(before.segments[removed:], after.segments, name)
    if before.has_ended and (not after.has_ended or len(after.segments) != len(before.segments)):
        yield finding("live.end", name, "changed after EXT-X-ENDLIST")


def _same_segments(before: list[Segment], after: list[Segment], name: str) -> Iterator[Finding]:
    for place, (old, new) in enumerate(zip(before, after, strict=False)):
        if (old.uri, old.duration_s, old.map_uri) != (new.uri, new.duration_s, new.map_uri):
            message = f"{old.uri} of {old.duration_s} s became {new.uri} of {new.duration_s} s"
            yield finding("live.changed", f"{name}:{new.line}", f"{message}, as segment {place} of those that stayed")
            return
    if len(after) < len(before):
        yield finding("live.sequence", name, "the playlist became shorter and its sequence number stayed")
