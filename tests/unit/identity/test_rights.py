"""Who may do what: every combination of scopes, rights, limits and actions."""

from itertools import chain, combinations, product

import pytest

from mainstem.errors import Denied, NotFound
from mainstem.identity import Action, KeyDraft, Principal, Right, Scope, Tier, Verdict, decide, effective, require
from mainstem.identity.rights import DEFAULT_SCOPES, grantable
from mainstem.ids import AccountId

TOPIC = "orders"
RIGHTS = [Right(bits) for bits in range(8)]
SCOPE_SETS = [frozenset(some) for some in chain.from_iterable(combinations(Scope, count) for count in range(9))]
LIMITS = [None, frozenset({TOPIC}), frozenset({TOPIC, "other"}), frozenset({"other"})]
NEEDED_SCOPE = {
    Action.READ: Scope.EVENTS_READ,
    Action.WRITE: Scope.EVENTS_WRITE,
    Action.MANAGE: Scope.STREAMS_MANAGE,
    Action.CREATE: Scope.STREAMS_MANAGE,
}
NEEDED_RIGHT = {Action.READ: Right.READ, Action.WRITE: Right.WRITE, Action.MANAGE: Right.MANAGE}


def somebody(
    scopes: frozenset[Scope] = frozenset(Scope),
    topics: frozenset[str] | None = None,
    *,
    tier: Tier = Tier.STANDARD,
    is_admin: bool = False,
    expires_us: int | None = None,
    credential: str = "key_test",
) -> Principal:
    return Principal(AccountId(8), "somebody", credential, scopes, tier, topics, expires_us, is_admin)


def test_every_combination_gets_the_verdict_that_the_rules_state() -> None:
    """Hidden is what the credential or the account has nothing to do with; of the rest, both must allow the act."""
    for action, right, scopes, topics, is_admin in product(Action, RIGHTS, SCOPE_SETS, LIMITS, (False, True)):
        creates = action is Action.CREATE
        within_limit = topics is None or TOPIC in topics
        involved = creates or is_admin or right != Right.NONE
        entitled = creates or is_admin or bool(right & NEEDED_RIGHT[action])

        verdict = decide(somebody(scopes, topics, is_admin=is_admin), action, TOPIC, right)

        if not (within_limit and involved):
            assert verdict is Verdict.HIDE
        else:
            assert (verdict is Verdict.ALLOW) == (entitled and NEEDED_SCOPE[action] in scopes)
            assert verdict is not Verdict.HIDE


def test_nothing_that_is_added_takes_anything_away() -> None:
    """More scopes, more right, a wider limit: what was allowed stays allowed."""
    for action, right, more, scope in product(Action, RIGHTS, RIGHTS, Scope):
        narrow = somebody(frozenset({scope}), frozenset({TOPIC}))
        if decide(narrow, action, TOPIC, right) is Verdict.ALLOW:
            assert decide(narrow, action, TOPIC, right | more) is Verdict.ALLOW
            assert decide(somebody(), action, TOPIC, right) is Verdict.ALLOW


def test_a_hidden_topic_looks_the_same_to_every_credential_of_the_account() -> None:
    """Whether a topic is hidden does not depend on scopes, so that 403 against 404 tells nothing."""
    for action, scopes in product(Action, SCOPE_SETS):
        assert decide(somebody(scopes, frozenset({"other"})), action, TOPIC, Right.ADMIN) is Verdict.HIDE


def test_the_admin_scope_alone_opens_no_topic() -> None:
    assert decide(somebody(frozenset({Scope.ADMIN})), Action.READ, TOPIC, Right.ADMIN) is Verdict.DENY


def test_require_says_which_scope_is_lacking() -> None:
    with pytest.raises(Denied, match="lacks the scope `events:write`") as refusal:
        require(somebody(frozenset({Scope.EVENTS_READ})), Action.WRITE, TOPIC, Right.ADMIN)
    assert refusal.value.details == {"scope": "events:write"}


def test_require_says_which_right_is_lacking() -> None:
    with pytest.raises(Denied) as refusal:
        require(somebody(), Action.WRITE, TOPIC, Right.READ)
    assert refusal.value.details == {"topic": TOPIC, "right": "write"}


def test_require_does_not_admit_that_a_hidden_topic_exists() -> None:
    with pytest.raises(NotFound):
        require(somebody(), Action.READ, TOPIC, Right.NONE)
    require(somebody(), Action.READ, TOPIC, Right.READ)


def test_a_source_is_allowed_what_its_owner_and_it_are_both_allowed() -> None:
    """Every combination of rights and actions, for a credential with every scope."""
    for owner, source, action in product(RIGHTS, RIGHTS, NEEDED_RIGHT):
        allowed = [decide(somebody(), action, TOPIC, right) is Verdict.ALLOW for right in (owner, source)]

        verdict = decide(somebody(), action, TOPIC, effective(owner, source))

        assert (verdict is Verdict.ALLOW) == all(allowed)


# Keys that make keys


def test_a_key_gets_defaults_within_what_its_maker_has() -> None:
    maker = somebody(frozenset({Scope.EVENTS_READ, Scope.ALERTS_MANAGE}), frozenset({TOPIC}), expires_us=50)

    key = grantable(maker, KeyDraft(name="new"))

    assert (key.scopes, key.tier, key.topics) == (frozenset({Scope.EVENTS_READ}), Tier.STANDARD, frozenset({TOPIC}))
    assert (key.expires_us, key.account) == (50, maker.account)


@pytest.mark.parametrize(
    "excess",
    [
        KeyDraft(name="new", scopes=frozenset({Scope.EVENTS_READ, Scope.EVENTS_WRITE})),
        KeyDraft(name="new", tier=Tier.PROFESSIONAL),
        KeyDraft(name="new", topics=frozenset({TOPIC, "other"})),
        KeyDraft(name="new", expires_us=51),
    ],
)
def test_nobody_gives_what_he_does_not_have(excess: KeyDraft) -> None:
    maker = somebody(frozenset({Scope.EVENTS_READ}), frozenset({TOPIC}), expires_us=50)

    with pytest.raises(Denied, match="Nobody can give what he does not have"):
        grantable(maker, excess)


def test_an_admin_key_gives_any_scope_and_tier() -> None:
    maker = somebody(frozenset({Scope.ADMIN}))
    wanted = KeyDraft(name="new", scopes=frozenset(Scope), tier=Tier.UNLIMITED)

    key = grantable(maker, wanted)

    assert (key.scopes, key.tier) == (wanted.scopes, wanted.tier)


def test_an_admin_key_keeps_its_limit_to_some_topics() -> None:
    maker = somebody(frozenset({Scope.ADMIN}), frozenset({TOPIC}))

    assert grantable(maker, KeyDraft(name="new")).topics == frozenset({TOPIC})
    with pytest.raises(Denied):
        grantable(maker, KeyDraft(name="new", topics=frozenset({"other"})))


def test_a_key_made_by_a_token_may_outlive_it() -> None:
    maker = somebody(credential="jwt_8", expires_us=50)

    assert grantable(maker, KeyDraft(name="new")).expires_us is None
    assert grantable(maker, KeyDraft(name="new", expires_us=99)).expires_us == 99


def test_the_default_scopes_let_a_first_event_make_its_topic() -> None:
    assert Scope.STREAMS_MANAGE in DEFAULT_SCOPES
    assert Scope.ADMIN not in DEFAULT_SCOPES
