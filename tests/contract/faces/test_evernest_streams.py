"""Evernest's streams: pushed messages, and how they are pulled."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from evernest import Source, User, error_of, fresh, refusal, response_of
from serving import Server

TEXTS = [
    "",
    " ",
    "plain",
    "two\nlines\r\n",
    'quotes " and \\ backslashes',
    "é ß 漢字 🙂 \u202e",
    "a NUL \x00 inside",
    "{}",
    '{"message": "in JSON"}',
    " " * 65_535,
    "x" * (1 << 20),
]


@pytest.fixture
def alice(server: Server, client: httpx.Client) -> User:
    return User(client, server.data)


@pytest.fixture
def numbers(alice: User) -> int:
    return alice.stream()


@pytest.fixture
def source(alice: User, numbers: int) -> Source:
    return alice.source({numbers: "ReadWrite"})


def test_a_fresh_stream_is_empty(source: Source, numbers: int) -> None:
    found = source.ask(f"/Stream/{numbers}")["Stream"]
    assert (found["Id"], found["Count"], found["LastEventId"]) == (numbers, 0, -1)


def test_events_are_counted_from_zero(source: Source, numbers: int) -> None:
    assert [source.push(numbers, text)["EventId"] for text in ("a", "b")] == [0, 1]
    found = source.ask(f"/Stream/{numbers}")["Stream"]
    assert (found["Count"], found["LastEventId"]) == (2, 1)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_message_comes_back_as_it_was_pushed(source: Source, numbers: int, text: str) -> None:
    pushed = source.push(numbers, text)["Event"]
    assert pushed["Message"] == text
    assert source.pull(numbers, -1) == pushed


def test_a_message_too_large_is_refused(source: Source, numbers: int) -> None:
    source.refused(f"/Stream/{numbers}/Push", "Message", Message="x" * ((1 << 20) + 1), reason="InvalidString")
    assert source.ask(f"/Stream/{numbers}")["Stream"]["Count"] == 0


def test_an_event_says_who_pushed_it_and_when(source: Source, numbers: int, alice: User) -> None:
    event = source.push(numbers, "a")["Event"]
    assert (event["AuthorId"], event["AuthorName"]) == (alice.id, alice.name)
    name = source.ask(f"/Stream/{numbers}")["Stream"]["Name"]
    assert (event["Id"], event["ParentStreamId"], event["ParentStreamName"]) == (0, numbers, name)
    dates = [event["Date"], *(source.push(numbers, "b")["Event"]["Date"] for _ in range(10))]
    assert dates == sorted(dates)
    assert all(date.endswith("0Z") and len(date) == 28 for date in dates)


def test_a_push_without_a_message_is_missing_it(alice: User, numbers: int) -> None:
    """Which is looked at after the key and the stream, and before the right."""
    nobody = alice.source()
    path = f"/Stream/{numbers}/Push"
    refusal(alice.client, path, "Key", message="MissingArgument")
    refusal(alice.client, path, "Message", Key=nobody.key, message="MissingArgument")
    refusal(alice.client, path, "Message", Key=nobody.key, Message=None, message="MissingArgument")
    nobody.refused(path, "Message", Message=5, reason="InvalidString")
    nobody.refused("/Stream/999999/Push", "StreamId", reason="EventStreamIdDoesNotExist")


def test_a_range_has_both_its_ends(source: Source, numbers: int) -> None:
    for number in range(20):
        source.push(numbers, str(number))
    path = f"/Stream/{numbers}/Pull"

    def pulled(first: int, last: int) -> list[int]:
        events = source.ask(f"{path}/{first}/{last}")["Events"]
        assert [int(event["Message"]) for event in events] == [event["Id"] for event in events]
        return [event["Id"] for event in events]

    assert pulled(5, 10) == [5, 6, 7, 8, 9, 10]
    assert pulled(5, 5) == [5]
    assert pulled(-10, -1) == list(range(10, 20))
    assert pulled(0, 19) == pulled(-20, -1) == pulled(0, -1)
    for first, last in ((10, 5), (0, 20), (-21, 0), (20, 20), (-1, 0)):
        source.refused(f"{path}/{first}/{last}", "FromEventId", "ToEventId", reason="InvalidEventId")


def test_an_event_may_be_counted_from_the_end(source: Source, numbers: int) -> None:
    for number in range(3):
        source.push(numbers, str(number))
    assert [source.pull(numbers, place)["Id"] for place in (-1, -2, -3, 0)] == [2, 1, 0, 0]
    for place in (3, -4, 10**18):
        source.refused(f"/Stream/{numbers}/Pull/{place}", "EventId", reason="InvalidEventId")


def test_an_empty_stream_has_no_range_and_no_random_event(source: Source, numbers: int) -> None:
    source.refused(f"/Stream/{numbers}/Pull/0", "EventId", reason="InvalidEventId")
    source.refused(f"/Stream/{numbers}/Pull/0/0", "FromEventId", "ToEventId", reason="InvalidEventId")
    error = source.refused(f"/Stream/{numbers}/Pull/Random", "StreamId", reason="EmptyStream")
    assert error["HelpMessage"] == "Empty stream"


def test_a_random_event_may_be_any(source: Source, numbers: int) -> None:
    path = f"/Stream/{numbers}/Pull/Random"
    source.push(numbers, "0")
    assert source.ask(path)["Event"]["Id"] == 0
    source.push(numbers, "1")
    source.push(numbers, "2")
    drawn = Counter(source.ask(path)["Event"]["Id"] for _ in range(150))
    assert set(drawn) == {0, 1, 2}
    assert min(drawn.values()) > 20  # one in a million runs fails


def test_events_can_be_had_as_bare_strings(source: Source, numbers: int) -> None:
    source.push(numbers, "a")
    source.push(numbers, "b")
    path = f"/Stream/{numbers}/Pull"
    assert source.ask(f"{path}/1", Format="text") == {"Event": "b"}
    assert source.ask(f"{path}/0/1", format="TEXT") == {"Events": ["a", "b"]}


def test_concurrent_pushes_get_each_id_once(server: Server, source: Source, numbers: int) -> None:
    def push(number: int) -> int:
        with server.client(None) as client:
            reply = client.post(f"/Stream/{numbers}/Push", json={"Key": source.key, "Message": str(number)})
            event: int = response_of(reply)["EventId"]
            assert response_of(client.get(f"/Stream/{numbers}/Pull/{event}", params={"Key": source.key}))["Event"][
                "Message"
            ] == str(number)
            return event

    with ThreadPoolExecutor(10) as threads:
        assert sorted(threads.map(push, range(100))) == list(range(100))


def test_a_range_over_the_cap_is_refused_and_not_cut(server: Server, source: Source, numbers: int) -> None:
    """At most 10,000 events in one answer. Sent through the other door, which takes them by the thousand."""
    key = source.owner.datastream_key()
    name = source.ask(f"/Stream/{numbers}")["Stream"]["Name"]
    with server.client(key) as other:
        body = {"stream_id": name, "events": [{"event_type": "a", "data": {"n": n}} for n in range(5_001)]}
        for _ in range(2):
            assert other.post("/v2/ingest/batch", json=body).status_code == 200
    path = f"/Stream/{numbers}/Pull"
    assert len(source.ask(f"{path}/1/10000")["Events"]) == 10_000
    source.refused(f"{path}/0/10000", "FromEventId", "ToEventId", reason="RangeTooLarge")


def test_a_stream_is_made_by_name_once(alice: User) -> None:
    name = fresh("stream")
    made = alice.ask("/Stream/New", StreamName=name)["Stream"]
    assert made == {"Id": made["Id"], "Name": name}
    assert made["Id"] >= 8
    other = User(alice.client, alice.data)
    for user in (alice, other):
        user.refused("/Stream/New", "StreamName", StreamName=name, reason="EventStreamNameTaken")
    refusal(alice.client, "/Stream/New", "StreamName", UserKey=alice.key, message="MissingArgument")
    for bad in ("", "x" * 256, "a\nb", "\x00"):
        alice.refused("/Stream/New", "StreamName", StreamName=bad, reason="InvalidString")
    assert alice.stream("y" * 200 + fresh("stream")) > made["Id"]


def test_a_stream_made_here_keeps_everything(alice: User, server: Server) -> None:
    name = fresh("stream")
    alice.stream(name)
    with server.client(alice.datastream_key()) as other:
        assert other.get(f"/v2/streams/{name}").json()["retention_days"] is None


def test_a_message_that_breaks_the_schema_of_its_stream_is_refused(alice: User, server: Server) -> None:
    """On both ways: the second is known to the short one."""
    name = fresh("stream")
    stream = alice.stream(name)
    source = alice.source({stream: "ReadWrite"})
    schema = {"properties": {"message": {"maxLength": 3}}}
    with server.client(alice.datastream_key()) as other:
        assert other.patch(f"/v2/streams/{name}", json={"schema": schema}).status_code == 200
    source.push(stream, "yes")
    for _ in range(2):
        source.refused(f"/Stream/{stream}/Push", "Message", Message="no, it is long", reason="SchemaViolation")
    assert source.push(stream, "end")["EventId"] == 1


def test_a_push_that_is_answered_can_be_read_by_others_at_once(server: Server, source: Source, numbers: int) -> None:
    """A reader that asks for the next event all the while never finds a gap."""
    done = threading.Event()
    seen = list[int]()

    def read() -> None:
        with server.client(None) as client:
            while not done.is_set():
                path = f"/Stream/{numbers}"
                total = response_of(client.get(path, params={"Key": source.key}))["Stream"]["Count"]
                if total:
                    reply = client.get(f"{path}/Pull/0/{total - 1}", params={"Key": source.key})
                    seen.append(len(response_of(reply)["Events"]) - total)

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        for number in range(50):
            assert source.push(numbers, str(number))["EventId"] == number
            assert source.pull(numbers, number)["Message"] == str(number)
        done.set()
        reading.result(30)
    assert set(seen) == {0}


def test_an_unknown_stream_is_told_before_what_is_wanted_of_it(source: Source) -> None:
    for path in ("", "/Pull/0", "/Pull/1/0", "/Pull/Random", "/Push"):
        source.refused(f"/Stream/999999{path}", "StreamId", Message="x", reason="EventStreamIdDoesNotExist")


def test_the_door_is_shut_to_a_body_over_the_limit(client: httpx.Client) -> None:
    error_of(client.post("/Source", content=b"x" * ((16 << 20) + 1)), 413, "BadRequest")
