"""Where a rung is cut into segments. Pure."""

from typing import NamedTuple

SEGMENT_S = 6
"""How long a segment is, to the nearest frame; also the target duration of every playlist."""

_TAIL_S = 0.4
"""An end as short as this goes with the segment before, which then still rounds to six seconds."""


class Frame(NamedTuple):
    """An encoded piece of audio that can be decoded by itself, or with what came before it."""

    data: bytes
    ticks: int
    """How long it lasts, in samples."""


class Cut(NamedTuple):
    """The frames of a segment, and when it begins, in samples since the rung's first."""

    number: int
    start: int
    frames: list[Frame]

    @property
    def ticks(self) -> int:
        return sum(frame.ticks for frame in self.frames)


class Cutter:
    """Cuts at the frame boundaries that are nearest to 6 s, 12 s, 18 s, so that the error never adds up.

    A segment comes out when enough has followed it that no tiny one can be left at the end.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._number = 1
        self._start = 0
        self._frames: list[Frame] = []
        self._ticks = 0
        self._cut_at: int | None = None  # how many of the frames belong to the segment, once that is known
        self._cut_ticks = 0

    def add(self, frame: Frame) -> Cut | None:
        """Take the next frame; the segment that is complete with it, if one is."""
        if self._cut_at is None and self._beyond(frame.ticks):
            self._cut_at, self._cut_ticks = len(self._frames), self._ticks
        self._frames.append(frame)
        self._ticks += frame.ticks
        if self._cut_at is not None and self._ticks - self._cut_ticks >= _TAIL_S * self._rate:
            return self._take(self._cut_at)
        return None

    def rest(self) -> Cut | None:
        """The last segment, when all frames are there."""
        return self._take(len(self._frames)) if self._frames else None

    def _beyond(self, ticks: int) -> bool:
        """Whether the boundary before a frame this long is nearer to the goal than the one after it."""
        goal = self._number * SEGMENT_S * self._rate - self._start
        return 2 * self._ticks + ticks > 2 * goal

    def _take(self, count: int) -> Cut:
        cut = Cut(self._number, self._start, self._frames[:count])
        self._frames = self._frames[count:]
        self._number += 1
        self._start += cut.ticks
        self._ticks -= cut.ticks
        self._cut_at = None
        return cut
