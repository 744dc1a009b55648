"""DataStream's credentials: API keys, tokens, scopes, tiers, and the right not to know."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from serving import API_KEY, EMAIL, PASSWORD, Server, refused, send, serving
from waiting import PATIENCE_S, in_one_window

EVENT = {"event_type": "x"}


def make_key(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    response = client.post("/v2/keys", json={"name": "test", **wanted})
    assert response.status_code == 201, response.text
    key: dict[str, Any] = response.json()
    return key


@pytest.fixture
def limited(server: Server, client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Speaks with a new key of the operator's; `indirect` parameters say what it is for."""
    with server.client(make_key(client, **request.param)["key"]) as speaking:
        yield speaking


@pytest.mark.parametrize("headers", [{"X-API-Key": API_KEY}, {"Authorization": f"Bearer {API_KEY}"}])
def test_a_key_is_taken_in_either_header(server: Server, headers: dict[str, str]) -> None:
    """X-API-Key, or Authorization: Bearer."""
    assert httpx.get(f"{server.url}/v2/streams", headers=headers, timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "ms_unknown-but-well-formed-key-0123456789"},
        {"X-API-Key": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": f"Basic {API_KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/v2/streams", "/v2/query/events?stream_id=x", "/v2/keys", "/metrics", "/v2/metrics"])
def test_without_a_good_credential_nothing_is_told(tmp_server: Server, path: str, headers: dict[str, str]) -> None:
    """401 with WWW-Authenticate, before anything else is looked at."""
    response = httpx.get(f"{tmp_server.url}{path}", headers=headers, timeout=PATIENCE_S)

    refused(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def tmp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own, whose limit on wrong credentials nobody else uses up."""
    with serving(tmp_path_factory.mktemp("credentials") / "data") as running:
        yield running


def test_a_key_in_the_query_is_not_taken(server: Server) -> None:
    """Addresses end up in logs; only sockets and event streams, which have no headers, may do so."""
    refused(httpx.get(f"{server.url}/v2/streams?api_key={API_KEY}", timeout=PATIENCE_S), 401, "UNAUTHENTICATED")


def test_a_new_key_is_shown_once(client: httpx.Client) -> None:
    """The answer to its creation holds it, the list does not."""
    made = make_key(client, name="for the shop", tier="professional", scopes=["events:write"], streams=["a", "b"])
    listed = next(key for key in client.get("/v2/keys?limit=1000").json()["keys"] if key["id"] == made["id"])

    assert made["key"].startswith("ms_")
    assert len(made["key"]) == 46
    assert set(made) - set(listed) == {"key"}
    assert (made["name"], made["tier"], made["scopes"], made["streams"]) == (
        "for the shop",
        "professional",
        ["events:write"],
        ["a", "b"],
    )
    assert made["expires_at"] is None
    assert made["created_at"].endswith("Z")


def test_a_key_for_some_streams_manages_no_others(server: Server, client: httpx.Client, stream: str) -> None:
    """It may hand on what it has, but neither see nor end keys for other streams."""
    other = make_key(client)
    made = make_key(client, scopes=["admin", "events:read"], streams=[stream])
    with server.client(made["key"]) as limited:
        refused(limited.get("/v2/keys"), 403, "PERMISSION_DENIED")
        refused(limited.delete(f"/v2/keys/{other['id']}"), 403, "PERMISSION_DENIED")
        assert make_key(limited, scopes=["events:read"])["streams"] == [stream]


def test_a_new_key_may_send_read_and_make_streams(server: Server, client: httpx.Client, stream: str) -> None:
    """That is the default, so that the first request works."""
    made = make_key(client)
    with server.client(made["key"]) as limited:
        send(limited, stream, EVENT)
        assert limited.get(f"/v2/query/events?stream_id={stream}").json()["total_count"] == 1

    assert made["scopes"] == ["events:read", "events:write", "streams:manage"]
    assert made["tier"] == "standard"


def test_a_revoked_key_is_good_for_nothing_at_once(server: Server, client: httpx.Client) -> None:
    """From the next request on."""
    made = make_key(client)
    with server.client(made["key"]) as limited:
        assert limited.get("/v2/streams").status_code == 200
        assert client.delete(f"/v2/keys/{made['id']}").status_code == 204
        refused(limited.get("/v2/streams"), 401, "UNAUTHENTICATED")

    refused(client.delete(f"/v2/keys/{made['id']}"), 404, "NOT_FOUND")


def test_an_expiry_must_lie_ahead_and_have_a_zone(client: httpx.Client) -> None:
    """Times are RFC 3339, here as everywhere."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    wanted = {"name": "test"}

    assert make_key(client, expires_at=tomorrow)["expires_at"] == tomorrow
    refused(client.post("/v2/keys", json={**wanted, "expires_at": "2020-01-01T00:00:00Z"}), 400, "INVALID_REQUEST")
    refused(client.post("/v2/keys", json={**wanted, "expires_at": tomorrow[:-1]}), 400, "INVALID_TIMESTAMP")


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"scopes": ["everything"]}, {"scopes": []}, {"tier": "gold"}, {"streams": []}, {"nmae": "x"}],
)
def test_a_wrong_key_is_refused(client: httpx.Client, wrong: dict[str, Any]) -> None:
    """Each by the name of its field."""
    response = client.post("/v2/keys", json={"name": "test", **wrong})

    assert refused(response, 400, "INVALID_REQUEST")["field"].startswith(next(iter(wrong)))


@pytest.mark.parametrize("limited", [{"scopes": ["events:read"]}], indirect=True)
def test_a_key_without_the_scope_is_denied(limited: httpx.Client, client: httpx.Client, stream: str) -> None:
    """403, with the scope that is missing."""
    send(client, stream, EVENT)
    single = {"stream_id": stream, "event_type": "x"}

    assert refused(limited.post("/v2/ingest/events", json=single), 403, "PERMISSION_DENIED")["scope"] == "events:write"
    refused(limited.post("/v2/ingest/batch", json={"stream_id": stream, "events": [EVENT]}), 403, "PERMISSION_DENIED")
    refused(limited.patch(f"/v2/streams/{stream}", json={"paused": True}), 403, "PERMISSION_DENIED")
    refused(limited.post("/v2/streams", json={"stream_id": f"{stream}-new"}), 403, "PERMISSION_DENIED")
    refused(limited.delete(f"/v2/streams/{stream}?confirm={stream}"), 403, "PERMISSION_DENIED")
    refused(limited.post("/v2/keys", json={"name": "more"}), 403, "PERMISSION_DENIED")
    refused(limited.get("/v2/keys"), 403, "PERMISSION_DENIED")
    assert limited.get(f"/v2/query/events?stream_id={stream}").status_code == 200


@pytest.mark.parametrize("limited", [{"scopes": ["events:write"]}], indirect=True)
def test_a_key_that_only_writes_reads_nothing(limited: httpx.Client, client: httpx.Client, stream: str) -> None:
    """Nor does it make streams: an unknown one is not there."""
    send(client, stream, EVENT)
    aggregate = {"stream_id": stream, "aggregations": [{"operation": "count"}]}

    send(limited, stream, EVENT)
    refused(limited.get(f"/v2/query/events?stream_id={stream}"), 403, "PERMISSION_DENIED")
    refused(limited.post("/v2/query/aggregate", json=aggregate), 403, "PERMISSION_DENIED")
    refused(limited.get(f"/v2/streams/{stream}/status"), 403, "PERMISSION_DENIED")
    refused(limited.get("/v2/streams"), 403, "PERMISSION_DENIED")
    response = limited.post("/v2/ingest/events", json={"stream_id": f"{stream}-new", "event_type": "x"})
    assert refused(response, 404, "INVALID_STREAM_ID") == {"stream_id": f"{stream}-new"}


@pytest.mark.parametrize("limited", [{"streams": ["its-own"]}], indirect=True)
def test_a_key_for_some_streams_knows_no_others(limited: httpx.Client, client: httpx.Client, stream: str) -> None:
    """A stream that it may not touch looks exactly like one that is not there."""
    send(client, stream, EVENT)
    send(limited, "its-own", EVENT)

    there, missing = (limited.get(f"/v2/streams/{name}/status") for name in (stream, "missing"))
    assert refused(there, 404, "INVALID_STREAM_ID") == {"stream_id": stream}
    assert there.text.replace(stream, "missing") == missing.text
    refused(limited.post("/v2/ingest/events", json={"stream_id": stream, "event_type": "x"}), 404, "INVALID_STREAM_ID")
    assert [one["stream_id"] for one in limited.get("/v2/streams").json()["streams"]] == ["its-own"]


def test_nobody_gives_what_he_does_not_have(server: Server, client: httpx.Client) -> None:
    """A token of the administrator makes any key; a limited key makes none at all."""
    made = make_key(client, scopes=["admin", "events:read"], streams=["one"])
    with server.client(made["key"]) as limited:
        inner = make_key(limited, scopes=["events:read"])
        assert inner["streams"] == ["one"]
        response = limited.post("/v2/keys", json={"name": "x", "scopes": ["events:read"], "streams": ["two"]})
        refused(response, 403, "PERMISSION_DENIED")


def test_signing_in_gives_a_token(server: Server) -> None:
    """The same account, the same rights, without a key."""
    answer = httpx.post(f"{server.url}/v2/auth/token", json={"email": EMAIL, "password": PASSWORD}, timeout=PATIENCE_S)
    token = answer.json()

    assert token.keys() == {"access_token", "token_type", "expires_in"}
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3_600)
    assert answer.headers["cache-control"] == "no-store"
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert httpx.get(f"{server.url}/v2/keys", headers=headers, timeout=PATIENCE_S).status_code == 200


def test_a_wrong_password_and_an_unknown_account_look_the_same(server: Server) -> None:
    """Nobody finds out who has an account here."""
    answers = [
        httpx.post(f"{server.url}/v2/auth/token", json={"email": email, "password": "wrong"}, timeout=PATIENCE_S)
        for email in (EMAIL, "nobody@example.com")
    ]

    assert [refused(answer, 401, "UNAUTHENTICATED") for answer in answers] == [{}, {}]
    assert answers[0].text == answers[1].text


def test_a_tampered_token_is_refused(server: Server) -> None:
    """Changing any of its three parts breaks it."""
    body = {"email": EMAIL, "password": PASSWORD}
    parts = httpx.post(f"{server.url}/v2/auth/token", json=body, timeout=PATIENCE_S).json()["access_token"].split(".")
    for index in range(3):
        changed = parts.copy()
        changed[index] = changed[index][:4] + ("A" if changed[index][4] != "A" else "B") + changed[index][5:]
        response = httpx.get(
            f"{server.url}/v2/streams", headers={"Authorization": f"Bearer {'.'.join(changed)}"}, timeout=PATIENCE_S
        )
        refused(response, 401, "UNAUTHENTICATED")


def test_the_rate_limit_is_told_with_every_answer(server: Server, client: httpx.Client) -> None:
    """In the form of the IETF draft and in the older one; a fresh standard key has a thousand an hour."""

    def ask() -> list[httpx.Response]:
        with server.client(make_key(client)["key"]) as limited:
            return [limited.get("/v2/streams"), limited.get("/v2/streams/missing"), limited.get("/v2/streams?x=y")]

    for used, answer in enumerate(in_one_window(3_600, ask), 1):
        assert answer.headers["ratelimit-policy"] == '"hourly";q=1000;w=3600'
        assert answer.headers["ratelimit"].startswith(f'"hourly";r={1_000 - used};t=')
        assert answer.headers["x-ratelimit-limit"] == "1000"
        assert answer.headers["x-ratelimit-remaining"] == str(1_000 - used)
        assert 0 <= int(answer.headers["x-ratelimit-reset"]) <= 3_600


def test_an_unlimited_key_has_no_limit_to_tell(client: httpx.Client) -> None:
    """So there are no such headers."""
    assert not [name for name in client.get("/v2/streams").headers if "ratelimit" in name]


def test_requests_over_the_limit_are_refused(server: Server, client: httpx.Client) -> None:
    """429 with Retry-After; a batch counts as one, whatever its size."""

    def use_up() -> tuple[set[int], httpx.Response]:
        with server.client(make_key(client)["key"]) as limited:
            statuses = {limited.get("/v2/streams?limit=1").status_code for _ in range(1_000)}
            return statuses, limited.get("/v2/streams")

    statuses, over = in_one_window(3_600, use_up)

    assert statuses == {200}
    refused(over, 429, "RATE_LIMITED")
    assert 1 <= int(over.headers["retry-after"]) <= 3_600
    assert over.headers["x-ratelimit-remaining"] == "0"


def test_guessing_is_slow(tmp_server: Server) -> None:
    """Sixty wrong credentials a minute from one address, signing in included; good ones and health go on."""
    with tmp_server.client("ms_guess") as guesser, tmp_server.client() as known:

        def guess() -> tuple[httpx.Response, httpx.Response]:
            answers = [guesser.get("/v2/streams") for _ in range(61)]
            return answers[-1], guesser.post("/v2/auth/token", json={"email": EMAIL, "password": PASSWORD})

        last, sign_in = in_one_window(60, guess)

        assert known.get("/v2/streams").status_code == 200
        assert guesser.get("/health").status_code == 200
    refused(last, 429, "RATE_LIMITED")
    refused(sign_in, 429, "RATE_LIMITED")
    assert last.headers["ratelimit-policy"] == '"perminute";q=60;w=60'
