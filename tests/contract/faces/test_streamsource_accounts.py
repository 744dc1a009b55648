"""Accounts behind StreamSource's door: signing up, in and out, tokens, and what roles let one do."""

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from serving import API_KEY, EMAIL, PASSWORD, Server, serving
from streamsource import FORBIDDEN, PASSWORD_OF_ALL, Person, bearer, error_of, fresh, fresh_email, got, house, person
from waiting import PATIENCE_S

SECRET = "a secret that several services share, and that is long enough for every algorithm"
WRONG = "Invalid email or password"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose tokens are signed with a secret that the tests know."""
    with serving(tmp_path_factory.mktemp("accounts") / "data", SECRET_KEY_BASE=SECRET) as running:
        yield running


@pytest.fixture
def stranger(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def operator(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=bearer(API_KEY), timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def ada(server: Server) -> Iterator[Person]:
    """Somebody who signed up by himself."""
    with person(server) as somebody:
        yield somebody


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


# Signing up


def test_signing_up_gives_a_token_that_works_at_once(stranger: httpx.Client) -> None:
    """201, HS256, good for a day, with the claims of both generations of servers."""
    email = fresh_email()
    answer = got(stranger.post("/users/signup", json={"email": email, "password": PASSWORD_OF_ALL}), 201)
    claims = jwt.decode(answer["token"], SECRET, algorithms=["HS256"])

    assert answer["user"].keys() == {"id", "email", "role", "created_at", "updated_at"}
    assert (answer["user"]["email"], answer["user"]["role"]) == (email, "default")
    assert answer["user"]["created_at"].endswith("Z")
    assert claims["user_id"] == int(claims["sub"]) == answer["user"]["id"]
    assert (claims["email"], claims["role"], claims["scp"], claims["service_account"]) == (
        email,
        "default",
        "user",
        False,
    )
    assert claims["exp"] - claims["iat"] == 86_400
    assert abs(claims["iat"] - time.time()) < 60
    assert got(stranger.get("/streams", headers=bearer(answer["token"])))["streams"] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"email": "nobody", "password": "Ab1"},
            "Email is invalid, Password is too short (minimum is 8 characters)",
        ),
        ({"email": "a@b.example", "password": "x" * 8}, "Password must include lowercase, uppercase, and number"),
        ({"email": "a@b.example", "password": "Ab1" * 43}, "Password is too long (maximum is 128 characters)"),
        ({"email": "a..b@c.example", "password": PASSWORD_OF_ALL}, "Email is invalid"),
        ({"email": "ä@c.example", "password": PASSWORD_OF_ALL}, "Email is invalid"),
        ({"email": "a@b@c.example", "password": PASSWORD_OF_ALL}, "Email is invalid"),
        ({"email": " ", "password": PASSWORD_OF_ALL}, "Email can't be blank, Email is invalid"),
        (
            {"email": "a@b.example", "password": PASSWORD_OF_ALL, "password_confirmation": "other"},
            "Password confirmation doesn't match Password",
        ),
        (
            {},
            (
                "Email can't be blank, Email is invalid, Password can't be blank,"
                " Password is too short (minimum is 8 characters),"
                " Password must include lowercase, uppercase, and number"
            ),
        ),
    ],
)
def test_all_that_is_wrong_is_told_in_one_string(stranger: httpx.Client, fields: dict[str, str], said: str) -> None:
    assert error_of(stranger.post("/users/signup", json=fields), 422) == said


@pytest.mark.parametrize("password", ["Abcdefg1", "Ab1" + "x" * 125])
def test_passwords_have_eight_to_a_hundred_and_twenty_eight_characters(stranger: httpx.Client, password: str) -> None:
    """And whoever has one that is as long as may be can sign in with it."""
    email = fresh_email()
    got(stranger.post("/users/signup", json={"email": email, "password": password}), 201)

    got(stranger.post("/users/login", json={"email": email, "password": password}))


def test_an_email_is_taken_in_any_case(stranger: httpx.Client, ada: Person) -> None:
    """It is kept trimmed and in lower case."""
    again = {"email": f" {ada.email.upper()} ", "password": PASSWORD_OF_ALL}

    assert error_of(stranger.post("/users/signup", json=again), 422) == "Email has already been taken"


@pytest.mark.parametrize("role", ["admin", "editor", "emperor"])
def test_nobody_chooses_his_own_role(stranger: httpx.Client, role: str) -> None:
    """Whatever a client sends is left alone."""
    body = {"user": {"email": fresh_email(), "password": PASSWORD_OF_ALL, "role": role}}

    assert got(stranger.post("/signup", json=body), 201)["user"]["role"] == "default"


async def test_for_tests_the_operator_may_let_people_choose(tmp_path: Path) -> None:
    """Any of the three roles, and no other."""
    async with house(tmp_path, signup_roles=True) as here:
        assert (await here.sign_up(role="admin"))["user"]["role"] == "admin"
        body = {"email": fresh_email(), "password": PASSWORD_OF_ALL, "role": "emperor"}
        refusal = await here.client().post("/users/signup", json=body)
        assert error_of(refusal, 422) == "Role is not included in the list"


async def test_signing_up_can_be_closed(tmp_path: Path) -> None:
    """Whoever has an account still signs in."""
    async with house(tmp_path, signup=False) as here:
        body = {"email": fresh_email(), "password": PASSWORD_OF_ALL}
        assert "closed" in error_of(await here.client().post("/users/signup", json=body), 403)
        got(await here.client().post("/users/login", json={"email": EMAIL, "password": PASSWORD}))


# Signing in


@pytest.mark.parametrize("path", ["/users/login", "/login"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", [False, True])
def test_both_generations_of_clients_sign_in(
    stranger: httpx.Client, ada: Person, path: str, nested: bool, form: bool
) -> None:
    """Flat or under `user`, as JSON or as a form, by both paths; the email in any case."""
    fields = {"email": ada.email.upper(), "password": PASSWORD_OF_ALL}
    as_form = {f"user[{name}]": value for name, value in fields.items()} if nested else fields
    as_json = {"user": fields} if nested else fields
    answer = got(stranger.post(path, data=as_form) if form else stranger.post(path, json=as_json))

    assert answer["user"]["id"] == ada.id
    assert answer["status"] == {"code": 200, "message": "Logged in successfully."}
    got(stranger.get("/streams", headers=bearer(answer["token"])))


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "nobody@example.com", "password": PASSWORD_OF_ALL},
        {"email": EMAIL, "password": "wrong"},
        {"email": EMAIL, "password": None},
        {"email": None, "password": PASSWORD},
        {"email": [EMAIL], "password": {"is": PASSWORD}},
        {},
        [],
        "text",
    ],
)
def test_whatever_is_wrong_the_refusal_is_the_same(stranger: httpx.Client, fields: Any) -> None:
    """It tells nothing about which accounts there are."""
    assert error_of(stranger.post("/users/login", json=fields), 401) == WRONG


def test_several_tokens_are_good_at_once(stranger: httpx.Client, ada: Person) -> None:
    """Each program signs in by itself."""
    fields = {"email": ada.email, "password": PASSWORD_OF_ALL}
    other = got(stranger.post("/users/login", json=fields))["token"]

    assert other != ada.token
    for token in (ada.token, other):
        got(stranger.get("/streams", headers=bearer(token)))


def test_credentials_in_the_address_do_not_count(stranger: httpx.Client) -> None:
    """Addresses end up in logs and histories."""
    assert error_of(stranger.post("/users/login", params={"email": EMAIL, "password": PASSWORD}), 401) == WRONG


# Tokens


FOR_EVER = {"user_id": 8, "exp": 4_000_000_000}


def forged(**changes: Any) -> str:
    claims = {"user_id": 8, "email": EMAIL, "role": "admin", "exp": int(time.time()) + 3_600}
    return jwt.encode({**claims, **changes}, SECRET, "HS256")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        forged(),
        f"Basic {forged()}",
        f"Bearer {jwt.encode(FOR_EVER, SECRET * 2, 'HS256')}",
        f"Bearer {jwt.encode(FOR_EVER, SECRET, 'HS384')}",
        f"Bearer {jwt.encode(FOR_EVER, SECRET, 'HS512')}",
        f"Bearer {jwt.encode(FOR_EVER, '', 'none')}",
        f"Bearer {forged(exp=int(time.time()) - 1)}",
        f"Bearer {forged(user_id=7_777)}",
        f"Bearer {forged(user_id='x')}",
        f"Bearer {forged(user_id=1 << 70)}",
        f"Bearer {jwt.encode({'user_id': 8}, SECRET, 'HS256')}",
        f"Bearer {jwt.encode({'exp': 4_000_000_000}, SECRET, 'HS256')}",
        "Bearer ms_no-such-key-at-all",
        "Bearer a.b.c",
    ],
)
def test_what_is_no_good_token_is_refused_in_one_word(stranger: httpx.Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}

    assert error_of(stranger.get("/streams", headers=headers), 401) == "Unauthorized"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
@pytest.mark.parametrize("claim", [{"user_id": 8}, {"user_id": None, "sub": "8"}])
def test_tokens_of_both_generations_are_taken(stranger: httpx.Client, scheme: str, claim: dict[str, Any]) -> None:
    """With the account's number in `user_id` or in `sub`, from whichever service has the secret."""
    got(stranger.get("/users", headers={"Authorization": f"{scheme} {forged(**claim)}"}))


def test_a_token_of_another_door_counts_here(server: Server, stranger: httpx.Client) -> None:
    """An account is the same behind every door."""
    token = httpx.post(
        f"{server.url}/v2/auth/token", json={"email": EMAIL, "password": PASSWORD}, timeout=PATIENCE_S
    ).json()

    got(stranger.get("/users", headers=bearer(token["access_token"])))


def test_a_key_that_may_not_read_is_no_good_here(server: Server, stranger: httpx.Client) -> None:
    """And one that reads alone changes nothing, although it is an administrator's."""
    with server.client() as client:
        writes, reads = (
            client.post("/v2/keys", json={"name": fresh("key"), "scopes": [scope]}).json()["key"]
            for scope in ("events:write", "events:read")
        )

    assert error_of(stranger.get("/streams", headers=bearer(writes)), 403) == FORBIDDEN
    got(stranger.get("/streams", headers=bearer(reads)))
    for method, path in (("POST", "/streams"), ("DELETE", "/users/9999999"), ("GET", "/users")):
        assert stranger.request(method, path, headers=bearer(reads)).status_code in (403, 404), path


def test_signing_out_ends_the_token_and_no_other(stranger: httpx.Client, ada: Person) -> None:
    """Behind every door, at once."""
    other = got(stranger.post("/login", json={"email": ada.email, "password": PASSWORD_OF_ALL}))["token"]
    answer = got(ada.api.delete("/logout"))

    assert answer == {"status": 200, "message": "Logged out successfully."}
    assert error_of(ada.api.get("/streams"), 401) == "Unauthorized"
    assert got(ada.api.delete("/logout")) == answer
    got(stranger.get("/streams", headers=bearer(other)))


async def test_an_ended_token_is_ended_behind_every_door(tmp_path: Path) -> None:
    """Where StreamSource's tokens are signed with the server's own key, as they are unless a secret is given."""
    async with house(tmp_path) as here:
        token = (await here.sign_up())["token"]
        events = "http://here/v2/streams"
        assert (await here.client(token).get(events)).status_code == 200
        got(await here.client(token).delete("/logout"))
        assert (await here.client(token).get(events)).status_code == 401


async def test_tokens_expire_after_a_day(tmp_path: Path) -> None:
    """To the second."""
    async with house(tmp_path) as here:
        token = (await here.sign_up())["token"]
        here.clock.advance(86_399)
        got(await here.client(token).get("/streams"))
        here.clock.advance(1)
        assert error_of(await here.client(token).get("/streams"), 401) == "Unauthorized"


# Roles


def test_a_role_counts_from_the_next_request_on(stranger: httpx.Client, operator: httpx.Client, ada: Person) -> None:
    """It is the account's, whatever the token says."""
    wanted = {"source": "Ada", "link": "https://live.example/ada"}
    assert error_of(ada.api.post("/streams", json=wanted), 403) == FORBIDDEN
    assert got(operator.patch(f"/users/{ada.id}", json={"role": "editor"}))["role"] == "editor"
    number = got(ada.api.post("/streams", json=wanted), 201)["id"]
    operator.put(f"/users/{ada.id}", json={"user": {"role": "default"}})

    assert claims_of(ada.token)["role"] == "default"
    for method, path in (("PATCH", ""), ("DELETE", ""), ("PUT", "/pin"), ("DELETE", "/pin"), ("POST", "/archive")):
        assert error_of(ada.api.request(method, f"/streams/{number}{path}"), 403) == FORBIDDEN, path


async def test_who_signed_up_by_himself_makes_nothing_behind_any_door(tmp_path: Path) -> None:
    """Nobody fills the server without the operator's word."""
    async with house(tmp_path, stream_require_auth=True) as here:
        client = here.client((await here.sign_up())["token"])
        event = {"stream_id": "mine", "event_type": "x", "data": {}}
        for path, body, statuses in (
            ("/v2/streams", {"stream_id": "mine"}, (403,)),
            ("/v2/ingest/events", event, (403, 404)),
            ("/v2/keys", {"name": "mine"}, (403,)),
            *((f"/api/v1/{path}", {}, (403,)) for path in CATALOGUE),
        ):
            refusal = await client.post(f"http://here{path}", json=body)
            assert refusal.status_code in statuses, (path, refusal.text)
        upload = await client.post("http://here/v1/stream/transcode", files={"file": ("a.wav", b"RIFF")})
        assert upload.status_code == 403, upload.text
        resumable = {"Tus-Resumable": "1.0.0", "Upload-Length": "4"}
        assert (await client.post("http://here/v1/stream/uploads", headers=resumable)).status_code == 403


CATALOGUE = ("streams", "streamers", "locations", "timestamps", "ignore_lists", "streams/bulk_import")


def test_only_administrators_look_after_accounts(operator: httpx.Client, ada: Person) -> None:
    """Everybody sees himself."""
    for method, path, body in (
        ("GET", "/users", None),
        ("GET", "/users/8", None),
        ("PATCH", f"/users/{ada.id}", {"role": "admin"}),
        ("DELETE", "/users/8", None),
    ):
        assert error_of(ada.api.request(method, path, json=body), 403) == FORBIDDEN, (method, path)
    assert got(ada.api.get(f"/users/{ada.id}"))["user"]["email"] == ada.email
    assert error_of(operator.get("/users/7777"), 404) == "Record not found"
    assert error_of(operator.patch(f"/users/{ada.id}", json={"role": "emperor"}), 422) == (
        "Role is not included in the list"
    )


def test_accounts_are_listed_in_pages(operator: httpx.Client, ada: Person) -> None:
    """By number; a search finds a part of the email."""
    found = got(operator.get("/users", params={"search": ada.email.upper()}))
    page = operator.get("/users", params={"per_page": 1, "page": 1})

    assert [user["id"] for user in found["users"]] == [ada.id]
    assert found["meta"] == {"current_page": 1, "total_pages": 1, "total_count": 1, "per_page": 25}
    assert [user["id"] for user in got(page)["users"]] == [8]
    assert 'rel="next"' in page.headers["link"]
    assert page.headers["x-total-count"] == str(page.json()["meta"]["total_count"])


def test_a_deleted_account_is_gone_and_its_things_are_the_administrators(
    stranger: httpx.Client, operator: httpx.Client, ada: Person
) -> None:
    """Its token is no good, its email is free, its number is never used again."""
    operator.patch(f"/users/{ada.id}", json={"role": "editor"})
    number = ada.listing()["id"]

    assert operator.delete(f"/users/{ada.id}").status_code == 204
    assert error_of(ada.api.get("/streams"), 401) == "Unauthorized"
    login = {"email": ada.email, "password": PASSWORD_OF_ALL}
    assert error_of(stranger.post("/users/login", json=login), 401) == WRONG
    assert error_of(operator.get(f"/users/{ada.id}"), 404) == "Record not found"
    assert got(operator.get(f"/streams/{number}"))["user"]["id"] == 8
    assert got(stranger.post("/users/signup", json=login), 201)["user"]["id"] > ada.id


def test_things_of_a_deleted_account_go_to_the_administrator_who_deletes_it(
    server: Server, operator: httpx.Client, ada: Person
) -> None:
    """Not to the first one there is, and he may do with them as with his own."""
    operator.patch(f"/users/{ada.id}", json={"role": "editor"})
    drafts = {
        "streams": {"source": fresh("Ada"), "link": "https://live.example/ada"},
        "timestamps": {"title": "Fire", "event_timestamp": "2025-07-05T10:00:00Z"},
    }
    paths = [f"/{kind}/{got(ada.api.post(f'/{kind}', json=body), 201)['id']}" for kind, body in drafts.items()]
    with person(server) as heir:
        operator.patch(f"/users/{heir.id}", json={"role": "admin"})
        assert heir.api.delete(f"/users/{ada.id}").status_code == 204
        operator.patch(f"/users/{heir.id}", json={"role": "editor"})
        for path in paths:
            assert got(heir.api.get(path))["user"]["id"] == heir.id
            assert heir.api.delete(path).status_code == 204


def test_there_is_always_an_administrator(operator: httpx.Client) -> None:
    """Nobody deletes himself, and the last one keeps his role."""
    assert error_of(operator.delete("/users/8"), 409) == "You cannot delete your own account."
    assert "administrator" in error_of(operator.patch("/users/8", json={"role": "editor"}), 409)


# What every answer is like


def test_a_broken_body_is_told_as_such(stranger: httpx.Client) -> None:
    """400, wherever JSON is read."""
    headers = {"Content-Type": "application/json"}

    assert error_of(stranger.post("/users/login", content=b"{", headers=headers), 400) == "Malformed JSON"


def test_a_body_over_a_mebibyte_is_refused(stranger: httpx.Client) -> None:
    """413, before it is read."""
    assert "limit" in error_of(stranger.post("/users/login", json={"email": "x" * (1 << 20)}), 413)


def test_an_empty_body_is_fine_wherever_json_is_promised(ada: Person) -> None:
    """Clients send Content-Type with every request."""
    headers = {"Content-Type": "application/json"}
    for method, path in (("GET", "/streams"), ("GET", "/features"), ("DELETE", "/logout")):
        got(ada.api.request(method, path, headers=headers))


def test_unknown_paths_and_methods_are_errors_of_this_api(stranger: httpx.Client) -> None:
    """Each with its status."""
    assert error_of(stranger.get("/nothing"), 404) == "Not Found"
    refusal = stranger.put("/users/login")

    assert error_of(refusal, 405) == "Method Not Allowed"
    assert refusal.headers["allow"] == "POST"


def test_pages_of_any_origin_may_ask(stranger: httpx.Client) -> None:
    """With a token in a header: there is no cookie that a browser would add."""
    asked = {
        "Origin": "https://wall.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    preflight = stranger.options("/streams/1", headers=asked)
    answer = stranger.get("/streams", headers={"Origin": "https://wall.example"})

    assert preflight.status_code == 204
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for headers in (preflight.headers, answer.headers):
        assert headers["access-control-allow-origin"] == "*"
        assert "Authorization" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
