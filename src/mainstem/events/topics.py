"""Topics: made, found, changed and dropped, each by somebody who may."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Denied, Invalid, NotFound
from mainstem.events import tables
from mainstem.events.model import (
    DEDUPE_WINDOW_S_MAX,
    DESCRIPTION_CHARACTERS_MAX,
    RETENTION_BYTES_MIN,
    RETENTION_DAYS_MAX,
    SCHEMA_BYTES_MAX,
    Activity,
    EventError,
    SchemaCheck,
    Topic,
    TopicChanges,
    TopicDefaults,
    TopicDraft,
    TopicExists,
    TopicNotFound,
    TopicPage,
    TopicStatus,
    check_new_topic_name,
)
from mainstem.events.schemas import Schema, compiled
from mainstem.identity import Action, Directory, Principal, Right, Scope, Verdict, decide, require
from mainstem.ids import AccountId, TopicId
from mainstem.storage import Log, Records, Row

ACTIVE_WITHIN_S = 300
_WRITERS_REMEMBERED = 100_000
_SCHEMA_CHECK_S = 2.0
_EVENTS_CHECKED_AT_ONCE = 256
_BROKEN_EVENTS_TOLD = 10


class Topics:
    """All topics, known by name in memory, kept in Records.

    A topic that another process made is found when it is first asked for.
    """

    def __init__(
        self, records: Records, log: Log, directory: Directory, clock: Clock, defaults: TopicDefaults | None = None
    ) -> None:
        self._records = records
        self._log = log
        self._directory = directory
        self._clock = clock
        self._defaults = defaults or TopicDefaults()
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[TopicId, Topic] = {}
        self._gone: set[TopicId] = set()  # deleted, though somebody may have read the row just before
        self._changing = asyncio.Lock()
        self._writable: dict[tuple[str, str], Topic] = {}
        self._writable_epoch = -1

    async def open(self) -> None:
        """Load every topic and tell the log how long each keeps its events."""
        async with self._records.read() as rows:
            for row in await rows.execute(select(tables.topics)):
                self._remember(Topic(**row._mapping))

    # To write and to read

    def writable(self, principal: Principal, name: str) -> Topic | None:
        """The topic when it is already known that this principal may write to it; else ask `for_writing`.

        Costs no I/O. The answer holds until an account, key or grant changes.
        """
        if self._writable_epoch != self._directory.epoch:
            self._writable.clear()
            self._writable_epoch = self._directory.epoch
        return self._writable.get((principal.credential, name))

    async def for_writing(self, principal: Principal, name: str) -> Topic:
        """The topic, made on the spot when there is none and the credential may make topics.

        Raises Denied without the scope or right to write, TopicNotFound when it may not even know of the topic.
        """
        epoch = self._directory.epoch
        topic = await self._find(name)
        if topic is None:
            topic = await self._create_by_first_event(principal, name)
        _require(principal, Action.WRITE, name, await self._right(principal, topic))
        self._remember_writer(principal, topic, epoch)
        return topic

    async def for_reading(self, principal: Principal, name: str) -> Topic:
        """Raises Denied without the scope or right to read, TopicNotFound when it may not even know of the topic."""
        return await self._for(principal, Action.READ, name)

    async def for_managing(self, principal: Principal, name: str) -> Topic:
        """Raises Denied without the scope or right to manage, TopicNotFound when it may not even know of the topic."""
        return await self._for(principal, Action.MANAGE, name)

    # By number. Numbers are given out in turn, so that there is such a topic is no secret; what is in it is.

    def writable_by_id(self, principal: Principal, topic_id: TopicId) -> Topic | None:
        """`writable` for a topic by its number; else ask `by_id_for`."""
        topic = self._by_id.get(topic_id)
        return None if topic is None else self.writable(principal, topic.name)

    async def by_id(self, topic_id: TopicId) -> Topic:
        """Raises TopicNotFound."""
        topic = self._by_id.get(topic_id)
        if topic is None:
            async with self._records.read() as rows:
                row = (await rows.execute(select(tables.topics).where(tables.topics.c.id == topic_id))).one_or_none()
            if row is None or topic_id in self._gone:
                raise TopicNotFound(str(topic_id))
            topic = Topic(**row._mapping)
            self._remember(topic)
        return topic

    async def by_id_for(self, principal: Principal, action: Action, topic_id: TopicId) -> Topic:
        """The topic, for somebody who may do this. Raises TopicNotFound when there is none, else Denied."""
        epoch = self._directory.epoch
        topic = await self.by_id(topic_id)
        verdict = decide(principal, action, topic.name, await self._right(principal, topic))
        if verdict is not Verdict.ALLOW:
            raise Denied(
                f"You may not {action} stream {topic_id}: ask somebody who manages it for the right.",
                topic=topic_id,
                right=str(action),
            )
        if action is Action.WRITE:
            self._remember_writer(principal, topic, epoch)
        return topic

    # To manage

    async def create(self, principal: Principal, draft: TopicDraft) -> Topic:
        """Make a topic whose creator has every right on it. Raises TopicExists, Invalid, Denied."""
        _check(draft)
        if decide(principal, Action.CREATE, draft.name, Right.NONE) is Verdict.HIDE:
            raise Denied("This credential is limited to other streams; use one that is not", stream_id=draft.name)
        _require(principal, Action.CREATE, draft.name, Right.NONE)
        async with self._changing:
            if await self._find(draft.name) is not None:
                raise TopicExists(draft.name)
            topic = await self._insert(principal.account, draft)
        if topic is None:
            raise TopicExists(draft.name)
        return topic

    async def get(self, principal: Principal, name: str) -> Topic:
        """What a topic is like, for those who may read or manage it."""
        topic = await self._known(name)
        right = await self._right(principal, topic)
        if not _is_visible(principal, name, right):
            _require(principal, Action.READ, name, right)
        return topic

    async def list(self, principal: Principal, *, limit: int = 100, from_name: str = "") -> TopicPage:
        """Topics that this principal may read or manage, by name. Raises Denied when its credential is for neither."""
        if not principal.scopes & {Scope.EVENTS_READ, Scope.STREAMS_MANAGE}:
            raise Denied("This credential lacks the scope `events:read`: use one that has it.", scope="events:read")
        rights = None if principal.is_admin else await self._directory.rights(principal.account)
        page: list[Topic] = []
        for name, topic in sorted((topic.name, topic) for topic in self if rights is None or topic.id in rights):
            right = Right.ADMIN if rights is None else rights[topic.id]
            if name < from_name or not _is_visible(principal, name, right):
                continue
            if len(page) == limit:
                return TopicPage(page, name)
            page.append(topic)
        return TopicPage(page, None)

    async def update(self, principal: Principal, name: str, changes: TopicChanges, *, dry_run: bool = False) -> Topic:
        """Change what is set in `changes`; the topic as it is afterwards, or with `dry_run` as it would be."""
        _check(changes)
        values = {
            field: value for field, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET
        }
        async with self._changing:
            topic = await self._for(principal, Action.MANAGE, name)
            if dry_run:
                return msgspec.structs.replace(topic, **values)
            if values:
                async with self._records.begin() as tx:
                    await tx.execute(update(tables.topics).where(tables.topics.c.id == topic.id).values(**values))
                topic = msgspec.structs.replace(topic, **values)
                self._remember(topic)
                self._writable.clear()
        return topic

    async def check_schema(self, principal: Principal, name: str, text: bytes) -> SchemaCheck:
        """Hold a schema against the events that a topic keeps, the newest first, for two seconds at most.

        For those who may change it. Raises InvalidSchema.
        """
        topic = await self._for(principal, Action.MANAGE, name)
        schema = compiled(text)
        state = self._log.state(topic.id)
        checked, broken, examples = 0, 0, list[EventError]()
        until = time.monotonic() + _SCHEMA_CHECK_S
        end = state.next_idx
        while end > state.first_idx and time.monotonic() < until:
            begin = max(state.first_idx, end - _EVENTS_CHECKED_AT_ONCE)
            rows = await self._log.read(topic.id, begin, end - begin)
            errors = await asyncio.to_thread(_broken, schema, rows)
            broken += len(errors)
            examples += errors[: _BROKEN_EVENTS_TOLD - len(examples)]
            checked += len(rows)
            end = begin
        return SchemaCheck(checked, broken, end <= state.first_idx, examples)

    async def delete(self, principal: Principal, name: str) -> None:
        """Drop a topic with its events and everybody's rights on it, for good.

        The events go before the row: after a crash in between there is an empty topic that can be deleted again,
        and not events that nobody can name.
        """
        async with self._changing:
            topic = await self._for(principal, Action.MANAGE, name)
            del self._by_name[name], self._by_id[topic.id]
            self._gone.add(topic.id)
            self._writable.clear()
            try:
                await self._log.drop(topic.id)
                async with self._records.begin() as tx:
                    await self._directory.forget_topic(tx, topic.id)
                    await tx.execute(delete(tables.topics).where(tables.topics.c.id == topic.id))
            except BaseException:
                self._gone.discard(topic.id)
                self._by_name[name] = self._by_id[topic.id] = topic
                raise

    async def status(self, principal: Principal, name: str) -> TopicStatus:
        topic = await self.get(principal, name)
        state = self._log.state(topic.id)
        return TopicStatus(
            name=topic.name,
            activity=_activity(topic, state.last_arrived_us, self._clock()),
            events=state.next_idx,
            rate_per_s=state.rate_per_s,
            last_ts_us=state.last_ts_us,
            lag_s=0.0,
        )

    async def own(self, name: str) -> Topic:
        """The server's own topic of this name, made at first use; the first administrator owns it.

        Raises Unavailable while there is no administrator.
        """
        topic = await self._find(name)
        if topic is None:
            owner = await self._directory.first_administrator()
            async with self._changing:
                topic = await self._find(name) or await self._insert(owner, TopicDraft(name))
        return topic or await self._known(name)

    def __iter__(self) -> Iterator[Topic]:
        """Every topic there is, for the server itself; a principal asks `list`."""
        return iter(list(self._by_name.values()))

    def __contains__(self, name: str) -> bool:
        """Whether there is such a topic, for the server itself."""
        return name in self._by_name

    # Within

    async def _create_by_first_event(self, principal: Principal, name: str) -> Topic:
        check_new_topic_name(name)
        _require(principal, Action.WRITE, name, Right.ADMIN)  # what its maker would have
        if decide(principal, Action.CREATE, name, Right.NONE) is not Verdict.ALLOW:
            raise TopicNotFound(name)
        async with self._changing:  # a hundred first events at once make one topic
            topic = await self._find(name) or await self._insert(principal.account, TopicDraft(name))
        return topic or await self._known(name)

    async def _insert(self, owner: AccountId, draft: TopicDraft) -> Topic | None:
        """The new topic, or None when another process was quicker."""
        defaults = self._defaults
        values: dict[str, Any] = {
            "name": draft.name,
            "description": draft.description,
            "schema": draft.schema,
            "retention_days": defaults.retention_days
            if draft.retention_days is msgspec.UNSET
            else draft.retention_days,
            "retention_bytes": draft.retention_bytes,
            "dedupe_window_s": (
                defaults.dedupe_window_s if draft.dedupe_window_s is msgspec.UNSET else draft.dedupe_window_s
            ),
            "paused": draft.paused,
            "created_us": self._clock(),
            "owner": owner,
        }
        try:
            async with self._records.begin() as tx:
                topic_id = await _insert_row(tx, values)
                await self._directory.grant(tx, owner, topic_id, Right.ADMIN)
        except IntegrityError:
            return None
        topic = Topic(id=topic_id, **values)
        self._remember(topic)
        return topic

    async def _for(self, principal: Principal, action: Action, name: str) -> Topic:
        topic = await self._known(name)
        _require(principal, action, name, await self._right(principal, topic))
        return topic

    async def _known(self, name: str) -> Topic:
        topic = await self._find(name)
        if topic is None:
            raise TopicNotFound(name)
        return topic

    async def _find(self, name: str) -> Topic | None:
        topic = self._by_name.get(name)
        if topic is None:
            async with self._records.read() as rows:
                row = (await rows.execute(select(tables.topics).where(tables.topics.c.name == name))).one_or_none()
            if row is not None and row.id not in self._gone:
                topic = Topic(**row._mapping)
                self._remember(topic)
        return topic

    async def _right(self, principal: Principal, topic: Topic) -> Right:
        return await self._directory.right_on(principal, topic.id)

    def _remember(self, topic: Topic) -> None:
        self._by_name[topic.name] = self._by_id[topic.id] = topic
        age_s = None if topic.retention_days is None else topic.retention_days * 86_400.0
        self._log.retain(topic.id, age_s, topic.retention_bytes)

    def _remember_writer(self, principal: Principal, topic: Topic, epoch: int) -> None:
        """Unless a right, or the topic, changed while we looked."""
        if epoch != self._directory.epoch or self._by_name.get(topic.name) is not topic:
            return
        self.writable(principal, topic.name)  # drops what an older epoch left
        if len(self._writable) >= _WRITERS_REMEMBERED:
            self._writable.clear()
        self._writable[principal.credential, topic.name] = topic


async def _insert_row(tx: AsyncConnection, values: dict[str, Any]) -> TopicId:
    result = await tx.execute(insert(tables.topics).values(**values).returning(tables.topics.c.id))
    return TopicId(result.scalar_one())


def _require(principal: Principal, action: Action, name: str, right: Right) -> None:
    try:
        require(principal, action, name, right)
    except NotFound as error:
        raise TopicNotFound(name) from error


def _is_visible(principal: Principal, name: str, right: Right) -> bool:
    """Whether he may see its settings: whoever reads or manages it may."""
    return any(decide(principal, action, name, right) is Verdict.ALLOW for action in (Action.READ, Action.MANAGE))


def _broken(schema: Schema, rows: Sequence[Row]) -> list[EventError]:
    """What a schema holds against events, the newest first. Takes long enough for a thread of its own."""
    unfit = (row for row in reversed(rows) if not schema.allows(row.data))
    return [error for row in unfit if (error := schema.error(row.data, row.seq)) is not None]


def _activity(topic: Topic, last_arrived_us: int | None, now_us: int) -> Activity:
    if topic.paused:
        return Activity.PAUSED
    if last_arrived_us is not None and now_us - last_arrived_us < ACTIVE_WITHIN_S * SECOND_US:
        return Activity.ACTIVE
    return Activity.IDLE


def _check(wanted: TopicDraft | TopicChanges) -> None:
    if isinstance(wanted, TopicDraft):
        check_new_topic_name(wanted.name)
    if isinstance(wanted.description, str) and len(wanted.description) > DESCRIPTION_CHARACTERS_MAX:
        raise Invalid(f"A description has at most {DESCRIPTION_CHARACTERS_MAX} characters", field="description")
    if isinstance(wanted.schema, bytes) and len(wanted.schema) > SCHEMA_BYTES_MAX:
        raise Invalid(f"A schema has at most {SCHEMA_BYTES_MAX} bytes", field="schema")
    if isinstance(wanted.schema, bytes):
        compiled(wanted.schema)
    if isinstance(wanted.retention_days, int) and not 1 <= wanted.retention_days <= RETENTION_DAYS_MAX:
        raise Invalid(f"retention_days is 1 to {RETENTION_DAYS_MAX}, or null for ever", field="retention_days")
    if isinstance(wanted.retention_bytes, int) and wanted.retention_bytes < RETENTION_BYTES_MIN:
        raise Invalid(f"retention_bytes is {RETENTION_BYTES_MIN} or more, or null for all", field="retention_bytes")
    if isinstance(wanted.dedupe_window_s, int) and not 0 <= wanted.dedupe_window_s <= DEDUPE_WINDOW_S_MAX:
        raise Invalid(f"dedupe_window_s is 0 to {DEDUPE_WINDOW_S_MAX} (7 days)", field="dedupe_window_s")
