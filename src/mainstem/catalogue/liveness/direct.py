"""Media by their own address: playlists whose end moves on, and sound or picture that keeps coming."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mainstem.catalogue.liveness.address import Target, Unreachable, joined
from mainstem.catalogue.liveness.decoder import Decoder
from mainstem.catalogue.liveness.fetch import Answer, Fetcher
from mainstem.catalogue.liveness.pages import page_verdict, refusal
from mainstem.catalogue.liveness.platforms import adapter_for
from mainstem.catalogue.liveness.playlist import MediaPlaylist, Pointer, Position, parse_playlist
from mainstem.catalogue.liveness.verdict import Reason, Verdict, live, offline, unknown
from mainstem.clock import SECOND_US, Clock

STANDSTILL_TARGETS = 3
"""A playlist that stays as it is for so many target durations has stopped."""

PATIENCE_S = 30.0
"""The longest that one check waits for a playlist to move; slower ones are compared with the check before."""

_POINTERS_MAX = 3
_PLAYLIST_TYPES = frozenset(
    {
        "application/vnd.apple.mpegurl",
        "application/x-mpegurl",
        "audio/mpegurl",
        "audio/x-mpegurl",
        "audio/x-scpls",
        "application/mpegurl",
        "application/pls+xml",
    }
)

type Sleep = Callable[[float], Awaitable[None]]


class DirectMedia:
    """Checks addresses that answer by HTTP."""

    def __init__(self, fetcher: Fetcher, decoder: Decoder, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._fetcher = fetcher
        self._decoder = decoder
        self._clock = clock
        self._sleep = sleep

    async def check(self, target: Target, trace: str | None) -> Verdict | Target:
        """Ask the address and look at what comes; a page is looked at for what it says of itself.

        The answer is a target where the address only led to a page of a platform, which knows better ways to ask.
        `trace` is that of the check before. Takes up to 30 s where a playlist has to be watched. Raises Unreachable.
        """
        for _ in range(_POINTERS_MAX + 1):
            answer = await self._fetcher.get(target)
            if is_on_platform(answer) and answer.target != target:
                return answer.target
            refused = refusal(answer)
            if refused is not None:
                return refused
            if answer.is_medium:
                return await self._medium(answer)
            if not is_playlist(answer):
                return page_verdict(answer)
            playlist = _playlist_in(answer)
            if isinstance(playlist, MediaPlaylist):
                return await self._watch(answer.target, playlist, trace)
            target = joined(answer.target, playlist.reference)
            if target.scheme not in {"http", "https"}:
                return unknown(Reason.BAD_LINK)
        return unknown(Reason.REDIRECTS)

    async def _medium(self, answer: Answer) -> Verdict:
        if answer.is_file:
            return offline(Reason.FILE)
        if answer.complete:
            return offline(Reason.ENDED if answer.body else Reason.NO_MEDIA)
        if not answer.body:
            return offline(Reason.NO_MEDIA)
        decoded = await self._decoder.decode(answer.body)
        return live(Reason.MEDIA) if decoded else unknown(Reason.BROKEN_ANSWER)

    async def _watch(self, target: Target, playlist: MediaPlaylist, trace: str | None) -> Verdict:
        """Read again and again until the playlist moves on or has stood still for long enough."""
        began_us = self._clock()
        here = _Trace(playlist.position, began_us)
        before = _Trace.parse(trace)
        if playlist.ended:
            return offline(Reason.ENDED, explicit=True)
        if playlist.is_fresh(began_us):
            return live(Reason.FRESH, trace=here.text)
        if before is not None and before.position == here.position:
            if began_us - before.since_us >= STANDSTILL_TARGETS * playlist.target_s * SECOND_US:
                return offline(Reason.STANDS_STILL, trace=before.text)
            here = before
        standstill_s = STANDSTILL_TARGETS * playlist.target_s
        waited_s = 0.0
        while waited_s < min(standstill_s, PATIENCE_S):
            pause_s = min(max(playlist.target_s, 1.0), PATIENCE_S - waited_s)
            await self._sleep(pause_s)
            waited_s += pause_s
            answer = await self._fetcher.get(target)
            refused = refusal(answer)
            if refused is not None:
                return refused
            again = _playlist_in(answer)
            if isinstance(again, Pointer):
                return unknown(Reason.BROKEN_ANSWER)
            if again.position.is_past(here.position):
                return live(Reason.ADVANCES, trace=_Trace(again.position, self._clock()).text)
            if again.ended:
                return offline(Reason.ENDED, explicit=True)
            if again.position != here.position:  # it began anew: what it does from here on counts
                here = _Trace(again.position, self._clock())
        if waited_s < standstill_s:
            return unknown(Reason.NOT_YET, trace=here.text)
        return offline(Reason.STANDS_STILL, trace=here.text)


def is_on_platform(answer: Answer) -> bool:
    """A page, or the refusal of one, at an address that an adapter knows."""
    return adapter_for(answer.target) is not None and not answer.is_medium and not is_playlist(answer)


def is_playlist(answer: Answer) -> bool:
    return answer.media_type in _PLAYLIST_TYPES or answer.body[:10].lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U")


def _playlist_in(answer: Answer) -> MediaPlaylist | Pointer:
    if not answer.complete:
        raise Unreachable(Reason.BROKEN_ANSWER, "half a playlist")
    return parse_playlist(answer.text())


_TRACE = re.compile(r"hls (-?\d{1,20}) (\d{1,20}) (\d{1,20}) (\d{1,20})", re.ASCII)


class _Trace(NamedTuple):
    """Where a playlist stood, and since when we know it there."""

    position: Position
    since_us: int

    @property
    def text(self) -> str:
        return f"hls {self.position.number} {self.position.parts} {self.position.mark} {self.since_us}"

    @classmethod
    def parse(cls, text: str | None) -> "_Trace | None":
        found = _TRACE.fullmatch(text or "")
        if found is None:
            return None
        number, parts, mark, since_us = map(int, found.groups())
        return cls(Position(number, parts, mark), since_us)
