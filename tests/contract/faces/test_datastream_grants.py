"""Rights of other accounts on a stream, given through DataStream and by the operator's command."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx
import pytest

from evernest import Source, User, command, fresh
from serving import Server, found, refused, send
from waiting import wait_until

type Add = Callable[..., "Person"]

PASSWORD = "a password of his own"


class Person(NamedTuple):
    """An account with its number and name, and a client that shows a key of it."""

    id: int
    name: str
    client: httpx.Client


@pytest.fixture
def add(server: Server) -> Iterator[Add]:
    """Adds an account, as an operator does."""
    with ExitStack() as stack:

        def one(*options: str) -> Person:
            name = fresh("person")
            made = command("user", "add", name, *options, data=server.data)
            key = command("key", "add", "--name", "x", "--account", name, "--scope", "all", data=server.data)
            return Person(made["id"], name, stack.enter_context(server.client(key["key"])))

        yield one


def put(giver: Person, stream: str, account: object, *rights: str, **more: str) -> httpx.Response:
    return giver.client.put(f"/v2/streams/{stream}/grants/{account}", json={"rights": rights, **more})


def test_who_is_given_rights_has_them_at_once(add: Add, stream: str) -> None:
    """And those alone: reading is not writing."""
    alice, bob = add(), add()
    send(alice.client, stream, {"event_type": "x"})
    refused(bob.client.get("/v2/query/events", params={"stream_id": stream}), 404, "INVALID_STREAM_ID")

    answer = put(alice, stream, bob.id, "read")

    assert (answer.status_code, answer.json()) == (200, {"account": bob.id, "name": bob.name, "rights": ["read"]})
    assert len(found(bob.client, stream)) == 1
    event = {"stream_id": stream, "event_type": "x"}
    refused(bob.client.post("/v2/ingest/events", json=event), 403, "PERMISSION_DENIED")
    assert put(alice, stream, bob.name, "write", "read").json()["rights"] == ["read", "write"]
    assert bob.client.post("/v2/ingest/events", json=event).status_code == 200


def test_rights_are_listed_and_taken_away(add: Add, stream: str) -> None:
    alice, bob = add(), add()
    send(alice.client, stream, {"event_type": "x"})
    put(alice, stream, bob.id, "read")

    grants = alice.client.get(f"/v2/streams/{stream}/grants").json()["grants"]
    assert grants == [
        {"account": alice.id, "name": alice.name, "rights": ["read", "write", "manage"]},
        {"account": bob.id, "name": bob.name, "rights": ["read"]},
    ]
    assert alice.client.delete(f"/v2/streams/{stream}/grants/{bob.id}").status_code == 204
    assert len(alice.client.get(f"/v2/streams/{stream}/grants").json()["grants"]) == 1
    refused(bob.client.get("/v2/query/events", params={"stream_id": stream}), 404, "INVALID_STREAM_ID")


def test_only_managers_see_and_give_rights(add: Add, stream: str) -> None:
    """Who may know of the stream is told so; who may not learns nothing."""
    alice, bob, eve = add(), add(), add()
    send(alice.client, stream, {"event_type": "x"})
    put(alice, stream, bob.id, "read", "write")

    for person, status, code in ((bob, 403, "PERMISSION_DENIED"), (eve, 404, "INVALID_STREAM_ID")):
        refused(person.client.get(f"/v2/streams/{stream}/grants"), status, code)
        refused(put(person, stream, eve.id, "read"), status, code)
        refused(person.client.delete(f"/v2/streams/{stream}/grants/{bob.id}"), status, code)


def test_to_make_a_manager_takes_the_givers_password(add: Add, stream: str) -> None:
    """As through Evernest; and nobody makes him less."""
    alice, bob = add("--email", f"{fresh('mail')}@example.org", "--password", PASSWORD), add()
    send(alice.client, stream, {"event_type": "x"})

    refused(put(alice, stream, bob.id, "manage"), 400, "INVALID_REQUEST")
    refused(put(alice, stream, bob.id, "manage", password="not it"), 400, "INVALID_REQUEST")
    assert put(alice, stream, bob.id, "manage", password=PASSWORD).status_code == 200

    assert bob.client.get(f"/v2/streams/{stream}/grants").status_code == 200
    refused(put(alice, stream, bob.id, "read"), 403, "PERMISSION_DENIED")
    refused(alice.client.delete(f"/v2/streams/{stream}/grants/{bob.id}"), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("account", "body", "status", "code"),
    [
        ("nobody-of-this-name", {"rights": ["read"]}, 404, "NOT_FOUND"),
        ("999999", {"rights": ["read"]}, 404, "NOT_FOUND"),
        ("{self}", {"rights": ["own"]}, 400, "INVALID_REQUEST"),
        ("{self}", {"rights": "read"}, 400, "INVALID_REQUEST"),
        ("{self}", {}, 400, "INVALID_REQUEST"),
        ("{self}", {"rights": [], "more": 1}, 400, "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_given_is_refused(
    add: Add, stream: str, account: str, body: dict[str, Any], status: int, code: str
) -> None:
    alice = add()
    send(alice.client, stream, {"event_type": "x"})

    path = f"/v2/streams/{stream}/grants/{account.format(self=alice.id)}"
    refused(alice.client.put(path, json=body), status, code)


def test_an_email_finds_nobody(add: Add, stream: str) -> None:
    """Or anybody with a stream could try whose addresses are known here."""
    email = f"{fresh('mail')}@example.org"
    alice, _ = add(), add("--email", email, "--password", PASSWORD)
    send(alice.client, stream, {"event_type": "x"})

    refused(put(alice, stream, email, "read"), 404, "NOT_FOUND")


# By command


def test_the_operator_gives_and_takes_rights(server: Server, add: Add, stream: str) -> None:
    """Beside the running server, which knows within a second."""
    alice, bob = add(), add()
    send(alice.client, stream, {"event_type": "x"})

    given = command("grant", stream, bob.name, "read,manage", data=server.data)

    assert given == {"stream": stream, "account": bob.id, "rights": ["read", "manage"], "before": []}
    assert len(found(bob.client, stream)) == 1
    assert command("grant", stream, bob.name, "none", data=server.data)["before"] == ["read", "manage"]
    refused(bob.client.get("/v2/query/events", params={"stream_id": stream}), 404, "INVALID_STREAM_ID")


def test_the_operator_deletes_a_source(server: Server) -> None:
    with server.client(None) as client:
        user = User(client, server.data)
        stream = user.stream()
        source: Source = user.source({stream: "ReadWrite"})
        source.push(stream, "before")
        (listed,) = command("source", "list", user.name, data=server.data)
        assert listed["id"] == source.id

        assert command("source", "delete", user.name, str(source.id), data=server.data)["deleted"] is True

        wait_until(lambda: client.get(f"/Stream/{stream}/Pull/0?Key={source.key}").status_code != 200)
        source.refused(f"/Stream/{stream}/Push", "Key", Message="after", reason="SourceKeyDoesNotExist")
        assert command("source", "list", user.name, data=server.data) == []
