"""Sharing topics: who has which right, told and given by those who may."""

from collections.abc import Mapping

from sqlalchemy import select

from mainstem.errors import Denied, Invalid
from mainstem.events import tables
from mainstem.events.model import TopicNotFound
from mainstem.events.topics import Topics
from mainstem.identity import Action, Directory, Grant, Principal, Right
from mainstem.ids import AccountId, TopicId
from mainstem.storage import Records


class ManagerStays(Denied):
    """Who manages a topic cannot be changed by anybody, not even by himself."""


class WrongPassword(Invalid):
    """The password is not that of the account."""


class Sharing:
    """Rights of accounts on topics. What sources may do within them is for `identity.Sources` to keep."""

    def __init__(self, records: Records, topics: Topics, directory: Directory) -> None:
        self._records = records
        self._topics = topics
        self._directory = directory

    async def right_of(self, principal: Principal, account: AccountId, topic_id: TopicId) -> Right:
        """An account's right on a topic, for itself and for those who manage the topic.

        Raises AccountNotFound, TopicNotFound, Denied.
        """
        await self._directory.account(account)
        if account == principal.account:
            await self._topics.by_id(topic_id)
        else:
            await self._topics.by_id_for(principal, Action.MANAGE, topic_id)
        return await self._directory.account_right(account, topic_id)

    async def give(
        self, principal: Principal, account: AccountId, topic_id: TopicId, right: Right, password: str | None = None
    ) -> None:
        """Give an account exactly this right; NONE takes it away. To make a manager takes the giver's password.

        Raises AccountNotFound, TopicNotFound, Denied, ManagerStays, WrongPassword. Holds on return, behind every door.
        """
        await self._directory.account(account)
        topic = await self._topics.by_id_for(principal, Action.MANAGE, topic_id)
        if Right.MANAGE in await self._directory.account_right(account, topic.id):
            raise _stays(account, topic_id)
        if Right.MANAGE in right and not (
            password is not None and await self._directory.has_password(principal.account, password)
        ):
            raise WrongPassword("The password is wrong.")
        async with self._records.begin() as tx:
            if Right.MANAGE in await self._directory.right_in(tx, account, topic.id):
                raise _stays(account, topic_id)
            await self._directory.grant(tx, account, topic.id, right)
        await self._directory.refresh()

    async def grants(self, principal: Principal, name: str) -> list[Grant]:
        """Who was given what on a topic, for those who manage it. Raises TopicNotFound, Denied."""
        topic = await self._topics.for_managing(principal, name)
        return await self._directory.grants_on(topic.id)

    async def related(self, account: AccountId) -> Mapping[TopicId, Right]:
        """The topics on which an account has any right, by number."""
        if (await self._directory.account(account)).is_admin:
            return dict.fromkeys(sorted(topic.id for topic in self._topics), Right.ADMIN)
        return dict(sorted((await self._directory.rights(account)).items()))


async def give_as_operator(
    records: Records, directory: Directory, account: AccountId, name: str, right: Right
) -> Right:
    """Give an account exactly this right on a topic, and answer what it had, on behalf of whoever runs the server's
    machine: he needs no password, and may take managing away. Works beside a running server. Raises TopicNotFound."""
    async with records.begin() as tx:
        topic_id = await tx.scalar(select(tables.topics.c.id).where(tables.topics.c.name == name))
        if topic_id is None:
            raise TopicNotFound(name)
        before = await directory.right_in(tx, account, TopicId(topic_id))
        await directory.grant(tx, account, TopicId(topic_id), right)
    return before


def _stays(account: AccountId, topic_id: TopicId) -> ManagerStays:
    return ManagerStays(f"User {account} manages stream {topic_id}, which nobody can change.", account=account)
