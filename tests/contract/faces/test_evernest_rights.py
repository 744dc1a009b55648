"""Evernest's rights: of sources, of users, where they meet, and that every door holds to them."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import httpx
import pytest

from evernest import READING, RIGHTS, WRITING, Source, User, error_of, fresh, refusal, response_of
from serving import PASSWORD, Server, serving
from waiting import in_one_window

PASSWORD_OF_OWNER = "the owner's own password"


@pytest.fixture(scope="module")
def speaking(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as client:
        yield client


@pytest.fixture(scope="module")
def owner(server: Server, speaking: httpx.Client) -> User:
    """Somebody who can prove himself by a password."""
    name = fresh("owner")
    return User(speaking, server.data, "--email", f"{name}@example.org", "--password", PASSWORD_OF_OWNER, name=name)


@pytest.fixture(scope="module")
def other(server: Server, speaking: httpx.Client) -> User:
    return User(speaking, server.data)


@pytest.fixture
def numbers(owner: User) -> int:
    """A stream with one event."""
    stream = owner.stream()
    owner.source({stream: "WriteOnly"}).push(stream, "a")
    return stream


def check(source: Source, stream: int, *, reads: bool, writes: bool) -> None:
    """Try all that a source can do with a stream."""
    for path in ("", "/Pull/0", "/Pull/0/0", "/Pull/Random"):
        reply = source.client.post(f"/Stream/{stream}{path}", json={"Key": source.key})
        if reads:
            response_of(reply)
        else:
            error_of(reply, 403, "BadArgument", "Key", reason="ReadAccessDenied")
    reply = source.client.post(f"/Stream/{stream}/Push", json={"Key": source.key, "Message": "b"})
    if writes:
        response_of(reply)
    else:
        error_of(reply, 403, "BadArgument", "Key", reason="WriteAccessDenied")


@pytest.mark.parametrize("right", RIGHTS)
def test_a_source_does_what_its_right_says(owner: User, numbers: int, right: str) -> None:
    source = owner.source({numbers: right})
    assert source.ask(f"/Right/{numbers}") == {"Right": right}
    check(source, numbers, reads=right in READING, writes=right in WRITING)


def test_what_counts_is_what_the_owner_and_the_source_both_have(owner: User, other: User) -> None:
    """All combinations: a user with each right on a stream, and a source of his with each right."""
    for theirs, its in product(RIGHTS[:-1], RIGHTS):
        stream = owner.stream()
        owner.source({stream: "WriteOnly"}).push(stream, "a")
        owner.share(other, stream, theirs)
        source = other.source({stream: its})
        assert source.ask(f"/Right/{stream}") == {"Right": its}, "its own, whatever its owner has"
        check(
            source,
            stream,
            reads=theirs in READING and its in READING,
            writes=theirs in WRITING and its in WRITING,
        )


def test_a_right_holds_as_soon_as_it_is_set_and_ends_as_soon_as_it_is_taken(owner: User, numbers: int) -> None:
    source = owner.source()
    for right in ("ReadWrite", "None", "ReadWrite", "ReadOnly", "WriteOnly", "NoRight"):
        source.allow(numbers, right)
        check(source, numbers, reads=right in READING, writes=right in WRITING)
    assert source.ask(f"/Right/{numbers}") == {"Right": "NoRight"}


def test_an_owners_right_ends_that_of_his_sources_at_once(owner: User, other: User, numbers: int) -> None:
    """Also where a source's key was used a moment before, on the short way."""
    source = other.source({numbers: "ReadWrite"})
    for right in ("ReadWrite", "ReadOnly", "ReadWrite", "None"):
        owner.share(other, numbers, right)
        check(source, numbers, reads=right in READING, writes=right in WRITING)


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("readwrite", "ReadWrite"),
        ("READONLY", "ReadOnly"),
        ("none", "NoRight"),
        ("NoRight", "NoRight"),
        ("aDmin", "Admin"),
    ],
)
def test_rights_are_spelled_in_any_case(owner: User, numbers: int, word: str, right: str) -> None:
    source = owner.source()
    source.allow(numbers, word)
    assert owner.ask(f"/Right/{source.id}/{numbers}") == {"Right": right}


@pytest.mark.parametrize("word", ["Root", "root", "banana", "ReadOnly2", "%20", "3"])
def test_a_word_that_is_no_right_is_a_bad_argument(owner: User, numbers: int, word: str) -> None:
    source = owner.source({numbers: "ReadOnly"})
    for path in (f"/Right/{source.id}/{numbers}", f"/UserRight/{owner.id}/{numbers}"):
        owner.refused(f"{path}/Set/{word}", "Right", reason="InvalidString")
    assert source.ask(f"/Right/{numbers}") == {"Right": "ReadOnly"}


def test_nobody_sets_rights_of_a_source_that_is_not_his(owner: User, other: User, numbers: int) -> None:
    """Ids of sources count for each user, so another's id is an id that one does not have."""
    for _ in range(2):
        owner.source()
    assert other.refused(f"/Right/9999/{numbers}", "SourceId", reason="SourceIdDoesNotExist")
    other.refused(f"/Right/9999/{numbers}/Set/Admin", "SourceId", reason="SourceIdDoesNotExist")
    other.refused("/Source/9999", "SourceId", reason="SourceIdDoesNotExist")


def test_a_stream_that_is_none_is_a_bad_argument(owner: User) -> None:
    source = owner.source()
    for path in (f"/Right/{source.id}/999999", f"/Right/{source.id}/999999/Set/ReadOnly"):
        owner.refused(path, "StreamId", reason="EventStreamIdDoesNotExist")
    source.refused("/Right/999999", "StreamId", reason="EventStreamIdDoesNotExist")


def test_checks_go_in_order(owner: User, numbers: int) -> None:
    """Key, source, stream, right: of several that are wrong the first is told."""
    source = owner.source()
    refusal(owner.client, "/Right/9999/999999/Set/x", "UserKey", UserKey="x", reason="UserKeyDoesNotExist")
    owner.refused("/Right/9999/999999/Set/x", "SourceId", reason="SourceIdDoesNotExist")
    owner.refused(f"/Right/{source.id}/999999/Set/x", "StreamId", reason="EventStreamIdDoesNotExist")
    owner.refused(f"/Right/{source.id}/{numbers}/Set/x", "Right", reason="InvalidString")


# Sources


def test_a_source_is_shown_with_its_key_and_its_streams(owner: User, other: User, numbers: int) -> None:
    """Those of its owner, and those on which it has a right without him; by whoever asks."""
    foreign = other.stream()
    source = owner.source({numbers: "ReadWrite", foreign: "Admin"})

    shown = source.ask("/Source")["Source"]

    assert shown == owner.ask(f"/Source/{source.id}")["Source"]
    assert (shown["Key"], shown["Name"], shown["Id"]) == (source.key, source.name, source.id)
    assert shown["User"] == {"Id": owner.id}
    rights = {stream["Id"]: stream["Right"] for stream in shown["Streams"]}
    assert [*rights] == sorted(rights)
    assert (rights[numbers], rights[foreign]) == ("ReadWrite", "Admin")
    assert set(rights.values()) == {"ReadWrite", "Admin", "NoRight"}


def test_a_name_of_a_source_is_for_one_of_a_users(owner: User, other: User) -> None:
    name = fresh("source")
    made = owner.ask("/Source/New", SourceName=name)["Source"]
    owner.refused("/Source/New", "SourceName", SourceName=name, reason="SourceNameTaken")
    assert other.ask("/Source/New", SourceName=name)["Source"]["Key"] != made["Key"]
    assert owner.ask("/Source/New", SourceName=name.upper())["Source"]["Id"] == made["Id"] + 1
    refusal(owner.client, "/Source/New", "SourceName", UserKey=owner.key, message="MissingArgument")
    for bad in ("", "x" * 256, "a\tb", None):
        owner.refused("/Source/New", "SourceName", SourceName=bad, reason="InvalidString")


def test_sources_are_counted_from_zero_for_each_user(server: Server, speaking: httpx.Client) -> None:
    for user in (User(speaking, server.data), User(speaking, server.data)):
        assert [user.source().id for _ in range(3)] == [0, 1, 2]


# Users


def test_a_user_sees_his_sources_and_streams(server: Server, speaking: httpx.Client, owner: User) -> None:
    user = User(speaking, server.data)
    streams = [user.stream(), user.stream()]
    user.source()
    shared = owner.stream()
    owner.share(user, shared, "ReadOnly")

    seen = user.ask("/User")["User"]

    assert (seen["Id"], seen["Name"], seen["Sources"]) == (user.id, user.name, [{"Id": 0}])
    assert seen["Streams"] == [{"Id": stream} for stream in (*streams, shared)]
    assert user.id >= 8


def test_anybody_may_know_a_users_name_and_no_more(owner: User) -> None:
    assert response_of(owner.client.get(f"/User/{owner.id}")) == {"User": {"Id": owner.id, "Name": owner.name}}
    refusal(owner.client, "/User/999999", "UserId", reason="UserIdDoesNotExist")


# Rights of users


def test_only_who_administers_a_stream_sees_and_gives_rights_on_it(owner: User, other: User, numbers: int) -> None:
    path = f"/UserRight/{owner.id}/{numbers}"
    assert other.ask(f"/UserRight/{other.id}/{numbers}") == {"Right": "NoRight"}
    for right in ("None", "ReadOnly", "WriteOnly", "ReadWrite"):
        owner.share(other, numbers, right)
        other.refused(path, "Key", reason="AdminAccessDenied", status=403)
        other.refused(f"/UserRight/{other.id}/{numbers}/Set/ReadWrite", "Key", reason="AdminAccessDenied", status=403)
    assert owner.ask(f"/UserRight/{other.id}/{numbers}") == {"Right": "ReadWrite"}


def test_who_administers_a_stream_cannot_be_changed(owner: User, other: User, numbers: int) -> None:
    """By nobody, not even by himself."""
    owner.share(other, numbers, "Admin", Password=PASSWORD_OF_OWNER)
    for user, taker in product((owner, other), (owner, other)):
        path = f"/UserRight/{taker.id}/{numbers}"
        for right in ("None", "ReadWrite"):
            user.refused(f"{path}/Set/{right}", "UserId", reason="CannotDestituteAdmin", status=403)
        assert user.ask(path) == {"Right": "Admin"}


def test_to_make_an_administrator_takes_the_givers_password(owner: User, other: User, numbers: int) -> None:
    path = f"/UserRight/{other.id}/{numbers}/Set/Admin"
    error = refusal(owner.client, path, "Password", UserKey=owner.key, message="MissingArgument")
    assert error["Argument"] == "Password"
    for wrong in ("", "wrong", PASSWORD, "x" * 5_000):
        owner.refused(path, "Password", Password=wrong, reason="WrongPassword")
    assert owner.ask(f"/UserRight/{other.id}/{numbers}") == {"Right": "NoRight"}
    owner.ask(path, Password=PASSWORD_OF_OWNER)
    assert other.ask(f"/UserRight/{other.id}/{numbers}") == {"Right": "Admin"}


def test_passwords_are_not_guessed_by_the_thousand(tmp_path: Path) -> None:
    """Sixty tries a minute from one address, at every door together."""
    with serving(tmp_path / "data") as server, server.client("ms_wrong") as client:
        owner, taker = (User(client, server.data) for _ in range(2))
        path = f"/UserRight/{taker.id}/{owner.stream()}/Set"

        def guess() -> httpx.Response:
            while client.get("/v2/streams").status_code != 429:
                pass
            return client.post(f"{path}/Admin", json={"UserKey": owner.key, "Password": "x"})

        reply = in_one_window(60, guess)

        error_of(reply, 429, "BadRequest", reason="TooManyRequests")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        owner.ask(f"{path}/ReadOnly")


def test_who_has_no_password_makes_nobody_an_administrator(owner: User, other: User) -> None:
    stream = other.stream()
    path = f"/UserRight/{owner.id}/{stream}/Set/Admin"
    other.refused(path, "Password", Password="", reason="WrongPassword")


def test_rights_of_users_who_are_not_there(owner: User, numbers: int) -> None:
    for path in (f"/UserRight/999999/{numbers}", f"/UserRight/999999/{numbers}/Set/ReadOnly"):
        owner.refused(path, "UserId", reason="UserIdDoesNotExist")
    owner.refused(f"/UserRight/{owner.id}/999999", "StreamId", reason="EventStreamIdDoesNotExist")


def test_no_route_deletes(owner: User, numbers: int) -> None:
    """A user key can delete nothing, and neither sees nor changes what the account signs in with."""
    source = owner.source()
    for path in (f"/Stream/{numbers}", f"/Source/{source.id}", f"/User/{owner.id}", f"/Right/{source.id}/{numbers}"):
        assert owner.client.request("DELETE", path, json={"UserKey": owner.key}).status_code == 405
        for verb in ("Delete", "Remove"):
            assert owner.client.post(f"{path}/{verb}", json={"UserKey": owner.key}).status_code == 404
    assert "assword" not in owner.client.post("/User", json={"UserKey": owner.key}).text


# The other door


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_given_here_holds_behind_the_other_door(owner: User, other: User, server: Server, right: str) -> None:
    """The same account, by an API key: what it may send, find, see and change."""
    name = fresh("stream")
    stream = owner.stream(name)
    owner.source({stream: "WriteOnly"}).push(stream, "a")
    with server.client(other.datastream_key()) as client:

        def statuses() -> dict[str, int]:
            event = {"stream_id": name, "event_type": "t"}
            return {
                "write": client.post("/v2/ingest/events", json=event).status_code,
                "read": client.get("/v2/query/events", params={"stream_id": name}).status_code,
                "manage": client.patch(f"/v2/streams/{name}", json={"description": "d"}).status_code,
            }

        assert set(statuses().values()) == {404}
        password = {"Password": PASSWORD_OF_OWNER} if right == "Admin" else {}
        owner.share(other, stream, right, **password)
        no = 404 if right == "NoRight" else 403
        assert statuses() == {
            "write": 200 if right in WRITING else no,
            "read": 200 if right in READING else no,
            "manage": 200 if right == "Admin" else no,
        }
        if right != "Admin":
            owner.share(other, stream, "None")
            assert set(statuses().values()) == {404}


def test_a_right_that_comes_from_the_other_door_holds_here(other: User, owner: User, server: Server) -> None:
    """Whoever makes a stream there administers it here; when it is deleted there it is gone here, rights and all."""
    name = fresh("stream")
    with server.client(other.datastream_key()) as client:
        assert client.post("/v2/ingest/events", json={"stream_id": name, "event_type": "t"}).status_code == 200
        stream = max(entry["Id"] for entry in other.ask("/User")["User"]["Streams"])
        assert other.ask(f"/UserRight/{other.id}/{stream}") == {"Right": "Admin"}
        source = other.source({stream: "ReadWrite"})
        assert source.ask(f"/Stream/{stream}")["Stream"]["Name"] == name
        check(source, stream, reads=True, writes=True)
        check(owner.source({stream: "Admin"}), stream, reads=False, writes=False)

        assert client.delete(f"/v2/streams/{name}", params={"confirm": name}).status_code == 204

    source.refused(f"/Stream/{stream}/Push", "StreamId", Message="x", reason="EventStreamIdDoesNotExist")
    assert stream not in {entry["Id"] for entry in source.ask("/Source")["Source"]["Streams"]}
    assert other.stream(name) > stream


def test_a_key_of_one_door_opens_no_other(owner: User, server: Server, numbers: int) -> None:
    source = owner.source({numbers: "Admin"})
    for key in (source.key, owner.key):
        with server.client(key) as client:
            assert client.get("/v2/streams").status_code == 401
    api_key = owner.datastream_key()
    refusal(owner.client, "/Source", "Key", Key=api_key, reason="SourceKeyDoesNotExist")
    refusal(owner.client, "/User", "UserKey", UserKey=api_key, reason="UserKeyDoesNotExist")
    assert owner.client.post(f"/Stream/{numbers}", headers={"X-API-Key": api_key}).status_code == 400


def test_an_administrator_of_the_server_administers_every_stream(server: Server, owner: User, numbers: int) -> None:
    admin = User(owner.client, server.data, "--admin")
    assert {"Id": numbers} in admin.ask("/User")["User"]["Streams"]
    assert admin.ask(f"/UserRight/{admin.id}/{numbers}") == {"Right": "Admin"}
    check(admin.source({numbers: "ReadOnly"}), numbers, reads=True, writes=False)
    owner.refused(f"/UserRight/{admin.id}/{numbers}/Set/None", "UserId", reason="CannotDestituteAdmin", status=403)
