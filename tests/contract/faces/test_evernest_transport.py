"""Evernest's transport: methods, paths, parameters, keys and envelopes."""

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evernest import User, answer, error_of, fresh, refusal, response_of
from serving import Server

KEY = re.compile(r"[A-Za-z0-9_-]{32}")


@pytest.fixture
def alice(server: Server, client: httpx.Client) -> User:
    return User(client, server.data)


def test_a_document_describes_every_route(client: httpx.Client) -> None:
    """Each by both methods, with its key where that method has it; and no operation under a name of another."""
    document = client.get("/Evernest/openapi.json").json()

    operations = [operation for path in document["paths"].values() for operation in path.values()]
    push = document["paths"]["/Stream/{StreamId}/Push"]
    by_query = {one["name"]: one["required"] for one in push["get"]["parameters"] if one["in"] == "query"}
    body = push["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 33
    assert by_query == {"Key": True, "Message": True}
    assert document["components"]["schemas"][body]["required"] == ["Key", "Message"]
    assert push["get"]["security"] == []
    assert {"200", "400", "403", "429", "503"} <= push["get"]["responses"].keys()


def test_every_route_answers_get_and_post_alike(alice: User) -> None:
    stream = alice.stream()
    source = alice.source({stream: "ReadWrite"})
    source.push(stream, "a")
    asked = [
        (f"/Stream/{stream}", {"Key": source.key}),
        (f"/Stream/{stream}/Pull/0", {"Key": source.key}),
        (f"/Stream/{stream}/Pull/0/0", {"Key": source.key}),
        (f"/Stream/{stream}/Pull/Random", {"Key": source.key}),
        (f"/Right/{stream}", {"Key": source.key}),
        (f"/Right/{source.id}/{stream}", {"UserKey": alice.key}),
        ("/Source", {"Key": source.key}),
        (f"/Source/{source.id}", {"UserKey": alice.key}),
        ("/User", {"UserKey": alice.key}),
        (f"/User/{alice.id}", {}),
        (f"/UserRight/{alice.id}/{stream}", {"UserKey": alice.key}),
    ]
    for path, key in asked:
        by_query = [alice.client.request(method, path, params=key) for method in ("GET", "POST")]
        by_body = [alice.client.request(method, path, json=key) for method in ("GET", "POST")]
        responses = [response_of(reply) for reply in by_query + by_body]
        assert responses.count(responses[0]) == 4, path


def test_what_changes_something_takes_get_as_well(alice: User) -> None:
    def get(path: str, **parameters: str) -> Any:
        return response_of(alice.client.get(path, params=parameters))

    stream = get("/Stream/New", UserKey=alice.key, StreamName=fresh("stream"))["Stream"]["Id"]
    source = get("/Source/New", UserKey=alice.key, SourceName="s")["Source"]
    get(f"/Right/{source['Id']}/{stream}/Set/WriteOnly", UserKey=alice.key)
    pushed = get(f"/Stream/{stream}/Push", Key=source["Key"], Message="by query, é & +")
    assert (pushed["EventId"], pushed["Event"]["Message"]) == (0, "by query, é & +")


def test_paths_and_names_are_found_in_any_case_but_keys_are_not(alice: User) -> None:
    stream = alice.stream()
    source = alice.source({stream: "ReadWrite"}, name="S")
    source.push(stream, "a")
    for path in (f"/sTrEaM/{stream}/pUlL/RANDOM", f"/STREAM/{stream}/pull/random/"):
        assert response_of(alice.client.get(f"{path}?kEy={source.key}"))["Event"]["Message"] == "a"
    assert answer(alice.client, "/source/new/", userKEY=alice.key, SOURCEname="T")["Source"]["Name"] == "T"
    swapped = source.key.swapcase()
    refusal(alice.client, f"/Stream/{stream}", "Key", Key=swapped, reason="SourceKeyDoesNotExist")


def test_the_body_goes_before_the_query(alice: User) -> None:
    source = alice.source()
    for wrong in ("nonsense", alice.key):
        reply = alice.client.request("GET", "/Source", params={"key": wrong}, json={"KEY": source.key})
        assert response_of(reply)["Source"]["Id"] == source.id
    error_of(
        alice.client.post("/Source", params={"Key": source.key}, json={"Key": "nonsense"}),
        400,
        "BadArgument",
        "Key",
        reason="SourceKeyDoesNotExist",
    )


def test_null_is_as_good_as_not_given(alice: User) -> None:
    source = alice.source()
    assert alice.client.post("/Source", params={"Key": source.key}, json={"Key": None}).status_code == 200
    assert alice.client.post("/Source", params={"Key": source.key}, content=b" null\n").status_code == 200
    assert alice.client.post("/Source", params={"Key": source.key}, content=b" \n").status_code == 200
    refusal(alice.client, "/Source", "Key", message="MissingArgument", Key=None)


def test_without_a_key_the_missing_argument_is_named_twice(alice: User) -> None:
    """As a list, which is documented, and as the string that servers before this one sent."""
    for path, name in (("/Source", "Key"), ("/User", "UserKey")):
        error = refusal(alice.client, path, name, message="MissingArgument")
        assert error["Argument"] == name


def test_a_key_of_the_other_kind_is_as_bad_as_an_unknown_one(alice: User) -> None:
    source = alice.source()
    for key in ("", "unknown", "x" * 32, alice.key):
        refusal(alice.client, "/Source", "Key", Key=key, reason="SourceKeyDoesNotExist")
    for key in ("", "unknown", "x" * 32, source.key):
        refusal(alice.client, "/User", "UserKey", UserKey=key, reason="UserKeyDoesNotExist")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'["Key"]', b'"Key"', b"5", b'{"Key":"\\ud800"}', b'{"Key":"\xff"}', b"Key=x", b"[" * 100_000],
)
def test_a_body_that_is_no_json_object_is_a_bad_request(client: httpx.Client, body: bytes) -> None:
    error_of(client.post("/Source", content=body), 400, "BadRequest")


@pytest.mark.parametrize("query", ["=x", "Key=%ff", "a=1&=2"])
def test_a_query_that_cannot_be_read_is_a_bad_request(client: httpx.Client, query: str) -> None:
    error_of(client.get(f"/Source?{query}"), 400, "BadRequest")


@pytest.mark.parametrize("value", [5, True, ["x"], {"a": "b"}, 1.5])
def test_a_value_that_is_no_string_is_a_bad_argument(client: httpx.Client, value: object) -> None:
    refusal(client, "/Source", "Key", Key=value, reason="InvalidString")


def test_names_given_twice_are_joined_in_the_query_and_the_last_counts_in_the_body(alice: User) -> None:
    source = alice.source()
    twice = alice.client.get(f"/Source?Key={source.key}&KEY={source.key}")
    error_of(twice, 400, "BadArgument", "Key", reason="SourceKeyDoesNotExist")
    body = f'{{"Key": "nonsense", "kEy": "{source.key}", "Other": {{}}}}'
    assert response_of(alice.client.post("/Source", content=body))["Source"]["Id"] == source.id


def test_the_body_is_json_whatever_its_type_says(alice: User) -> None:
    source = alice.source()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"):
        reply = alice.client.post("/Source", content=f'{{"Key": "{source.key}"}}', headers={"Content-Type": media_type})
        assert response_of(reply)["Source"]["Id"] == source.id


def test_every_answer_says_success_and_the_time(alice: User) -> None:
    replies = [
        alice.client.get(f"/User/{alice.id}"),
        alice.client.get("/User"),
        alice.client.get("/Stream/none"),
        alice.client.put("/Source"),
    ]
    for reply in replies:
        body = reply.json()
        assert isinstance(body["Success"], bool)
        assert ("Response" in body) is body["Success"]
        assert ("Error" in body) is not body["Success"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", body["UtcTime"])
        assert datetime.fromisoformat(body["UtcTime"]).utcoffset() is not None
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/Stream",
        "/Stream/abc",
        "/Stream/-1",
        "/Stream/1.5",
        "/Stream/8/Pull",
        "/Stream/8/Pull/x",
        "/Stream/8/Pull/1/2/3",
        "/Stream/8/Delete",
        "/Source/x",
        "/Source/0/Delete",
        "/Right",
        "/Right/1/2/3",
        "/User/me",
        "/UserRight/8",
        "/user/8/x",
    ],
)
def test_a_path_that_is_none_is_told_in_the_envelope(client: httpx.Client, path: str) -> None:
    error_of(client.get(path), 404, "BadRequest")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_other_methods_are_not_taken(client: httpx.Client, method: str) -> None:
    """HEAD neither, for it would push."""
    reply = client.request(method, "/Stream/8/Push")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")
    if method != "HEAD":
        assert "HEAD" not in error_of(reply, 405, "BadRequest")["HelpMessage"]


def test_a_guid_is_one_and_a_fresh_one_each_time(alice: User) -> None:
    stream = alice.stream()
    source = alice.source()
    guids = [alice.ask(f"/Right/{source.id}/{stream}/Set/ReadOnly")["Guid"] for _ in range(3)]
    guids.append(alice.ask("/Source/New", SourceName=fresh("source"))["Guid"])
    assert [str(UUID(guid)) for guid in guids] == guids
    assert len(set(guids)) == 4


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        ("/Stream/{big}", "StreamId", "EventStreamIdDoesNotExist"),
        ("/Stream/{stream}/Pull/{big}", "EventId", "InvalidEventId"),
        ("/Stream/{stream}/Pull/-{big}", "EventId", "InvalidEventId"),
        ("/Stream/{stream}/Pull/{big}/0", "FromEventId", "InvalidEventId"),
        ("/Stream/{stream}/Pull/0/{big}", "ToEventId", "InvalidEventId"),
        ("/Stream/{big}/Push", "StreamId", "EventStreamIdDoesNotExist"),
    ],
)
@pytest.mark.parametrize("big", [1 << 63, 10**30, int("9" * 4_000)], ids=["2^63", "31 digits", "4,000 digits"])
def test_an_id_beyond_64_bits_is_a_bad_argument(alice: User, path: str, name: str, reason: str, big: int) -> None:
    stream = alice.stream()
    source = alice.source({stream: "ReadWrite"})
    source.refused(path.format(stream=stream, big=big), name, reason=reason, Message="x")


def test_keys_have_32_characters_of_their_alphabet(alice: User) -> None:
    assert KEY.fullmatch(alice.key)
    assert KEY.fullmatch(alice.source().key)


_WORDS = st.sampled_from(["Stream", "sOURCE", "Right", "User", "UserRight", "Pull", "Push", "New", "Set", "Random"])
_PARTS = _WORDS | st.sampled_from(["8", "-1", "0", "9" * 30, "ReadOnly", "%00", "%ff", "*"])
_NAMES = st.sampled_from(["Key", "userkey", "Message", "StreamName", "SOURCENAME", "Password", "Format", ""])
_ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)


@given(
    st.lists(_PARTS, min_size=1, max_size=6),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(st.tuples(_NAMES, st.text(max_size=10)), max_size=3),
    st.binary(max_size=50) | st.dictionaries(_NAMES, _ANYTHING, max_size=4).map(lambda body: json.dumps(body).encode()),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_is_asked_the_answer_is_an_envelope(
    client: httpx.Client, path: list[str], method: str, query: list[tuple[str, str]], body: bytes
) -> None:
    """And never the server's fault."""
    reply = client.request(method, f"/{'/'.join(path)}?{urlencode(query)}", content=body)
    if path[0].lower() in ("stream", "source", "right", "user", "userright"):
        assert reply.json()["Success"] is (reply.status_code == 200)
    assert reply.status_code in (200, 400, 403, 404, 405)
