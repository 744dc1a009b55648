"""Accounts as the rest of the server meets them: roles and what they leave of a credential, tokens that end, heirs."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import FixedClock
from mainstem.errors import Denied, InvalidFields, Unauthenticated
from mainstem.identity import (
    OPERATOR,
    SERVICES,
    Account,
    AccountNotFound,
    Accounts,
    AccountStays,
    Directory,
    KeyDraft,
    Principal,
    Role,
    Scope,
    Seal,
    Signer,
    SignInRefused,
    SignUp,
    SignUpClosed,
    Sources,
    Terms,
    password_problems,
)
from mainstem.identity.tables import ended_tokens
from mainstem.ids import AccountId
from mainstem.storage import Records

PASSWORD = "SecurePassword123!"
KEY = b"s" * 32
OTHER_KEY = b"o" * 32
type Make = Callable[..., Accounts]


@pytest.fixture
def make(records: Records, clock: FixedClock, directory: Directory) -> Make:
    def accounts(key: bytes = KEY, terms: Terms | None = None) -> Accounts:
        return Accounts(records, clock, directory, Signer(key, 3_600, clock, others=[KEY]), terms, heirs=[])

    return accounts


@pytest.fixture
def accounts(make: Make) -> Accounts:
    return make()


@pytest.fixture
async def rita(accounts: Accounts) -> Account:
    """Somebody who signed up by himself."""
    return await accounts.sign_up(SignUp("rita@example.com", PASSWORD))


async def standing(directory: Directory, account: Account) -> Principal:
    """An account as its token makes it appear."""
    signer = Signer(KEY, 3_600, FixedClock())
    return await directory.authenticate_token(signer.issue(account.id).access_token)


# Roles


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_says_what_a_token_is_good_for(
    accounts: Accounts, directory: Directory, rita: Account, role: Role
) -> None:
    """Readers read, editors make things, administrators do everything."""
    await accounts.set_role(OPERATOR, rita.id, role)
    principal = await standing(directory, rita)

    assert principal.role is role
    assert principal.is_admin is (role is Role.ADMIN)
    assert (principal.scopes == {Scope.EVENTS_READ}) is (role is Role.DEFAULT)
    assert (Scope.ADMIN in principal.scopes) is (role is Role.ADMIN)


@pytest.mark.parametrize(
    ("scopes", "topics", "role"),
    [
        (frozenset(Scope), None, Role.ADMIN),
        (frozenset(Scope) - {Scope.ADMIN}, None, Role.EDITOR),
        (frozenset({Scope.ADMIN}), None, Role.ADMIN),
        (frozenset({Scope.EVENTS_READ, Scope.EVENTS_WRITE}), None, Role.DEFAULT),
        (frozenset(Scope), frozenset({"one"}), Role.DEFAULT),
    ],
)
async def test_a_key_leaves_of_the_role_what_its_scopes_allow(
    directory: Directory, scopes: frozenset[Scope], topics: frozenset[str] | None, role: Role
) -> None:
    """An administrator's key for reading is a reader's."""
    owner = await directory.create_account("root", is_admin=True)
    _, key = await directory.create_key(OPERATOR, KeyDraft(name="k", scopes=scopes, topics=topics, account=owner.id))

    assert (await directory.authenticate_key(key)).role is role


async def test_a_lowered_role_takes_keys_along(accounts: Accounts, directory: Directory, rita: Account) -> None:
    """At once, and a raised one gives them back."""
    _, key = await directory.create_key(OPERATOR, KeyDraft(name="k", account=rita.id))
    assert (await directory.authenticate_key(key)).scopes == {Scope.EVENTS_READ}

    await accounts.set_role(OPERATOR, rita.id, "editor")
    assert Scope.EVENTS_WRITE in (await directory.authenticate_key(key)).scopes
    await accounts.set_role(OPERATOR, rita.id, "default")
    assert (await directory.authenticate_key(key)).scopes == {Scope.EVENTS_READ}


async def test_a_reader_makes_neither_keys_nor_sources(
    records: Records, clock: FixedClock, accounts: Accounts, directory: Directory, rita: Account
) -> None:
    """Nor do sources that he had before he became one write any more."""
    sources = Sources(records, clock, directory, Seal(KEY))
    await accounts.set_role(OPERATOR, rita.id, "editor")
    _, key = await sources.create(await standing(directory, rita), "bot")
    assert Scope.EVENTS_WRITE in (await sources.authenticate(key)).scopes

    await accounts.set_role(OPERATOR, rita.id, "default")
    reader = await standing(directory, rita)
    assert (await sources.authenticate(key)).scopes == {Scope.EVENTS_READ}
    assert (await sources.authenticate_user(await sources.create_user_key(rita.id, "first"))).scopes == frozenset()
    with pytest.raises(Denied):
        await sources.create(reader, "another")
    with pytest.raises(Denied):
        await directory.create_key(reader, KeyDraft(name="k"))


async def test_another_process_learns_of_a_role_at_once(
    elsewhere: Directory, accounts: Accounts, rita: Account
) -> None:
    """With the next thing it is asked."""
    assert (await standing(elsewhere, rita)).role is Role.DEFAULT
    await accounts.set_role(OPERATOR, rita.id, "editor")

    assert (await standing(elsewhere, rita)).role is Role.EDITOR


async def test_only_administrators_give_roles(accounts: Accounts, directory: Directory, rita: Account) -> None:
    """And only roles that there are."""
    with pytest.raises(Denied):
        await accounts.set_role(await standing(directory, rita), rita.id, "admin")
    with pytest.raises(InvalidFields):
        await accounts.set_role(OPERATOR, rita.id, "emperor")


# Signing up and in


@pytest.mark.parametrize(
    ("password", "problems"),
    [
        ("Abcdefg1", []),
        ("A1" + "a" * 126, []),
        ("Abcdef1", ["is too short (minimum is 8 characters)"]),
        ("A1" + "a" * 127, ["is too long (maximum is 128 characters)"]),
        ("abcdefg1", ["must include lowercase, uppercase, and number"]),
        ("ABCDEFG1", ["must include lowercase, uppercase, and number"]),
        ("Abcdefgh", ["must include lowercase, uppercase, and number"]),
        ("ÄÖÜäöü١٢", ["must include lowercase, uppercase, and number"]),
    ],
)
def test_what_a_password_must_have(password: str, problems: list[str]) -> None:
    assert [said for _, said in password_problems(password)] == problems


async def test_long_emails_are_told_apart(accounts: Accounts) -> None:
    """A name has less room than an email."""
    domain = ".".join(["d" * 60] * 3) + ".example"
    first, second = [await accounts.sign_up(SignUp(f"{name}@{domain}", PASSWORD)) for name in ("ada" * 10, "bob" * 10)]

    assert first.name != second.name
    assert (await accounts.sign_in(f"{'ada' * 10}@{domain}", PASSWORD)).id == first.id


async def test_an_accounts_name_is_no_strangers_email(accounts: Accounts, directory: Directory) -> None:
    """Or commands that name an account could mean the stranger's."""
    await directory.create_account("boss@example.com")
    with pytest.raises(InvalidFields):
        await accounts.sign_up(SignUp("boss@example.com", PASSWORD))


async def test_where_signing_up_is_closed_nobody_does(make: Make) -> None:
    with pytest.raises(SignUpClosed):
        await make(terms=Terms(is_open=False)).sign_up(SignUp("rita@example.com", PASSWORD))


# Tokens


async def test_tokens_are_signed_with_the_secret_that_services_share(make: Make, rita: Account) -> None:
    """Those with the server's own key are good as well, those with any other are not."""
    shared, own = make(OTHER_KEY), make()
    assert (await shared.authenticate(shared.issue(rita).access_token)).account == rita.id
    assert (await shared.authenticate(own.issue(rita).access_token)).account == rita.id
    with pytest.raises(Unauthenticated):
        await own.authenticate(shared.issue(rita).access_token)


async def test_a_programs_token_is_good_for_thirty_days(accounts: Accounts, clock: FixedClock) -> None:
    """And its password is one that people could have chosen."""
    account, password = await accounts.create_service(OPERATOR, SERVICES[0].upper())
    token = accounts.issue(await accounts.sign_in(SERVICES[0], password))
    assert (account.email, account.role, account.is_service) == (SERVICES[0], Role.EDITOR, True)
    assert password_problems(password) == []
    assert token.expires_in == 30 * 86_400

    clock.advance(token.expires_in - 1)
    await accounts.authenticate(token.access_token)
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(token.access_token)


async def test_an_ended_token_is_ended_in_every_process(
    accounts: Accounts, elsewhere: Directory, rita: Account
) -> None:
    """Also where it was just used; the account's other tokens are not touched."""
    ended, other = accounts.issue(rita).access_token, accounts.issue(rita).access_token
    for token in (ended, other):
        await elsewhere.authenticate_token(token)
    await accounts.sign_out(ended)
    await accounts.sign_out(ended)

    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate_token(ended)
    await elsewhere.authenticate_token(other)


async def test_what_was_ended_is_forgotten_when_it_would_have_expired(
    accounts: Accounts, records: Records, clock: FixedClock, rita: Account
) -> None:
    """So that the list of them does not grow for ever."""
    await accounts.sign_out(accounts.issue(rita).access_token)
    clock.advance(86_400)
    await accounts.sign_out(accounts.issue(rita).access_token)

    async with records.read() as rows:
        assert len((await rows.execute(select(ended_tokens))).all()) == 1


# Accounts that go


async def test_what_an_account_owned_goes_to_whoever_deletes_it(
    records: Records, clock: FixedClock, directory: Directory, rita: Account
) -> None:
    """In the transaction that ends it; where the operator does it, to the oldest administrator."""
    handed: list[tuple[AccountId, AccountId]] = []

    async def heir(tx: AsyncConnection, gone: AccountId, to: AccountId) -> None:
        handed.append((gone, to))

    accounts = Accounts(records, clock, directory, Signer(KEY, 3_600, clock), heirs=[heir])
    first = await directory.create_account("root", is_admin=True)
    second = await directory.create_account("other root", is_admin=True)
    bob = await accounts.sign_up(SignUp("bob@example.com", PASSWORD))

    assert await accounts.delete(await standing(directory, second), rita.id) == second.id
    assert await accounts.delete(OPERATOR, bob.id) == first.id
    assert handed == [(rita.id, second.id), (bob.id, first.id)]


async def test_a_deleted_account_leaves_no_way_in(
    records: Records, clock: FixedClock, accounts: Accounts, directory: Directory, rita: Account
) -> None:
    """No token, password, key, source; its number is not used again, and what it wrote is somebody deleted's."""
    await directory.create_account("root", is_admin=True)
    sources = Sources(records, clock, directory, Seal(KEY))
    await accounts.set_role(OPERATOR, rita.id, "editor")
    _, source = await sources.create(await standing(directory, rita), "bot")
    _, key = await directory.create_key(OPERATOR, KeyDraft(name="k", account=rita.id))
    user_key = await sources.create_user_key(rita.id, "first")
    token = accounts.issue(rita).access_token
    await accounts.delete(OPERATOR, rita.id)

    with pytest.raises(SignInRefused):
        await accounts.sign_in("rita@example.com", PASSWORD)
    for attempt in (
        accounts.authenticate(token),
        directory.authenticate_key(key),
        sources.authenticate(source),
        sources.authenticate_user(user_key),
    ):
        with pytest.raises(Unauthenticated):
            await attempt
    assert rita.id not in [one.id for one in await directory.accounts()]
    assert await directory.name_of(rita.id) == f"deleted-{rita.id}"
    assert (await accounts.sign_up(SignUp("rita@example.com", PASSWORD))).id > rita.id


async def test_administrators_who_delete_each_other_leave_one(accounts: Accounts, directory: Directory) -> None:
    """And nothing goes to one who is gone."""
    await directory.create_account("root", is_admin=True)
    ann = await directory.create_account("ann", is_admin=True)
    ben = await directory.create_account("ben", is_admin=True)
    by_ann, by_ben = await standing(directory, ann), await standing(directory, ben)
    ends = accounts.delete(by_ann, ben.id), accounts.delete(by_ben, ann.id)

    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] in ([int, Denied], [Denied, int])


async def test_who_goes_while_he_is_made_administrator_is_none(accounts: Accounts, directory: Directory) -> None:
    """A row without anybody behind it must not count as the last administrator."""
    root = await directory.create_account("root", is_admin=True)
    ann = await directory.create_account("ann")
    changes = accounts.delete(OPERATOR, ann.id), accounts.set_role(OPERATOR, ann.id, "admin")

    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert isinstance(outcomes[1], AccountNotFound)
    with pytest.raises(AccountStays):
        await accounts.delete(OPERATOR, root.id)


async def test_who_is_gone_can_still_be_shown(accounts: Accounts, directory: Directory, rita: Account) -> None:
    """As somebody without a name: what he made may be on its way to somebody else."""
    await directory.create_account("root", is_admin=True)
    await accounts.delete(OPERATOR, rita.id)

    gone = await directory.anybody(rita.id)
    assert (gone.id, gone.email, gone.role, gone.created_us) == (rita.id, None, Role.DEFAULT, rita.created_us)
    with pytest.raises(AccountNotFound):
        await directory.anybody(AccountId(999))


async def test_the_last_administrator_stays(accounts: Accounts, directory: Directory) -> None:
    """Whoever wants to be rid of him makes another first."""
    root = await directory.create_account("root", is_admin=True)
    for attempt in (accounts.delete(OPERATOR, root.id), accounts.set_role(OPERATOR, root.id, "editor")):
        with pytest.raises(AccountStays):
            await attempt
    other = await directory.create_account("other root", is_admin=True)
    with pytest.raises(AccountStays):
        await accounts.delete(await standing(directory, root), root.id)

    await accounts.delete(OPERATOR, root.id)
    assert await directory.first_administrator() == other.id
