"""Events are checked as columns where all is well and one by one where not: nobody can tell which it was."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mainstem.clock import FixedClock, rfc3339
from mainstem.errors import Invalid
from mainstem.events import Form, Ingest, IngestLimits, TopicDefaults, Topics
from mainstem.identity import Directory, Principal, Scope, Tier
from mainstem.ids import AccountId
from mainstem.settings import Settings
from mainstem.storage import open_storage

LIMITS = IngestLimits(event_bytes_max=2_000, batch_events_max=100)
type Errors = list[tuple[int, str, str]]
type Kept = list[tuple[int, int, int, str, bytes, bytes | None, str | None, int]]

WRONG = '{"event_type": ""}'
"""One such event in a body, and all of them are looked at one by one."""

TIMES = st.one_of(
    st.datetimes(timezones=st.just(None)).map(lambda time: time.isoformat() + "Z"),
    st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%S+05:30")),
    st.tuples(
        st.integers(-1, 10_000), st.integers(0, 13), st.integers(0, 32), st.integers(0, 25), st.integers(0, 61)
    ).map(lambda parts: "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:00Z".format(*parts)),
    st.from_regex(
        r"2024-0[0-9]-[0-3][0-9][Tt ]2[0-9]:[0-6][0-9]:[0-6][0-9]([.,][0-9]{0,10})?"
        r"([Zz ]|Z{2}|[+-][0-2][0-9]:?[0-6]?[0-9]?Z?|)",
        fullmatch=True,
    ),
    st.sampled_from(
        ["", "Z", "now", "2024-03-15", "2024-03-15Z", "20240315T103000Z", "2024-W11-5T10:30:00Z", "é" * 20]
    ),
)
TYPES = st.one_of(
    st.sampled_from(["click", "", "a\u0000", "x" * 255, "x" * 256, "é" * 255, "\x85", "\u2028"]), st.text()
)
OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
DATA = st.one_of(
    st.dictionaries(st.text(), OBJECTS, max_size=3),
    st.sampled_from([None, [], 1, "{}", {"filling": "x" * 1_500}, {"filling": "x" * 3_000}]),
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "event_type": TYPES | st.just("click") | st.none(),
        "timestamp": TIMES | st.none() | st.integers(),
        "data": DATA,
        "metadata": DATA,
        "event_id": st.sampled_from(["", "a", "b", "c", "é" * 128, "i" * 129]) | st.none(),
        "stream_id": st.sampled_from(["other"]) | st.integers(),
        "more": OBJECTS,
    },
)
MOSTLY_GOOD = st.lists(
    EVENTS.map(lambda made: {"event_type": "click", **{k: v for k, v in made.items() if k != "stream_id"}}) | EVENTS,
    min_size=1,
    max_size=6,
)
PADDINGS = st.sampled_from(["", " ", "\n", "\t  "])


class World:
    """Ingest over a log, on a loop of its own so that many examples share it."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.names = (f"stream-{number}" for number in count())
        self._opened = self._open(folder)
        self.runner.run(self._opened.__aenter__())

    def close(self) -> None:
        self.runner.run(self._opened.__aexit__(None, None, None))
        self.runner.close()

    @asynccontextmanager
    async def _open(self, folder: Path) -> AsyncIterator[None]:
        clock = FixedClock()
        async with open_storage(Settings(data=folder), clock) as storage:
            self.log = storage.log
            directory = Directory(storage.records, clock, b"k" * 32, 3_600)
            account = await directory.create_account("writer")
            scopes = frozenset((Scope.EVENTS_WRITE, Scope.STREAMS_MANAGE))
            self.writer = Principal(AccountId(account.id), "writer", "key_1", scopes, Tier.UNLIMITED)
            self.topics = Topics(storage.records, storage.log, directory, clock, TopicDefaults(30, 60))
            self.ingest = Ingest(storage.log, self.topics, clock, LIMITS)
            yield

    def stored(self, name: str) -> Kept:
        """What is kept of each event, but for its sequence number."""
        topic = self.runner.run(self.topics.for_writing(self.writer, name))
        return [row[1:] for row in self.runner.run(self.log.read(topic.id, 0, 1_000))]

    def as_batch(self, events: list[str], padding: str = "") -> tuple[Errors, Kept]:
        name = next(self.names)
        joined = f",{padding}".join(events)
        body = f'{{"stream_id":{padding}"{name}","events":{padding}[{padding}{joined}{padding}]}}'
        return self._send(name, body.encode(), Form.JSON)

    def as_lines(self, events: list[str]) -> tuple[Errors, Kept]:
        name = next(self.names)
        return self._send(name, "\n".join(events).encode(), Form.NDJSON)

    def one_by_one(self, events: list[str]) -> tuple[Errors, Kept]:
        """Each in a request of its own; the errors as of a batch."""
        name = next(self.names)
        errors: Errors = []
        for index, event in enumerate(events):
            body = f'{{"stream_id":"{name}"' + (f",{event[1:]}" if event != "{}" else "}")
            try:
                self.runner.run(self.ingest.one(self.writer, body.encode()))
            except Invalid as error:
                errors.append((index, type(error).__name__, error.message))
        return errors, self.stored(name)

    def _send(self, name: str, body: bytes, form: Form) -> tuple[Errors, Kept]:
        batch = self.runner.run(self.ingest.many(self.writer, body, form=form, stream_id=name, partial=True))
        return [(error.index, error.code, error.message) for error in batch.errors], self.stored(name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("ingest") / "data")
    yield made
    made.close()


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(made=MOSTLY_GOOD, padding=PADDINGS)
@example(made=[{"event_type": "a", "timestamp": "0000-01-01T00:00:00Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "2024-03-15 10:30:00.1Z"}], padding=" ")
@example(made=[{"event_type": "a", "timestamp": "2024-03-15T10:30:00.1234567Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "2024-02-30T10:30:00Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "2024-03-15T24:00:00Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "2024-03-15T23:59:60Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "2024-03-15T10:30+01:00Z"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "0001-01-01T00:00:00+23:59"}], padding="")
@example(made=[{"event_type": "a", "timestamp": "9999-12-31T23:59:59-23:59"}], padding="")
@example(made=[{"event_type": "a", "stream_id": 5}, {"event_type": "a", "stream_id": "other"}], padding="")
def test_columns_are_checked_as_events_are(world: World, made: list[dict[str, object]], padding: str) -> None:
    """What is stored, byte for byte, and what is said of what is not, is the same on either path."""
    events = [json.dumps(event, ensure_ascii=False) for event in made]

    errors, stored = world.as_batch(events, padding)
    errors_slowly, stored_slowly = world.as_batch([*events, WRONG], padding)

    assert stored == stored_slowly
    assert errors == errors_slowly[:-1]
    assert errors_slowly[-1][0] == len(events)
    assert all(rfc3339(row[1]) for row in stored)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(made=MOSTLY_GOOD)
def test_a_batch_takes_what_its_events_would_be_taken_alone(world: World, made: list[dict[str, object]]) -> None:
    """The same is refused, and the rest is kept alike, in one request or in many, as JSON or as lines."""
    events = [json.dumps({k: v for k, v in event.items() if k != "stream_id"}) for event in made]

    errors, stored = world.as_batch(events)
    errors_alone, stored_alone = world.one_by_one(events)
    errors_of_lines, stored_of_lines = world.as_lines(events)

    assert stored == stored_alone == stored_of_lines
    assert [index for index, *_ in errors] == [index for index, *_ in errors_alone]
    assert errors == errors_of_lines
