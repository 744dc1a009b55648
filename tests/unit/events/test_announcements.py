"""Announcements: with the row or not at all, in order, once, in topics that are nobody's to make."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from logs import kept
from mainstem.clock import system_clock
from mainstem.errors import Invalid
from mainstem.events import Announcement, Announcer, TopicDraft, TopicNotFound, Topics, announce
from mainstem.identity import OPERATOR, Directory, Principal, Right, Scope, Tier
from mainstem.settings import Settings
from mainstem.storage import Draft, Drafts, Row, Storage, open_storage
from mainstem.work import Queue
from waiting import PATIENCE_S

TOPIC = "mainstem.listings"


class World:
    """Storage with an administrator, and what is announced on it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.queue = Queue(storage.records, system_clock)
        self.directory = Directory(storage.records, system_clock, b"k" * 32, 3_600)
        self.topics = Topics(storage.records, storage.log, self.directory, system_clock)

    async def tell(self, *announcements: Announcement) -> None:
        async with self.storage.records.begin() as tx:
            await announce(tx, self.queue, *announcements)

    async def told(self, name: str = TOPIC) -> list[Row]:
        """What is in the topic once nothing is left to be announced."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.queue.depth("announce"):  # noqa: ASYNC110  # the rows tell, and rows have no event
                await asyncio.sleep(0.01)
        return await kept(self.storage.log, (await self.topics.own(name)).id)

    @asynccontextmanager
    async def announcing(self) -> AsyncIterator[None]:
        running = asyncio.create_task(Announcer(self.queue, self.storage.log, self.topics).run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_storage(Settings(data=tmp_path / "data"), system_clock) as storage:
        made = World(storage)
        await made.directory.create_account("admin", is_admin=True)
        yield made


def listing(number: int, topic: str = TOPIC) -> Announcement:
    return Announcement(topic, "listing.created", {"id": number, "name": "é"}, f"listing-{number}", number)


async def test_what_was_announced_becomes_an_event(world: World) -> None:
    async with world.announcing():
        await world.tell(listing(7))
        (event,) = await world.told()

    assert (event.event_type, event.ts_us, event.event_id) == ("listing.created", 7, "listing-7")
    assert event.data == '{"id":7,"name":"é"}'.encode()
    assert event.author == 0


async def test_what_was_rolled_back_is_not_told(world: World) -> None:
    async def change_and_fail() -> None:
        async with world.storage.records.begin() as tx:
            await announce(tx, world.queue, listing(1))
            raise RuntimeError

    async with world.announcing():
        with pytest.raises(RuntimeError):
            await change_and_fail()
        await world.tell(listing(2))

        assert [row.event_id for row in await world.told()] == ["listing-2"]


async def test_events_come_in_the_order_of_the_changes(world: World) -> None:
    await world.tell(*map(listing, range(20)))
    async with world.announcing():
        for number in range(20, 60, 2):
            await world.tell(listing(number), listing(number + 1))

        assert [row.ts_us for row in await world.told()] == list(range(60))


async def test_topics_are_told_apart(world: World) -> None:
    other = "mainstem.transcodes"
    async with world.announcing():
        await world.tell(listing(1), listing(2, other), listing(3), listing(4, other))

        assert [row.ts_us for row in await world.told()] == [1, 3]
        assert [row.ts_us for row in await world.told(other)] == [2, 4]


async def test_what_a_crash_left_unfinished_is_told_once(world: World) -> None:
    """An announcer dies after it has appended and before it has said so; meanwhile more is announced."""
    await world.tell(listing(1), listing(2))
    (held,) = await world.queue.lease(["announce"], lease_s=3_600)
    topic = await world.topics.own(TOPIC)
    await world.storage.log.append(topic.id, Drafts.of([Draft(1, "t", b"{}", event_id="listing-1")]), dedupe_window_s=9)
    await world.tell(listing(3))

    async with world.announcing():
        told = await world.told()

    assert [row.event_id for row in told] == ["listing-1", "listing-2", "listing-3"]
    assert await world.queue.held([held]) == set()


async def test_many_announcements_of_one_change_are_told(world: World) -> None:
    """More than one task may hold."""
    large = [Announcement(TOPIC, "t", {"text": "x" * 60_000}, f"large-{number}", number) for number in range(9)]
    async with world.announcing():
        await world.tell(*large)

        assert [row.ts_us for row in await world.told()] == list(range(9))


async def test_one_that_is_too_large_is_refused_with_the_change(world: World) -> None:
    with pytest.raises(Invalid, match="bytes"):
        await world.tell(Announcement(TOPIC, "t", {"text": "x" * 300_000}, "large", 1))


async def test_one_that_cannot_be_read_keeps_no_other_waiting(world: World) -> None:
    async with world.storage.records.begin() as tx:
        await world.queue.put(tx, "announce", b"of another version")
    async with world.announcing():
        await world.tell(listing(1))

        assert [row.ts_us for row in await world.told()] == [1]
    assert [parked.kind for parked in await world.queue.parked()] == ["announce"]


async def test_the_first_administrator_owns_the_topic(world: World) -> None:
    second = await world.directory.create_account("second", is_admin=True)
    async with world.announcing():
        await world.tell(listing(1))
        await world.told()

    topic = await world.topics.own(TOPIC)
    assert topic.owner < second.id
    assert (await world.directory.rights(topic.owner))[topic.id] == Right.ADMIN


async def test_an_owner_that_deletes_the_topic_gets_a_new_one(world: World) -> None:
    async with world.announcing():
        await world.tell(listing(1))
        await world.told()
        await world.topics.delete(OPERATOR, TOPIC)
        await world.tell(listing(2))

        assert [row.ts_us for row in await world.told()] == [2]


async def test_nobody_else_makes_a_topic_of_such_a_name(world: World) -> None:
    """He would read what is announced in it."""
    account = await world.directory.create_account("mallory")
    mallory = Principal(account.id, "mallory", "key_m", frozenset(Scope), Tier.STANDARD)

    with pytest.raises(Invalid, match="server's own"):
        await world.topics.create(mallory, TopicDraft(TOPIC))
    with pytest.raises(Invalid, match="server's own"):
        await world.topics.for_writing(mallory, "mainstem.anything")

    await world.topics.own(TOPIC)
    with pytest.raises(TopicNotFound):
        await world.topics.for_reading(mallory, TOPIC)
