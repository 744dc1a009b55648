"""Messages: how they are counted, kept and given out, below any door."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.errors import Denied, Unavailable
from mainstem.events import (
    MessageExpired,
    MessageLimits,
    Messages,
    MessageTooLarge,
    NoMessages,
    NoSuchMessage,
    RangeTooLarge,
    Topic,
    TopicDraft,
    TopicNotFound,
    Topics,
)
from mainstem.identity import Directory, Principal, Scope, Tier
from mainstem.ids import TopicId
from mainstem.settings import Settings
from mainstem.storage import Draft, Drafts, Row, Storage, open_storage

DAY_S = 86_400
LIMITS = MessageLimits(message_bytes_max=100, range_messages_max=50, range_bytes_max=2_000)


class World:
    """Storage, topics and messages over it, and somebody who may do everything with his topic."""

    def __init__(self, storage: Storage, clock: FixedClock) -> None:
        self.storage = storage
        self.clock = clock
        self.directory = Directory(storage.records, clock, b"k" * 32, 3_600)
        self.topics = Topics(storage.records, storage.log, self.directory, clock)
        self.messages = Messages(storage.log, self.topics, self.directory, clock, LIMITS)

    async def somebody(self, name: str) -> Principal:
        account = await self.directory.create_account(name)
        return Principal(account.id, name, f"key_{name}", frozenset(Scope), Tier.STANDARD)

    async def event(self, topic: Topic, event_type: str, data: bytes, author: int = 0) -> None:
        """One that came through another door; by the topic's owner, unless somebody else is named."""
        await self.storage.log.append(
            topic.id, Drafts.of([Draft(self.clock(), event_type, data)], author or topic.owner)
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = FixedClock()
    async with open_storage(Settings(data=tmp_path / "data"), clock) as storage:
        yield World(storage, clock)


@pytest.fixture
async def alice(world: World) -> Principal:
    return await world.somebody("alice")


@pytest.fixture
async def topic(world: World, alice: Principal) -> Topic:
    return await world.topics.create(alice, TopicDraft("numbers", retention_days=1))


async def texts(world: World, alice: Principal, topic: Topic, first: int, last: int) -> list[str]:
    return [message.text for message in (await world.messages.pull_range(alice, topic.id, first, last)).messages]


async def test_what_is_past_retention_keeps_its_number(world: World, alice: Principal, topic: Topic) -> None:
    """The count goes on; what is gone is told as expired, and random draws from what is kept."""
    for number in range(10):
        await world.messages.push(alice, topic.id, str(number))
    world.clock.advance(2 * DAY_S)
    for number in range(10, 13):
        await world.messages.push(alice, topic.id, str(number))
    await world.storage.log.maintain()

    assert (await world.messages.status(alice, topic.id)).count == 13
    assert await texts(world, alice, topic, 10, -1) == ["10", "11", "12"]
    for place in (0, 9, -13, -4):
        with pytest.raises(MessageExpired):
            await world.messages.pull(alice, topic.id, place)
    for first, last in ((0, 12), (9, 10), (3, 4)):
        with pytest.raises(MessageExpired):
            await world.messages.pull_range(alice, topic.id, first, last)
    with pytest.raises(NoSuchMessage):
        await world.messages.pull(alice, topic.id, 13)
    drawn = {(await world.messages.pull_random(alice, topic.id)).messages[0].index for _ in range(100)}
    assert drawn == {10, 11, 12}


async def test_when_all_is_gone_there_is_nothing_to_draw_from(world: World, alice: Principal, topic: Topic) -> None:
    await world.messages.push(alice, topic.id, "a")
    world.clock.advance(2 * DAY_S)
    await world.storage.log.maintain()

    with pytest.raises(NoMessages):
        await world.messages.pull_random(alice, topic.id)
    assert (await world.messages.push(alice, topic.id, "b"))[1].index == 1


@pytest.mark.parametrize(
    ("event_type", "data", "text"),
    [
        ("order", b'{ "b": 1.50,\n "a": [1, {"c": "\xc3\xa9"}] }', '{"b":1.50,"a":[1,{"c":"é"}]}'),
        ("order", b"{}", "{}"),
        ("order", b'{"n":123456789012345678901234567890}', '{"n":123456789012345678901234567890}'),
        (
            "order",
            b'{"message":"m","author_id":9,"author_name":"n"}',
            '{"message":"m","author_id":9,"author_name":"n"}',
        ),
        ("evernest.message", b'{"message":"m"}', '{"message":"m"}'),
        ("evernest.message", b'{"message":5,"author_id":9,"author_name":"n"}', None),
        ("evernest.message", b'{"message":"m","author_id":9,"author_name":"n","more":1}', None),
        ("evernest.message", b'{"message":"\\ud800","author_id":9,"author_name":"n"}', None),
    ],
)
async def test_an_event_of_another_shape_is_its_data_as_compact_json(
    world: World, alice: Principal, topic: Topic, event_type: str, data: bytes, text: str | None
) -> None:
    """Members in the order that they were sent in, numbers to the digit; by whoever sent it."""
    await world.event(topic, event_type, data)

    [message] = (await world.messages.pull(alice, topic.id, 0)).messages

    assert message.text == (data.decode() if text is None else text)
    assert (message.author, message.author_name, message.ts_us) == (alice.account, "alice", world.clock())


async def test_nobody_writes_in_anothers_name(world: World, alice: Principal, topic: Topic) -> None:
    """A message that came through another door is a message, of the account that sent it, whatever its data says."""
    mallory = await world.directory.create_account("mallory")
    forged = b'{"message":"m","author_id":%d,"author_name":"alice"}' % alice.account
    await world.event(topic, "evernest.message", forged, mallory.id)

    [message] = (await world.messages.pull(alice, topic.id, 0)).messages

    assert (message.text, message.author, message.author_name) == ("m", mallory.id, "mallory")


async def test_a_message_is_measured_in_bytes(world: World, alice: Principal, topic: Topic) -> None:
    await world.messages.push(alice, topic.id, "é" * 50)
    with pytest.raises(MessageTooLarge):
        await world.messages.push(alice, topic.id, "é" * 51)
    assert (await world.messages.status(alice, topic.id)).count == 1


async def test_a_range_is_given_whole_or_refused(world: World, alice: Principal, topic: Topic) -> None:
    """By its count and by its bytes."""
    for _ in range(51):
        await world.event(topic, "a", b"{}")
    assert len(await texts(world, alice, topic, 0, 49)) == 50
    with pytest.raises(RangeTooLarge, match="50 events"):
        await world.messages.pull_range(alice, topic.id, 0, 50)
    for _ in range(3):
        await world.event(topic, "a", b'{"t":"%b"}' % (b"x" * 900))
    assert len(await texts(world, alice, topic, 51, 52)) == 2
    with pytest.raises(RangeTooLarge, match="2,000 bytes"):
        await world.messages.pull_range(alice, topic.id, 51, 53)


async def test_a_gap_is_told_and_never_given_for_the_whole(
    world: World, alice: Principal, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log leaves out what lies in a damaged segment."""
    for number in range(5):
        await world.messages.push(alice, topic.id, str(number))
    read = world.storage.log.read

    async def damaged(topic_id: TopicId, first_idx: int, count: int) -> list[Row]:
        return [row for row in await read(topic_id, first_idx, count) if row.idx != 2]

    monkeypatch.setattr(world.storage.log, "read", damaged)
    for first, last in ((0, 4), (2, 4), (0, 2), (2, 2)):
        with pytest.raises(Unavailable):
            await world.messages.pull_range(alice, topic.id, first, last)
    assert await texts(world, alice, topic, 3, 4) == ["3", "4"]


async def test_who_may_not_is_denied_and_what_is_not_there_is_not_found(world: World, topic: Topic) -> None:
    """Numbers are given in turn, so that there is such a topic is no secret."""
    stranger = await world.somebody("stranger")
    verbs: list[Callable[[TopicId], Awaitable[object]]] = [
        lambda number: world.messages.status(stranger, number),
        lambda number: world.messages.pull(stranger, number, 0),
        lambda number: world.messages.pull_range(stranger, number, 0, 0),
        lambda number: world.messages.pull_random(stranger, number),
        lambda number: world.messages.push(stranger, number, "a"),
    ]
    for verb in verbs:
        with pytest.raises(Denied):
            await verb(topic.id)
        with pytest.raises(TopicNotFound):
            await verb(TopicId(topic.id + 1))
