"""What the log keeps in memory about each topic: well under a kilobyte."""

from array import array

from mainstem.clock import SECOND_US
from mainstem.storage.embedded.log.catalog import Standing
from mainstem.storage.ports import TopicState

_RATE_S = 60


class TopicLine:
    """A topic's counters. `next_idx` is given to the next event; events below `readable_idx` are committed."""

    __slots__ = (
        "_counts",
        "_second",
        "bytes",
        "bytes_max",
        "dropped",
        "first_idx",
        "keep_us",
        "last_arrived",
        "last_ts",
        "next_idx",
        "readable_idx",
    )

    def __init__(self) -> None:
        self.next_idx = 0
        self.readable_idx = 0
        self.first_idx = 0
        self.last_ts: int | None = None
        self.last_arrived: int | None = None
        self.dropped = False
        self.keep_us: int | None = None
        self.bytes_max: int | None = None
        self.bytes = 0
        self._second = 0
        self._counts: array[int] | None = None

    @classmethod
    def of(cls, standing: Standing) -> "TopicLine":
        line = cls()
        line.next_idx = line.readable_idx = standing.next_idx
        line.first_idx = standing.first_idx
        line.last_ts, line.last_arrived = standing.last_ts, standing.last_arrived
        line.dropped = standing.dropped
        return line

    def committed(self, next_idx: int, count: int, last_ts: int, arrived_us: int) -> None:
        self.readable_idx = next_idx
        self.last_ts = last_ts
        self.last_arrived = arrived_us
        self._turn(arrived_us // SECOND_US)[self._second % _RATE_S] += count

    def _turn(self, second: int) -> "array[int]":
        """Forget the seconds that have passed out of the last minute."""
        counts = self._counts
        if counts is None:
            counts = self._counts = array("L", bytes(8 * _RATE_S))
            self._second = second
        for passed in range(self._second + 1, min(second, self._second + _RATE_S) + 1):
            counts[passed % _RATE_S] = 0
        self._second = max(self._second, second)
        return counts

    def state(self, now_us: int) -> TopicState:
        rate = 0.0 if self._counts is None else sum(self._turn(now_us // SECOND_US)) / _RATE_S
        return TopicState(
            next_idx=self.readable_idx,
            first_idx=self.readable_idx if self.dropped else min(self.first_idx, self.readable_idx),
            last_ts_us=self.last_ts,
            last_arrived_us=self.last_arrived,
            rate_per_s=rate,
            bytes=self.bytes,
        )
