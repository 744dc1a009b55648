"""Topics: who may make, see, write, change and drop them, and what is remembered of that."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.errors import Denied, Invalid
from mainstem.events import Activity, TopicChanges, TopicDefaults, TopicDraft, TopicExists, TopicNotFound, Topics
from mainstem.identity import Directory, Principal, Right, Scope, Tier
from mainstem.ids import AccountId, TopicId
from mainstem.settings import Settings
from mainstem.storage import Draft, Drafts, Storage, open_storage


class World:
    """Storage, a directory and topics over it."""

    def __init__(self, storage: Storage, clock: FixedClock) -> None:
        self.storage = storage
        self.clock = clock
        self.directory = Directory(storage.records, clock, b"k" * 32, 3_600)
        self.topics = self.another()

    def another(self) -> Topics:
        """The topics as another process would load them."""
        return Topics(self.storage.records, self.storage.log, self.directory, self.clock, TopicDefaults(30, 60))

    async def somebody(self, name: str, *scopes: Scope, topics: frozenset[str] | None = None) -> Principal:
        account = await self.directory.create_account(name)
        chosen = frozenset(scopes or (Scope.EVENTS_READ, Scope.EVENTS_WRITE, Scope.STREAMS_MANAGE))
        return Principal(account.id, name, f"key_{name}", chosen, Tier.STANDARD, topics)

    async def grant(self, principal: Principal, name: str, right: Right) -> None:
        [topic] = [topic for topic in self.topics if topic.name == name]
        async with self.storage.records.begin() as tx:
            await self.directory.grant(tx, principal.account, topic.id, right)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = FixedClock()
    async with open_storage(Settings(data=tmp_path / "data"), clock) as storage:
        yield World(storage, clock)


async def test_a_topic_is_its_makers(world: World) -> None:
    """Who makes it may do everything with it; nobody else knows of it."""
    maker, other = await world.somebody("maker"), await world.somebody("other")
    made = await world.topics.create(maker, TopicDraft("sales", description="What is sold"))

    assert (made.owner, made.retention_days, made.dedupe_window_s) == (maker.account, 30, 60)
    assert await world.topics.for_writing(maker, "sales") == made
    assert await world.topics.for_reading(maker, "sales") == made
    for verb in (world.topics.for_writing, world.topics.for_reading, world.topics.get, world.topics.status):
        with pytest.raises(TopicNotFound):
            await verb(other, "sales")
    assert (await world.topics.list(other)).topics == []


async def test_a_granted_right_counts_at_once(world: World) -> None:
    """And its end, too: what is remembered for the hot path is forgotten."""
    maker, other = await world.somebody("maker"), await world.somebody("other")
    topic = await world.topics.create(maker, TopicDraft("sales"))

    await world.grant(other, "sales", Right.WRITE)
    assert await world.topics.for_writing(other, "sales") == topic
    await world.topics.for_writing(other, "sales")
    assert world.topics.writable(other, "sales") == topic
    with pytest.raises(Denied):
        await world.topics.for_reading(other, "sales")

    await world.grant(other, "sales", Right.READ)
    await world.directory.rights(other.account)  # what `watch` does twice a second
    assert world.topics.writable(other, "sales") is None
    with pytest.raises(Denied):
        await world.topics.for_writing(other, "sales")


async def test_the_hot_path_knows_nobody_at_first(world: World) -> None:
    """Only what `for_writing` allowed."""
    maker = await world.somebody("maker")
    await world.topics.create(maker, TopicDraft("sales"))

    assert world.topics.writable(maker, "sales") is None
    assert world.topics.writable(maker, "unknown") is None


async def test_a_first_event_makes_its_topic_once(world: World) -> None:
    """However many come at once."""
    maker = await world.somebody("maker")
    made = await asyncio.gather(*[world.topics.for_writing(maker, "new") for _ in range(20)])

    assert len({topic.id for topic in made}) == 1


@pytest.mark.parametrize(
    ("scopes", "limit", "error"),
    [
        ([Scope.EVENTS_WRITE], None, TopicNotFound),
        ([Scope.STREAMS_MANAGE], None, Denied),
        ([Scope.EVENTS_READ], None, Denied),
        ([Scope.EVENTS_WRITE, Scope.STREAMS_MANAGE], frozenset({"other"}), TopicNotFound),
    ],
)
async def test_a_first_event_makes_no_topic_without_the_scopes(
    world: World, scopes: list[Scope], limit: frozenset[str] | None, error: type[Exception]
) -> None:
    """Both to write and to manage, and the topic among those that the credential is for."""
    somebody = await world.somebody("somebody", *scopes, topics=limit)

    with pytest.raises(error):
        await world.topics.for_writing(somebody, "new")
    assert list(world.topics) == []


async def test_another_process_finds_a_topic_when_it_is_asked_for(world: World) -> None:
    """And does not make it twice."""
    maker = await world.somebody("maker")
    elsewhere = world.another()
    await elsewhere.open()
    made = await world.topics.create(maker, TopicDraft("sales"))

    assert await elsewhere.for_reading(maker, "sales") == made
    with pytest.raises(TopicExists):
        await elsewhere.create(maker, TopicDraft("sales"))


async def test_topics_are_there_after_a_restart(world: World) -> None:
    """With every setting."""
    maker = await world.somebody("maker")
    await world.topics.create(maker, TopicDraft("sales", schema=b'{"type":"object"}', retention_days=None, paused=True))
    changed = await world.topics.update(maker, "sales", TopicChanges(description="New", dedupe_window_s=0))

    again = world.another()
    await again.open()
    assert list(again) == [changed]


async def test_a_change_reaches_the_hot_path(world: World) -> None:
    """The deduplication window that was in force before is not used again."""
    maker = await world.somebody("maker")
    for _ in range(2):
        await world.topics.for_writing(maker, "sales")
    await world.topics.update(maker, "sales", TopicChanges(dedupe_window_s=5))

    for _ in range(2):
        await world.topics.for_writing(maker, "sales")
    topic = world.topics.writable(maker, "sales")
    assert topic is not None
    assert topic.dedupe_window_s == 5


async def test_a_dropped_topic_takes_its_events_and_rights_along(world: World) -> None:
    """A new one of that name is another topic."""
    maker, other = await world.somebody("maker"), await world.somebody("other")
    old = await world.topics.for_writing(maker, "sales")
    await world.storage.log.append(old.id, Drafts.of([Draft(0, "x", b"{}")]))
    await world.grant(other, "sales", Right.ADMIN)

    await world.topics.delete(maker, "sales")
    assert world.topics.writable(maker, "sales") is None
    new = await world.topics.for_writing(maker, "sales")
    assert new.id > old.id
    assert (await world.topics.status(maker, "sales")).events == 0
    with pytest.raises(TopicNotFound):
        await world.topics.for_reading(other, "sales")


async def test_a_topic_is_active_for_five_minutes(world: World) -> None:
    """After an event has come, whatever the event's own time says."""
    maker = await world.somebody("maker")
    topic = await world.topics.for_writing(maker, "sales")
    seen = [(await world.topics.status(maker, "sales")).activity]
    await world.storage.log.append(topic.id, Drafts.of([Draft(0, "x", b"{}")]))
    for seconds in (0, 299, 2):
        world.clock.advance(seconds)
        seen.append((await world.topics.status(maker, "sales")).activity)

    assert seen == [Activity.IDLE, Activity.ACTIVE, Activity.ACTIVE, Activity.IDLE]


@pytest.mark.parametrize(
    "wrong",
    [
        TopicDraft(""),
        TopicDraft("x" * 256),
        TopicDraft("a\x00"),
        TopicDraft("\ud800"),
        TopicDraft("x", retention_days=0),
        TopicDraft("x", dedupe_window_s=604_801),
        TopicDraft("x", description="x" * 2_001),
    ],
)
async def test_a_wrong_draft_is_refused(world: World, wrong: TopicDraft) -> None:
    """Nothing is made."""
    maker = await world.somebody("maker")

    with pytest.raises(Invalid):
        await world.topics.create(maker, wrong)
    assert list(world.topics) == []


async def test_an_administrator_sees_every_topic(world: World) -> None:
    """His account needs no grant, but his credential its scopes."""
    maker = await world.somebody("maker")
    await world.topics.create(maker, TopicDraft("sales"))
    reader = Principal(AccountId(8), "admin", "key_a", frozenset({Scope.EVENTS_READ}), Tier.UNLIMITED, is_admin=True)

    assert [topic.name for topic in (await world.topics.list(reader)).topics] == ["sales"]
    with pytest.raises(Denied):
        await world.topics.for_writing(reader, "sales")


async def test_the_oldest_go_when_a_topic_is_over_its_size(world: World) -> None:
    """`retention_bytes` counts what its sealed events take; the newest stay, and indexes never move."""
    maker = await world.somebody("maker")
    topic = await world.topics.create(maker, TopicDraft("big"))
    log = world.storage.log
    noise = random.Random(1)
    for _ in range(3):
        drafts = Drafts.of([Draft(1, "x", b'{"noise":"%s"}' % noise.randbytes(500_000).hex().encode())])
        await log.append(topic.id, drafts)
    await log.maintain()
    assert log.state(topic.id).first_idx == 0

    await world.topics.update(maker, "big", TopicChanges(retention_bytes=1 << 20))
    await log.maintain()
    state = log.state(topic.id)
    assert 0 < state.first_idx <= 2
    assert [row.idx for row in await log.read(topic.id, 0, 10)] == list(range(state.first_idx, 3))


async def test_a_topic_that_is_being_deleted_is_not_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is there until its events are gone; who looks in between must not bring it back."""
    maker = await world.somebody("maker")
    topic = await world.topics.create(maker, TopicDraft("sales"))
    drop = world.storage.log.drop

    async def looked_for_meanwhile(topic_id: TopicId) -> None:
        await drop(topic_id)
        with pytest.raises(TopicNotFound):
            await world.topics.by_id(topic.id)
        with pytest.raises(TopicNotFound):
            await world.topics.for_reading(maker, "sales")

    monkeypatch.setattr(world.storage.log, "drop", looked_for_meanwhile)
    await world.topics.delete(maker, "sales")

    assert "sales" not in world.topics
    assert (await world.topics.create(maker, TopicDraft("sales"))).id > topic.id


async def test_others_have_their_turn_while_a_schema_is_checked(world: World) -> None:
    """Even where all events are in memory, so that reading them waits for nothing."""
    maker = await world.somebody("maker")
    topic = await world.topics.create(maker, TopicDraft("sales"))
    await world.storage.log.append(topic.id, Drafts.of([Draft(0, "sale", b'{"price":"free"}')] * 2_000))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    check = await world.topics.check_schema(maker, "sales", b'{"properties":{"price":{"type":"number"}}}')
    waiting.cancel()

    assert (check.checked, check.broken, check.complete, len(check.examples)) == (2_000, 2_000, True, 10)
    assert turns > 1
