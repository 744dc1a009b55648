"""One core behind two doors: the same streams, events, order and accounts, through Evernest and through DataStream."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from evernest import Source, User, command, fresh, response_of
from serving import Server, found, refused, send, serving

WRITERS = 10
EACH = 40


@pytest.fixture
def alice(server: Server) -> Iterator[User]:
    with server.client(None) as client:
        yield User(client, server.data)


@pytest.fixture
def other_door(server: Server, alice: User) -> Iterator[httpx.Client]:
    """DataStream, as the same account."""
    with server.client(alice.datastream_key()) as client:
        yield client


def every_event(client: httpx.Client, name: str) -> list[dict[str, Any]]:
    """All events of a stream in the order of their ids, which is the order in which they came."""
    events: list[dict[str, Any]] = []
    while True:
        page = found(client, name, limit="1000", offset=str(len(events)))
        if not page:
            return sorted(events, key=lambda event: event["event_id"])
        events += page


def test_a_message_is_an_event_behind_the_other_door(alice: User, other_door: httpx.Client) -> None:
    name = fresh("stream")
    stream = alice.stream(name)
    pushed = alice.source({stream: "WriteOnly"}).push(stream, "two\nlines é")["Event"]

    [event] = found(other_door, name)

    assert event["event_type"] == "evernest.message"
    assert event["data"] == {"message": "two\nlines é", "author_id": alice.id, "author_name": alice.name}
    assert event["timestamp"].rstrip("Z") in pushed["Date"]
    assert "metadata" not in event


def test_an_event_is_a_message_behind_this_door(alice: User, other_door: httpx.Client) -> None:
    """Its data as compact JSON, by the account behind the key, with its own timestamp."""
    name = fresh("stream")
    data = '{ "b": 1.0, "a": [ ] }'
    body = f'{{"stream_id": "{name}", "event_type": "t", "timestamp": "2024-03-15T10:30:00.5Z", "data": {data}}}'
    reply = other_door.post("/v2/ingest/events", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 200
    stream = alice.ask("/User")["User"]["Streams"][-1]["Id"]
    source = alice.source({stream: "ReadOnly"})

    event = source.pull(stream, 0)

    assert event == {
        "Id": 0,
        "Message": '{"b":1.0,"a":[]}',
        "Date": "2024-03-15T10:30:00.5000000Z",
        "AuthorId": alice.id,
        "AuthorName": alice.name,
        "ParentStreamId": stream,
        "ParentStreamName": name,
    }


def test_messages_can_be_filtered_and_counted_behind_the_other_door(alice: User, other_door: httpx.Client) -> None:
    name = fresh("stream")
    stream = alice.stream(name)
    source = alice.source({stream: "WriteOnly"})
    for text in ("an error", "fine", "another error"):
        source.push(stream, text)

    assert len(found(other_door, name, filter='data.message~"error"')) == 2
    wanted = {"stream_id": name, "aggregations": [{"operation": "count"}], "group_by": ["data.author_name"]}
    [result] = other_door.post("/v2/query/aggregate", json=wanted).json()["results"]
    assert (result["group"], result["count"]) == ({"data.author_name": alice.name}, 3)


def test_ten_writers_through_both_doors_are_read_in_one_order(server: Server, alice: User) -> None:
    """Ids without gaps, each writer's own order kept, and the same sequence whichever door reads it."""
    name = fresh("stream")
    stream = alice.stream(name)
    source = alice.source({stream: "ReadWrite"})
    key = alice.datastream_key()

    def write(writer: int) -> None:
        with server.client(key if writer % 2 else None) as client:
            for number in range(EACH):
                text = f"{writer}:{number}"
                if writer % 2:
                    send(client, name, {"event_type": "t", "data": {"message": text}})
                else:
                    body = {"Key": source.key, "Message": text}
                    response_of(client.post(f"/Stream/{stream}/Push", json=body))

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))

    pulled = source.ask(f"/Stream/{stream}/Pull/0/-1")["Events"]
    with server.client(key) as client:
        queried = [event["data"]["message"] for event in every_event(client, name)]
    here = [json.loads(text)["message"] if text.startswith("{") else text for text in source.messages(stream)]
    assert [event["Id"] for event in pulled] == list(range(WRITERS * EACH))
    assert here == queried
    assert Counter(here) == Counter(f"{writer}:{number}" for writer in range(WRITERS) for number in range(EACH))
    for writer in range(WRITERS):
        assert [text for text in here if text.startswith(f"{writer}:")] == [f"{writer}:{n}" for n in range(EACH)]


def test_a_name_is_one_stream_behind_both_doors(alice: User, other_door: httpx.Client) -> None:
    name = fresh("stream")
    stream = alice.stream(name)
    refused(other_door.post("/v2/streams", json={"stream_id": name}), 409, "CONFLICT")
    there = fresh("stream")
    assert other_door.post("/v2/streams", json={"stream_id": there}).status_code == 201
    alice.refused("/Stream/New", "StreamName", StreamName=there, reason="EventStreamNameTaken")
    assert alice.ask("/User")["User"]["Streams"] == [{"Id": stream}, {"Id": stream + 1}]


def test_a_name_in_use_by_others_is_taken_and_nothing_is_told_of_it(alice: User, client: httpx.Client) -> None:
    name = fresh("stream")
    send(client, name, {"event_type": "t"})
    error = alice.refused("/Stream/New", "StreamName", StreamName=name, reason="EventStreamNameTaken")
    assert set(error) == {"Message", "HelpMessage", "Arguments", "Reason"}
    assert error["HelpMessage"] == "A stream of this name exists already: choose another."
    assert alice.ask("/User")["User"]["Streams"] == []


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Users, keys, sources, rights and events; and ids go on where they were."""
    data = tmp_path / "data"
    with serving(data) as server, server.client(None) as client:
        alice, bob = User(client, data), User(client, data)
        stream = alice.stream("numbers")
        source = alice.source({stream: "ReadWrite"}, name="s")
        alice.share(bob, stream, "ReadOnly")
        reader = bob.source({stream: "ReadOnly"})
        before = [source.push(stream, str(number))["Event"] for number in range(5)]
        seen = source.ask("/Source"), alice.ask("/User"), bob.ask("/User")
        assert server.stop() == 0

    with serving(data) as server, server.client(None) as client:
        for user in (alice, bob):
            user.client = client
        for one in (source, reader):
            one.client = client
        assert (stream, alice.id, bob.id) == (8, 9, 10)
        assert reader.ask(f"/Stream/{stream}/Pull/0/-1")["Events"] == before
        assert (source.ask("/Source"), alice.ask("/User"), bob.ask("/User")) == seen
        assert source.push(stream, "5")["EventId"] == 5
        assert (alice.source().id, alice.stream()) == (1, 9)
        reader.refused(f"/Stream/{stream}/Push", "Key", Message="x", reason="WriteAccessDenied", status=403)


def test_a_user_key_that_is_revoked_ends_while_the_server_runs(alice: User) -> None:
    """Within half a second, and the sources stay."""
    source = alice.source()
    second = command("user", "key", alice.name, "--name", "second", data=alice.data)["user_key"]
    command("user", "key", alice.name, "--name", "first", "--revoke", data=alice.data)

    alice.refused("/User", "UserKey", reason="UserKeyDoesNotExist")
    alice.key = second
    assert alice.ask("/User")["User"]["Sources"] == [{"Id": source.id}]
    assert Source.ask(source, "/Source")["Source"]["Id"] == source.id
