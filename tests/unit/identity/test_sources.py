"""Sources and user keys: what proves them, what is kept of them, and what a source may do."""

from pathlib import Path

import pytest
from sqlalchemy import text

from mainstem.clock import FixedClock
from mainstem.errors import Invalid, Unauthenticated, Unavailable
from mainstem.identity import (
    AccountNotFound,
    Directory,
    NameTaken,
    Principal,
    Right,
    Scope,
    Seal,
    SourceNotFound,
    Sources,
    sealing_key,
)
from mainstem.ids import AccountId, SourceId, TopicId
from mainstem.storage import Records

ORDERS = TopicId(8)


@pytest.fixture
def sources(records: Records, directory: Directory, clock: FixedClock) -> Sources:
    return Sources(records, clock, directory, Seal(b"s" * 32))


async def somebody(directory: Directory, sources: Sources, name: str) -> Principal:
    account = await directory.create_account(name)
    return await sources.authenticate_user(await sources.create_user_key(account.id, "first"))


@pytest.fixture
async def alice(directory: Directory, sources: Sources) -> Principal:
    return await somebody(directory, sources, "alice")


async def test_a_user_key_manages_and_a_source_key_reads_and_writes(sources: Sources, alice: Principal) -> None:
    source, key = await sources.create(alice, "s")
    principal = await sources.authenticate(key)

    assert (alice.name, alice.scopes, alice.source) == ("alice", frozenset({Scope.STREAMS_MANAGE}), None)
    assert (principal.account, principal.name, principal.source) == (alice.account, "alice", source.id)
    assert principal.scopes == frozenset({Scope.EVENTS_READ, Scope.EVENTS_WRITE})


async def test_neither_key_is_taken_for_the_other(sources: Sources, alice: Principal) -> None:
    _, source_key = await sources.create(alice, "s")
    user_key = await sources.create_user_key(alice.account, "second")

    for wrong in (user_key, "", source_key.swapcase()):
        with pytest.raises(Unauthenticated):
            await sources.authenticate(wrong)
    with pytest.raises(Unauthenticated):
        await sources.authenticate_user(source_key)


async def test_a_key_may_be_shown_again_and_is_nowhere_in_the_clear(
    sources: Sources, alice: Principal, records: Records
) -> None:
    source, key = await sources.create(alice, "s")
    assert await sources.key(alice, source.id) == key

    async with records.read() as rows:
        for table in ("sources", "user_keys"):
            kept = (await rows.execute(text(f"SELECT * FROM {table}"))).all()
            assert kept
            assert key.encode() not in repr(kept).encode()


async def test_a_key_does_not_open_with_another_sealing_key_nor_in_another_row(
    sources: Sources, alice: Principal, records: Records, directory: Directory, clock: FixedClock
) -> None:
    """It still proves who comes with it: only showing it again is lost."""
    source, key = await sources.create(alice, "s")
    other = Sources(records, clock, directory, Seal(b"t" * 32))
    assert (await other.authenticate(key)).source == source.id
    with pytest.raises(Unavailable, match="another sealing key"):
        await other.key(alice, source.id)

    second, _ = await sources.create(alice, "t")
    async with records.begin() as tx:
        await tx.execute(text("UPDATE sources SET sealed = (SELECT sealed FROM sources WHERE id = 0) WHERE id = 1"))
    with pytest.raises(Unavailable):
        await sources.key(alice, second.id)


async def test_ids_of_sources_count_for_each_account_and_are_never_used_again(
    directory: Directory, sources: Sources, alice: Principal
) -> None:
    bob = await somebody(directory, sources, "bob")
    assert [(await sources.create(alice, name))[0].id for name in "abc"] == [0, 1, 2]
    assert (await sources.create(bob, "a"))[0].id == 0

    await sources.delete(alice, SourceId(2))

    assert [source.name for source in await sources.of(alice)] == ["a", "b"]
    assert (await sources.create(alice, "c"))[0].id == 3


async def test_a_deleted_source_is_refused_at_once_and_its_rights_are_gone(
    directory: Directory, sources: Sources, alice: Principal
) -> None:
    source, key = await sources.create(alice, "s")
    await sources.give(alice, source.id, ORDERS, Right.READ)
    principal = await sources.authenticate(key)
    assert sources.known(key) == principal

    await sources.delete(alice, source.id)

    assert sources.known(key) is None
    with pytest.raises(Unauthenticated):
        await sources.authenticate(key)
    assert await directory.right_on(principal, ORDERS) == Right.NONE


async def test_a_revoked_user_key_is_refused_at_once(sources: Sources, alice: Principal) -> None:
    key = await sources.create_user_key(alice.account, "second")
    await sources.revoke_user_key(alice.account, "second")
    with pytest.raises(Unauthenticated):
        await sources.authenticate_user(key)
    assert await sources.create_user_key(alice.account, "second") != key


async def test_names_are_taken_once_within_an_account(directory: Directory, sources: Sources, alice: Principal) -> None:
    bob = await somebody(directory, sources, "bob")
    await sources.create(alice, "s")
    await sources.create(bob, "s")
    with pytest.raises(NameTaken):
        await sources.create(alice, "s")
    with pytest.raises(NameTaken):
        await sources.create_user_key(alice.account, "first")
    with pytest.raises(AccountNotFound):
        await sources.create_user_key(AccountId(99), "first")
    for bad in ("", "x" * 256, "a\nb"):
        with pytest.raises(Invalid):
            await sources.create(alice, bad)
    assert (await sources.create(alice, "t"))[0].id == 1, "what failed has used no id"


async def test_nobody_touches_a_source_that_is_not_his(
    directory: Directory, sources: Sources, alice: Principal
) -> None:
    bob = await somebody(directory, sources, "bob")
    source, key = await sources.create(alice, "s")

    await sources.delete(bob, source.id)
    for verb in (
        sources.get(bob, source.id),
        sources.key(bob, source.id),
        sources.give(bob, source.id, ORDERS, Right.ADMIN),
        sources.rights(bob, source.id),
    ):
        with pytest.raises(SourceNotFound):
            await verb
    assert (await sources.authenticate(key)).source == source.id


async def test_a_source_may_what_its_account_and_it_both_may(
    records: Records, directory: Directory, sources: Sources, alice: Principal
) -> None:
    """All combinations; and a change of either counts at once."""
    source, key = await sources.create(alice, "s")
    principal = await sources.authenticate(key)
    for theirs in map(Right, range(8)):
        async with records.begin() as tx:
            await directory.grant(tx, alice.account, ORDERS, theirs)
        for its in map(Right, range(8)):
            await sources.give(alice, source.id, ORDERS, its)
            assert await directory.right_on(principal, ORDERS) == theirs & its
            assert (await sources.rights(alice, source.id)).get(ORDERS, Right.NONE) == its


async def test_a_source_of_an_administrator_may_no_more_than_it_was_given(
    directory: Directory, sources: Sources
) -> None:
    account = await directory.create_account("root", is_admin=True)
    root = await sources.authenticate_user(await sources.create_user_key(account.id, "first"))
    source, key = await sources.create(root, "s")
    principal = await sources.authenticate(key)
    assert (await directory.right_on(root, ORDERS), await directory.right_on(principal, ORDERS)) == (Right.ADMIN, 0)
    await sources.give(root, source.id, ORDERS, Right.READ)
    assert await directory.right_on(principal, ORDERS) == Right.READ


async def test_what_another_process_makes_and_ends_is_known_here(
    records: Records, elsewhere: Directory, sources: Sources, alice: Principal, clock: FixedClock
) -> None:
    theirs = Sources(records, clock, elsewhere, Seal(b"s" * 32))
    source, key = await theirs.create(alice, "s")
    assert (await sources.authenticate(key)).source == source.id
    await theirs.delete(alice, source.id)
    with pytest.raises(Unauthenticated):
        await sources.authenticate(key)


def test_the_sealing_key_is_not_the_signing_key(tmp_path: Path) -> None:
    """Deleting that one, which only ends tokens, must not cost any key."""
    assert len(sealing_key(tmp_path)) == 32
    assert (tmp_path / "sealing").stat().st_mode & 0o777 == 0o600
    assert sealing_key(tmp_path) == sealing_key(tmp_path)
