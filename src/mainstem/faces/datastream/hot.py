"""The short way for events in: one event or a batch as JSON, or a batch as Arrow, with an API key and no options."""

import re
from collections.abc import Callable
from time import perf_counter

import msgspec

from mainstem.errors import MainstemError
from mainstem.events import Accepted, Batch, Ingest
from mainstem.faces.datastream import wire
from mainstem.http import Answering, HotHead, hot_answer, is_json
from mainstem.identity import KEY_PREFIX, Directory, Principal, Tier
from mainstem.telemetry import Metrics

_ROUTES = {b"/v2/ingest/events": False, b"/v2/ingest/batch": True}
_COLUMNS = re.compile(rb"/v2/ingest/batch\?stream_id=([A-Za-z0-9._~-]{1,255})")
_CHECK_EVERY_S = 1.0
_OK = HotHead()


class _Facts:
    """What a header block says, and whose it was found to be."""

    __slots__ = ("checked_at", "columns_of", "epoch", "is_batch", "key", "principal")

    def __init__(self, key: bytes, *, is_batch: bool, columns_of: str = "") -> None:
        self.key = key
        self.is_batch = is_batch
        self.columns_of = columns_of
        """The stream of an Arrow body; empty: the body is JSON and says so itself."""
        self.principal: Principal | None = None
        self.epoch = -1
        self.checked_at = 0.0


class HotIngest:
    """`mainstem.http.HotRoute` of both ingest routes."""

    def __init__(self, ingest: Ingest, directory: Directory, metrics: Metrics) -> None:
        self._ingest = ingest
        self._directory = directory
        self._events_meter = metrics.meter("ingest_events", "POST")
        self._batch_meter = metrics.meter("ingest_batch", "POST")

    def read(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> _Facts | None:
        if method != b"POST":
            return None
        key = headers.pop(b"x-api-key", b"") or headers.pop(b"authorization", b"").removeprefix(b"Bearer ")
        if not key.startswith(KEY_PREFIX.encode()):
            return None
        columns = _COLUMNS.fullmatch(target)
        if columns is not None and headers.get(b"content-type") == wire.ARROW.encode():
            del headers[b"content-type"]
            return _Facts(key, is_batch=True, columns_of=columns[1].decode())
        is_batch = _ROUTES.get(target)
        return _Facts(key, is_batch=is_batch) if is_batch is not None and is_json(headers) else None

    def serve(self, facts: _Facts, body: bytes, now: float, answer: Answering) -> bool:
        started = perf_counter()
        principal = self._caller(facts, now)
        if principal is None:
            return False
        if facts.is_batch:
            return self._serve_batch(principal, facts.columns_of, body, started, answer)
        return self._serve_one(principal, body, started, answer)

    def _caller(self, facts: _Facts, now: float) -> Principal | None:
        """Whose request it is, when that takes no look-up and no counting."""
        if (
            facts.principal is not None
            and facts.epoch == self._directory.epoch
            and now - facts.checked_at < _CHECK_EVERY_S
        ):
            return facts.principal
        principal = self._directory.known_key(facts.key)
        if principal is None or principal.tier is not Tier.UNLIMITED:
            return None
        facts.principal, facts.epoch, facts.checked_at = principal, self._directory.epoch, now
        return principal

    def _serve_one(self, principal: Principal, body: bytes, started: float, answer: Answering) -> bool:
        def answered(result: Accepted | Exception) -> None:
            elapsed_s = perf_counter() - started
            if isinstance(result, Exception):
                self._refuse(result, elapsed_s, self._events_meter.count, answer)
                return
            self._events_meter.count(200, elapsed_s)
            duplicate = b',"duplicate":true' if result.duplicate else b""
            answer(
                _OK,
                b'{"status":"accepted","event_id":"evt_%010d","processing_time_ms":%.3f%b}'
                % (result.seq, elapsed_s * 1_000, duplicate),
            )

        return self._ingest.submit_one(principal, body, answered) is not None

    def _serve_batch(
        self,
        principal: Principal,
        columns_of: str,
        body: bytes,
        started: float,
        answer: Answering,
    ) -> bool:
        def answered(result: Batch | Exception) -> None:
            elapsed_s = perf_counter() - started
            if isinstance(result, Exception):
                self._refuse(result, elapsed_s, self._batch_meter.count, answer)
                return
            self._batch_meter.count(200, elapsed_s)
            out = wire.batch_out(result, round(elapsed_s * 1_000, 3), with_ids=False)
            answer(_OK, msgspec.json.encode(out))

        if columns_of:
            return self._ingest.submit_arrow(principal, columns_of, body, answered) is not None
        return self._ingest.submit_many(principal, body, answered) is not None

    def _refuse(
        self, error: Exception, elapsed_s: float, count: Callable[[int, float], None], answer: Answering
    ) -> None:
        head, body = hot_answer(wire.error_answer(error if isinstance(error, MainstemError) else None))
        count(head.status, elapsed_s)
        answer(head, body)
