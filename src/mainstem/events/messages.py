"""Topics as lists of messages that are counted from 0: pushed one at a time, pulled by their numbers."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from mainstem.clock import Clock
from mainstem.errors import Invalid, Unavailable
from mainstem.events.model import Topic
from mainstem.events.schemas import SchemaViolation, compiled
from mainstem.events.topics import Topics
from mainstem.identity import Action, Directory, Principal
from mainstem.ids import AccountId, TopicId
from mainstem.storage import Draft, Log, Receipt, Row

MESSAGE_TYPE = "evernest.message"

_READ_FIRST = 16
_READ_AT_ONCE = 1_000
_READ_BYTES = 1 << 20
_OFF_LOOP_ROWS = 500


class Message(msgspec.Struct, frozen=True, gc=False):
    """An event as somebody who asks for messages sees it."""

    index: int
    text: str
    """What was pushed; of an event that came another way, its data as JSON text."""
    ts_us: int
    author: AccountId
    author_name: str


class Pulled(msgspec.Struct, frozen=True):
    """Messages of one topic, by rising index."""

    topic: Topic
    messages: Sequence[Message]


class MessageStatus(msgspec.Struct, frozen=True):
    topic: Topic
    count: int
    """How many it ever got: the index of the last is one less."""


class MessageLimits(msgspec.Struct, frozen=True):
    message_bytes_max: int = 1 << 20
    """In UTF-8."""
    range_messages_max: int = 10_000
    range_bytes_max: int = 64 << 20
    """Of all events of a range, as they are kept."""


class NoSuchMessage(Invalid):
    """The topic has no message of this index, or the range ends before it begins."""


class MessageExpired(Invalid):
    """The message was there, but is past its topic's retention."""


class RangeTooLarge(Invalid):
    """More messages, or bytes, than one answer holds."""


class NoMessages(Invalid):
    """The topic has no message to choose from."""


class MessageTooLarge(Invalid):
    """The message is over its limit."""


class _Pushed(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What is kept of a message, as data of an event."""

    message: str
    author_id: AccountId
    author_name: str


_decode_pushed = msgspec.json.Decoder(_Pushed).decode
_encode = msgspec.json.Encoder().encode

type Answered = Callable[[Topic, Message | Exception], None]


class Messages:
    """Takes messages from those who may write and gives them to those who may read.

    Topics are named by number here, and all verbs raise TopicNotFound or Denied first.
    """

    def __init__(
        self, log: Log, topics: Topics, directory: Directory, clock: Clock, limits: MessageLimits | None = None
    ) -> None:
        self._log = log
        self._topics = topics
        self._directory = directory
        self._clock = clock
        self._limits = limits or MessageLimits()

    # In

    def submit(self, principal: Principal, topic_id: TopicId, text: str, answered: Answered) -> bool:
        """The hot path: no I/O before the log. False, and nothing is done, when it needs the long way (`push`)."""
        topic = self._topics.writable_by_id(principal, topic_id)
        if topic is None or len(text) * 4 > self._limits.message_bytes_max:
            return False
        self._submit(principal, topic, text, answered)
        return True

    async def push(self, principal: Principal, topic_id: TopicId, text: str) -> tuple[Topic, Message]:
        """Store a message; it is durable and readable on return. Raises MessageTooLarge, Unavailable."""
        topic = await self._topics.by_id_for(principal, Action.WRITE, topic_id)
        if len(text.encode()) > self._limits.message_bytes_max:
            raise MessageTooLarge(f"A message has at most {self._limits.message_bytes_max:,} bytes: send less.")
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def answered(_: Topic, result: Message | Exception) -> None:
            if done.cancelled():
                return
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)

        self._submit(principal, topic, text, answered)
        return topic, await done

    def _submit(self, principal: Principal, topic: Topic, text: str, answered: Answered) -> None:
        ts_us = self._clock()
        account, name = principal.account, principal.name

        def done(result: Receipt | Exception) -> None:
            if isinstance(result, Receipt):
                answered(topic, Message(result.first_idx, text, ts_us, account, name))
            else:
                answered(topic, result)

        data = _encode(_Pushed(text, account, name))
        if topic.schema is not None and (error := compiled(topic.schema).error(data, 0)) is not None:
            answered(topic, SchemaViolation([error], 1))
            return
        self._log.submit(topic.id, Draft(ts_us, MESSAGE_TYPE, data, b"", "", account), 0, done)

    # Out

    async def status(self, principal: Principal, topic_id: TopicId) -> MessageStatus:
        topic = await self._topics.by_id_for(principal, Action.READ, topic_id)
        return MessageStatus(topic, self._log.state(topic.id).next_idx)

    async def pull(self, principal: Principal, topic_id: TopicId, index: int) -> Pulled:
        """One message; a negative index counts from the end: -1 is the last. Raises NoSuchMessage, MessageExpired."""
        topic = await self._topics.by_id_for(principal, Action.READ, topic_id)
        state = self._log.state(topic.id)
        place = _resolve(index, state.next_idx)
        if place is None:
            raise NoSuchMessage(f"Stream {topic_id} has no event {index}.")
        return await self._read(topic, place, 1)

    async def pull_range(self, principal: Principal, topic_id: TopicId, first: int, last: int) -> Pulled:
        """The messages from `first` to `last`, both included; negative indexes count from the end.

        Raises NoSuchMessage, MessageExpired when the first is gone, RangeTooLarge.
        """
        topic = await self._topics.by_id_for(principal, Action.READ, topic_id)
        count = self._log.state(topic.id).next_idx
        begin, end = _resolve(first, count), _resolve(last, count)
        if begin is None or end is None or begin > end:
            raise NoSuchMessage(f"Stream {topic_id} has no events from {first} to {last}.")
        if end - begin >= self._limits.range_messages_max:
            raise RangeTooLarge(
                f"A range has at most {self._limits.range_messages_max:,} events: ask for it in pieces.",
                limit=self._limits.range_messages_max,
            )
        return await self._read(topic, begin, end - begin + 1)

    async def pull_random(self, principal: Principal, topic_id: TopicId) -> Pulled:
        """Any message that is kept, each as likely as the others. Raises NoMessages."""
        topic = await self._topics.by_id_for(principal, Action.READ, topic_id)
        while True:
            state = self._log.state(topic.id)
            if state.first_idx == state.next_idx:
                raise NoMessages("Empty stream")
            try:
                return await self._read(topic, state.first_idx + secrets.randbelow(state.next_idx - state.first_idx), 1)
            except MessageExpired:
                continue  # in this very moment

    async def _read(self, topic: Topic, first: int, count: int) -> Pulled:
        """Exactly these: never fewer in silence."""
        rows: list[Row] = []
        size = 0
        while len(rows) < count:
            # As many at once as are about a megabyte: they may be tiny, and they may be huge.
            fitting = _READ_BYTES * len(rows) // max(size, 1) if rows else _READ_FIRST
            wanted = min(count - len(rows), max(fitting, 1), _READ_AT_ONCE)
            piece = await self._log.read(topic.id, first + len(rows), wanted)
            if not piece or piece[0].idx != first + len(rows) or piece[-1].idx - piece[0].idx != len(piece) - 1:
                raise self._missing(topic, first)
            rows += piece
            size += sum(len(row.data) for row in piece)
            if size > self._limits.range_bytes_max:
                raise RangeTooLarge(
                    f"A range has at most {self._limits.range_bytes_max:,} bytes: ask for it in pieces.",
                    limit=self._limits.range_bytes_max,
                )
        names = {author: await self._name_of(author) for author in {row.author for row in rows}}
        if count > _OFF_LOOP_ROWS:
            return Pulled(topic, await asyncio.to_thread(_messages, rows, names))
        return Pulled(topic, _messages(rows, names))

    async def _name_of(self, author: int) -> str:
        """Empty where nobody sent it: the server itself."""
        return await self._directory.name_of(AccountId(author)) if author else ""

    def _missing(self, topic: Topic, first: int) -> Exception:
        if first < self._log.state(topic.id).first_idx:
            return MessageExpired(f"Event {first} of stream {topic.id} is past the stream's retention.", event=first)
        return Unavailable(
            f"Events of stream {topic.id} cannot be read: their segment is damaged, and the operator knows."
        )


def _resolve(index: int, count: int) -> int | None:
    """The index itself, counted from the start; None when there is no such."""
    place = index + count if index < 0 else index
    return place if 0 <= place < count else None


def _messages(rows: Sequence[Row], names: Mapping[int, str]) -> list[Message]:
    return [_message(row, names) for row in rows]


def _message(row: Row, names: Mapping[int, str]) -> Message:
    """An event that came through another door is its data as compact JSON. Its author is whoever's credential sent it,
    whatever the data says."""
    text = None
    if row.event_type == MESSAGE_TYPE:
        with suppress(msgspec.DecodeError):  # else it is somebody else's idea of a message
            text = _decode_pushed(row.data).message
    return Message(
        row.idx, _compact(row.data) if text is None else text, row.ts_us, AccountId(row.author), names[row.author]
    )


def _compact(data: bytes) -> str:
    try:
        return msgspec.json.format(data, indent=-1).decode()
    except (msgspec.DecodeError, RecursionError):
        return data.decode()
