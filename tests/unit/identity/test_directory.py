"""The directory: what proves who you are, and how soon changes are noticed."""

import asyncio

import msgspec
import pytest
from sqlalchemy import text

from mainstem.clock import SECOND_US, FixedClock
from mainstem.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from mainstem.identity import OPERATOR, Account, Directory, FirstStart, KeyDraft, Principal, Right, Scope, Tier
from mainstem.identity.tokens import Signer
from mainstem.ids import AccountId, TopicId
from mainstem.storage import Records
from waiting import until

ALL = frozenset(Scope)


@pytest.fixture
async def first(directory: Directory) -> FirstStart:
    made = await directory.bootstrap(None, None, None)
    assert made is not None
    return made


@pytest.fixture
async def admin(directory: Directory, first: FirstStart) -> Principal:
    return await directory.authenticate_key(first.api_key)


@pytest.fixture
async def alice(directory: Directory) -> Account:
    return await directory.create_account("alice", email="Alice@Example.org", password="correct horse")


async def key_of(directory: Directory, account: Account, **draft: object) -> str:
    _, key = await directory.create_key(OPERATOR, KeyDraft(name="test", account=account.id, **draft))  # type: ignore[arg-type]
    return key


# The first start


async def test_the_first_start_makes_an_administrator_and_a_key_for_everything(
    directory: Directory, first: FirstStart, admin: Principal
) -> None:
    assert first.password is not None
    assert first.email == "admin@localhost"
    assert await directory.sign_in(first.email, first.password)
    assert (admin.scopes, admin.tier, admin.is_admin, admin.topics) == (ALL, Tier.UNLIMITED, True, None)


async def test_what_the_operator_gives_is_taken_and_not_shown(directory: Directory) -> None:
    made = await directory.bootstrap("Root@example.org", "correct horse", "ms_0123456789abcdef")

    assert made == FirstStart("root@example.org", None, "ms_0123456789abcdef")
    assert await directory.sign_in("root@example.org", "correct horse")
    assert (await directory.authenticate_key("ms_0123456789abcdef")).is_admin


async def test_a_second_start_makes_nothing(directory: Directory, first: FirstStart, elsewhere: Directory) -> None:
    assert await directory.bootstrap(None, None, None) is None
    assert await elsewhere.bootstrap("other@example.org", "another password", None) is None


async def test_of_two_first_starts_at_once_one_wins(directory: Directory, elsewhere: Directory) -> None:
    made = await asyncio.gather(directory.bootstrap(None, None, None), elsewhere.bootstrap(None, None, None))

    assert sum(one is not None for one in made) == 1


async def test_an_account_called_admin_does_not_stop_the_first_start(directory: Directory) -> None:
    await directory.create_account("admin")

    assert await directory.bootstrap(None, None, None) is not None


# Accounts


async def test_numbers_of_accounts_begin_above_those_of_the_system(alice: Account) -> None:
    assert alice == Account(AccountId(8), "alice", "alice@example.org", False, FixedClock()(), FixedClock()())


@pytest.mark.parametrize(("name", "email"), [("alice", None), ("bob", "ALICE@example.org")])
async def test_a_name_or_email_is_taken_once(
    directory: Directory, alice: Account, name: str, email: str | None
) -> None:
    with pytest.raises(Conflict):
        await directory.create_account(name, email=email)


@pytest.mark.parametrize(
    ("name", "email", "password"),
    [
        ("", None, None),
        ("x" * 101, None, None),
        ("a\nb", None, None),
        (" bob", None, None),
        ("bob", "nobody", None),
        ("bob", "b@example.org", "2short"),
        ("bob", "b@example.org", "x" * 257),
        ("bob", None, "correct horse"),
    ],
)
async def test_an_account_that_makes_no_sense_is_refused(
    directory: Directory, name: str, email: str | None, password: str | None
) -> None:
    with pytest.raises(Invalid):
        await directory.create_account(name, email=email, password=password)


@pytest.mark.parametrize("text", ["alice", "8", "alice@example.org", " ALICE@example.org"])
async def test_an_account_is_found_by_name_number_or_email(directory: Directory, alice: Account, text: str) -> None:
    assert await directory.find_account(text) == alice


async def test_an_account_that_is_not_there_is_not_found(directory: Directory, alice: Account) -> None:
    with pytest.raises(NotFound):
        await directory.find_account("9")


# Signing in, and tokens


async def test_signing_in_gives_a_token_for_the_account(directory: Directory, alice: Account) -> None:
    token = await directory.sign_in(" alice@EXAMPLE.org ", "correct horse")

    principal = await directory.authenticate_token(token.access_token)

    assert token.expires_in == 3_600
    assert (principal.account, principal.credential, principal.tier) == (alice.id, "jwt_8", Tier.PROFESSIONAL)
    assert principal.scopes == ALL - {Scope.ADMIN}


async def test_the_administrators_token_has_every_scope_and_no_limit(directory: Directory) -> None:
    await directory.bootstrap("root@example.org", "correct horse", None)
    token = await directory.sign_in("root@example.org", "correct horse")

    principal = await directory.authenticate_token(token.access_token)

    assert (principal.scopes, principal.tier, principal.is_admin) == (ALL, Tier.UNLIMITED, True)


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("alice@example.org", "wrong"),
        ("alice@example.org", ""),
        ("nobody@example.org", "correct horse"),
        ("no email", "correct horse"),
        ("robot@example.org", "nobody's password"),
        ("alice@example.org", "x" * 1_000_000),
    ],
)
async def test_a_wrong_email_and_a_wrong_password_are_the_same_refusal(
    directory: Directory, alice: Account, email: str, password: str
) -> None:
    await directory.create_account("robot", email="robot@example.org")

    with pytest.raises(Unauthenticated, match="The email or the password is wrong"):
        await directory.sign_in(email, password)


async def test_a_token_ends_with_its_hour(directory: Directory, alice: Account, clock: FixedClock) -> None:
    token = await directory.sign_in("alice@example.org", "correct horse")
    clock.advance(3_599)
    await directory.authenticate_token(token.access_token)
    clock.advance(1)

    with pytest.raises(Unauthenticated, match="expired"):
        await directory.authenticate_token(token.access_token)


async def test_a_token_of_another_server_proves_nothing(
    directory: Directory, alice: Account, clock: FixedClock
) -> None:
    forged = Signer(b"t" * 32, 3_600, clock).issue(alice.id).access_token

    for token in (forged, "", "a.b.c", forged.replace(".", ""), "é.é.é"):
        with pytest.raises(Unauthenticated):
            await directory.authenticate_token(token)


async def test_a_token_of_an_account_that_is_gone_proves_nothing(directory: Directory, clock: FixedClock) -> None:
    token = Signer(b"s" * 32, 3_600, clock).issue(AccountId(99)).access_token

    with pytest.raises(Unauthenticated):
        await directory.authenticate_token(token)


# API keys


async def test_a_key_gives_what_it_was_made_with(directory: Directory, alice: Account) -> None:
    draft = KeyDraft(
        name="sensor",
        scopes=frozenset({Scope.EVENTS_WRITE}),
        tier=Tier.ENTERPRISE,
        topics=frozenset({"a", "b"}),
        expires_us=directory_now() + 60 * SECOND_US,
        account=alice.id,
    )

    key, text = await directory.create_key(OPERATOR, draft)
    principal = await directory.authenticate_key(text)

    assert text.startswith("ms_")
    assert len(text) == 46
    assert principal == Principal(
        alice.id, "alice", key.id, draft.scopes or ALL, Tier.ENTERPRISE, draft.topics, draft.expires_us
    )


def directory_now() -> int:
    return FixedClock()()


async def test_a_key_is_known_without_io_once_it_was_checked(directory: Directory, alice: Account) -> None:
    key = await key_of(directory, alice)
    assert directory.known_key(key) is None

    principal = await directory.authenticate_key(key)

    assert directory.known_key(key) is principal
    assert directory.known_key(key.encode()) is principal


async def test_the_key_itself_is_kept_nowhere(directory: Directory, records: Records, alice: Account) -> None:
    key = await key_of(directory, alice)

    async with records.read() as rows:
        kept = (await rows.execute(text("SELECT * FROM api_keys"))).all()
    assert not any(key[3:] in repr(row) for row in kept)


async def test_a_revoked_key_is_refused_at_once(directory: Directory, alice: Account) -> None:
    key = await key_of(directory, alice)
    principal = await directory.authenticate_key(key)

    await directory.revoke_key(OPERATOR, principal.credential)

    assert directory.known_key(key) is None
    with pytest.raises(Unauthenticated):
        await directory.authenticate_key(key)


async def test_a_key_that_another_process_revoked_is_refused_when_it_is_next_checked(
    directory: Directory, elsewhere: Directory, alice: Account
) -> None:
    key = await key_of(directory, alice)
    principal = await directory.authenticate_key(key)

    await elsewhere.revoke_key(OPERATOR, principal.credential)

    with pytest.raises(Unauthenticated):
        await directory.authenticate_key(key)


async def test_watching_notices_by_itself_what_another_process_revoked(
    directory: Directory, elsewhere: Directory, alice: Account
) -> None:
    key = await key_of(directory, alice)
    principal = await directory.authenticate_key(key)
    watching = asyncio.create_task(directory.watch())

    await elsewhere.revoke_key(OPERATOR, principal.credential)
    async with asyncio.timeout(10):  # half a second, on a machine that has one to spare
        await until(lambda: directory.known_key(key) is None)

    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_key_ends_when_it_expires(directory: Directory, alice: Account, clock: FixedClock) -> None:
    key = await key_of(directory, alice, expires_us=clock() + SECOND_US)
    assert await directory.authenticate_key(key)

    clock.advance(1)

    assert directory.known_key(key) is None
    with pytest.raises(Unauthenticated, match="expired"):
        await directory.authenticate_key(key)


async def test_use_is_noted_later_and_not_with_every_request(
    directory: Directory, records: Records, alice: Account, clock: FixedClock
) -> None:
    key = await key_of(directory, alice)
    version = await records.version()
    for _ in range(10):
        await directory.authenticate_key(key)
    assert await records.version() == version

    await directory.flush()

    assert [key.last_used_us for key in (await directory.keys(OPERATOR)).keys] == [clock()]


async def test_noting_use_makes_nobody_forget_anything(directory: Directory, alice: Account) -> None:
    key = await key_of(directory, alice)
    await directory.authenticate_key(key)
    epoch = directory.epoch

    await directory.flush()
    await directory.rights(alice.id)

    assert directory.epoch == epoch
    assert directory.known_key(key) is not None


# Managing keys


async def test_an_account_sees_and_revokes_its_own_keys_only(
    directory: Directory, admin: Principal, alice: Account
) -> None:
    mine = await directory.authenticate_key(await key_of(directory, alice))
    token = await directory.sign_in("alice@example.org", "correct horse")
    signed_in = await directory.authenticate_token(token.access_token)

    assert [key.id for key in (await directory.keys(signed_in)).keys] == [mine.credential]
    with pytest.raises(NotFound):
        await directory.revoke_key(signed_in, admin.credential)
    await directory.revoke_key(signed_in, mine.credential)
    assert (await directory.keys(signed_in)).keys == []


async def test_an_administrator_sees_everybodys_keys(directory: Directory, admin: Principal, alice: Account) -> None:
    mine = await directory.authenticate_key(await key_of(directory, alice))

    assert [key.id for key in (await directory.keys(admin)).keys] == [admin.credential, mine.credential]
    await directory.revoke_key(admin, mine.credential)


async def test_a_key_without_the_admin_scope_manages_no_keys(directory: Directory, alice: Account) -> None:
    plain = await directory.authenticate_key(await key_of(directory, alice))

    with pytest.raises(Denied, match="`admin`"):
        await directory.keys(plain)
    with pytest.raises(Denied, match="`admin`"):
        await directory.revoke_key(plain, plain.credential)
    with pytest.raises(Denied, match="`admin`"):
        await directory.create_key(plain, KeyDraft(name="another"))


async def test_only_an_administrator_makes_keys_for_others(
    directory: Directory, admin: Principal, alice: Account
) -> None:
    hers = await directory.authenticate_key(await key_of(directory, alice, scopes=ALL))

    with pytest.raises(Denied, match="Only an administrator"):
        await directory.create_key(hers, KeyDraft(name="new", account=admin.account))
    await directory.create_key(admin, KeyDraft(name="new", account=alice.id))
    with pytest.raises(NotFound):
        await directory.create_key(admin, KeyDraft(name="new", account=AccountId(99)))


@pytest.mark.parametrize(
    "draft",
    [
        KeyDraft(name=""),
        KeyDraft(name="x", scopes=frozenset()),
        KeyDraft(name="x", topics=frozenset()),
        KeyDraft(name="x", expires_us=FixedClock()()),
    ],
)
async def test_a_key_that_is_of_no_use_is_refused(directory: Directory, alice: Account, draft: KeyDraft) -> None:
    with pytest.raises(Invalid):
        await directory.create_key(OPERATOR, msgspec.structs.replace(draft, account=alice.id))


async def test_keys_are_listed_page_by_page_in_the_order_they_were_made(directory: Directory, alice: Account) -> None:
    made = [
        (await directory.create_key(OPERATOR, KeyDraft(name=f"key {number}", account=alice.id)))[0].id
        for number in range(5)
    ]

    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await directory.keys(OPERATOR, limit=2, cursor=cursor)
        seen += [key.id for key in page.keys]
        cursor, pages = page.next_cursor, pages + 1

    assert (seen, pages) == (made, 3)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "9" * 30, "½"])
async def test_a_cursor_that_was_made_up_is_refused(directory: Directory, cursor: str) -> None:
    with pytest.raises(Invalid):
        await directory.keys(OPERATOR, cursor=cursor)


# Grants


async def test_a_grant_counts_as_soon_as_it_is_committed(
    directory: Directory, records: Records, alice: Account
) -> None:
    assert await directory.rights(alice.id) == {}
    epoch = directory.epoch

    async with records.begin() as tx:
        await directory.grant(tx, alice.id, TopicId(1), Right.ADMIN)
        await directory.grant(tx, alice.id, TopicId(2), Right.READ)

    assert await directory.rights(alice.id) == {1: Right.ADMIN, 2: Right.READ}
    assert directory.epoch > epoch


async def test_a_grant_that_is_rolled_back_never_was(directory: Directory, records: Records, alice: Account) -> None:
    async def grant_and_fail() -> None:
        async with records.begin() as tx:
            await directory.grant(tx, alice.id, TopicId(1), Right.ADMIN)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await grant_and_fail()
    assert await directory.rights(alice.id) == {}


async def test_a_right_is_replaced_and_taken_away(directory: Directory, records: Records, alice: Account) -> None:
    for right, expected in ((Right.ADMIN, {1: Right.ADMIN}), (Right.READ, {1: Right.READ}), (Right.NONE, {})):
        async with records.begin() as tx:
            await directory.grant(tx, alice.id, TopicId(1), right)

        assert await directory.rights(alice.id) == expected


async def test_a_topic_that_is_gone_takes_everybodys_rights_with_it(
    directory: Directory, records: Records, alice: Account
) -> None:
    async with records.begin() as tx:
        await directory.grant(tx, alice.id, TopicId(1), Right.READ)
        await directory.grant(tx, alice.id, TopicId(2), Right.READ)
    async with records.begin() as tx:
        await directory.forget_topic(tx, TopicId(1))

    assert await directory.rights(alice.id) == {2: Right.READ}


async def test_a_grant_does_not_send_known_keys_back_to_the_database(
    directory: Directory, records: Records, alice: Account
) -> None:
    """Making ten thousand topics must not slow down everybody who writes meanwhile."""
    key = await key_of(directory, alice)
    await directory.authenticate_key(key)

    async with records.begin() as tx:
        await directory.grant(tx, alice.id, TopicId(1), Right.READ)
    await directory.rights(alice.id)

    assert directory.known_key(key) is not None
