"""Who may do what behind StreamSource's door: every route, tried by everybody who could come.

The table is written from the contract's sections 1, 3.5, 8 to 11 and its decisions, not from the code. A route that is
missing in it fails the first test.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, redirect_stdout
from typing import Any, NamedTuple

import httpx
import pytest

from evernest import User
from mainstem.cli import main
from serving import API_KEY, Server, serving
from streamsource import FORBIDDEN, PASSWORD_OF_ALL, Person, bearer, error_of, fresh, fresh_email, got, person
from waiting import PATIENCE_S

MISSING = 999_999_999

type Verb = tuple[str, str]
"""A method and a path, below /api/v1 unless it begins with two slashes."""


class Allowed(NamedTuple):
    """The status for each kind of caller, where the thing that is asked for exists."""

    reader: int
    """Signed up by himself: the role `default`."""
    lowered: int
    """The owner of the row, whose role has become `default`."""
    editor: int
    """Somebody else's row."""
    owner: int
    """An editor, and the row is his own."""
    admin: int
    """Somebody else's row."""
    absent: int | None = None
    """For a reader, where there is no such thing; None: the path names none."""


def all_(status: int, absent: int | None = None) -> Allowed:
    return Allowed(status, status, status, status, status, absent)


def makers(status: int, absent: int | None = None) -> Allowed:
    return Allowed(403, 403, status, status, status, absent)


def owners(status: int, absent: int | None = 404) -> Allowed:
    return Allowed(403, 403, 403, status, status, absent)


def admins(status: int, absent: int | None = None) -> Allowed:
    return Allowed(403, 403, 403, 403, status, absent)


PUBLIC: Mapping[Verb, int] = {
    ("POST", "/users/signup"): 201,
    ("POST", "/signup"): 201,
    ("POST", "/users/login"): 200,
    ("POST", "/login"): 200,
    ("DELETE", "/logout"): 200,
    ("DELETE", "/users/logout"): 200,
    ("GET", "//swagger/v1/swagger.yaml"): 200,
    ("GET", "//cable"): 426,
}
"""What everybody gets, whatever he shows."""

TABLE: Mapping[Verb, Allowed] = {
    ("GET", "/users"): admins(200),
    ("GET", "/users/{id}"): Allowed(403, 200, 403, 200, 200, 403),  # everybody sees himself
    ("PATCH", "/users/{id}"): admins(200, 403),
    ("PUT", "/users/{id}"): admins(200, 403),
    ("DELETE", "/users/{id}"): admins(204, 403),
    ("GET", "/streams"): all_(200),
    ("POST", "/streams"): makers(201),
    ("GET", "/streams/{id}"): all_(200, 404),
    ("PATCH", "/streams/{id}"): owners(200),
    ("PUT", "/streams/{id}"): owners(200),
    ("DELETE", "/streams/{id}"): owners(204),
    ("PUT", "/streams/{id}/pin"): owners(200),
    ("DELETE", "/streams/{id}/pin"): owners(200),
    ("POST", "/streams/{id}/archive"): owners(200),
    ("POST", "/streams/{id}/unarchive"): owners(200),
    ("GET", "/streams/{id}/analytics"): all_(200, 404),
    ("GET", "/streams/{id}/open"): all_(302, 404),
    ("POST", "/streams/bulk_import"): makers(200),
    ("GET", "/streams/export"): all_(200),
    ("GET", "/feed"): all_(200),
    ("GET", "/locations"): all_(200),
    ("GET", "/locations/all"): all_(200),
    ("GET", "/locations/known_cities"): all_(200),
    ("POST", "/locations"): makers(201),
    ("GET", "/locations/{id}"): all_(200, 404),
    ("PATCH", "/locations/{id}"): makers(200, 404),
    ("PUT", "/locations/{id}"): makers(200, 404),
    ("DELETE", "/locations/{id}"): makers(204, 404),
    ("GET", "/ignore_lists"): admins(200),
    ("GET", "/ignore_lists/by_type"): admins(200),
    ("POST", "/ignore_lists"): admins(201),
    ("POST", "/ignore_lists/bulk_create"): admins(201),
    ("DELETE", "/ignore_lists/bulk_delete"): admins(200),
    ("GET", "/ignore_lists/{id}"): admins(200, 403),
    ("PATCH", "/ignore_lists/{id}"): admins(200, 403),
    ("PUT", "/ignore_lists/{id}"): admins(200, 403),
    ("DELETE", "/ignore_lists/{id}"): admins(204, 403),
    ("GET", "/streamers"): all_(200),
    ("POST", "/streamers"): makers(201),
    ("GET", "/streamers/{id}"): all_(200, 404),
    ("PATCH", "/streamers/{id}"): makers(200, 404),
    ("PUT", "/streamers/{id}"): makers(200, 404),
    ("DELETE", "/streamers/{id}"): admins(204, 404),
    ("POST", "/streamers/{id}/continue"): makers(201, 403),
    ("GET", "/timestamps"): all_(200),
    ("POST", "/timestamps"): makers(201),
    ("GET", "/timestamps/{id}"): all_(200, 404),
    ("PATCH", "/timestamps/{id}"): owners(200),
    ("PUT", "/timestamps/{id}"): owners(200),
    ("DELETE", "/timestamps/{id}"): owners(204),
    ("POST", "/timestamps/{id}/streams"): owners(201),
    ("DELETE", "/timestamps/{id}/streams/{stream_id}"): owners(200),
    ("GET", "/features"): all_(200),
    ("GET", "/features/{name}"): all_(200, 404),
    ("POST", "/features/{name}/enable"): admins(200, 403),
    ("POST", "/features/{name}/disable"): admins(200, 403),
    ("POST", "/features/{name}/clear"): admins(200, 403),
}


def row() -> dict[str, Any]:
    return {"source": "Ada", "link": f"https://live.example/{fresh('row')}"}


def moment() -> dict[str, Any]:
    return {"title": "A moment", "event_timestamp": "2025-01-05T10:00:00Z"}


def sign_up() -> dict[str, Any]:
    return {"email": fresh_email(), "password": PASSWORD_OF_ALL}


BODIES: Mapping[Verb, Callable[[], Any]] = {
    ("POST", "/users/signup"): sign_up,
    ("POST", "/signup"): sign_up,
    ("PATCH", "/users/{id}"): lambda: {"role": "editor"},
    ("PUT", "/users/{id}"): lambda: {"user": {"role": "editor"}},
    ("POST", "/streams"): row,
    ("PATCH", "/streams/{id}"): lambda: {"title": "Another"},
    ("PUT", "/streams/{id}"): lambda: {"title": "Another"},
    ("POST", "/streams/bulk_import"): lambda: [row()],
    ("POST", "/locations"): lambda: {"city": fresh("Town")},
    ("PATCH", "/locations/{id}"): lambda: {"region": "North"},
    ("PUT", "/locations/{id}"): lambda: {"region": "North"},
    ("POST", "/ignore_lists"): lambda: {"list_type": "domain", "value": fresh("site")},
    ("POST", "/ignore_lists/bulk_create"): lambda: {"entries": [{"list_type": "domain", "value": fresh("site")}]},
    ("DELETE", "/ignore_lists/bulk_delete"): lambda: {"ids": [MISSING]},
    ("PATCH", "/ignore_lists/{id}"): lambda: {"notes": "Why"},
    ("PUT", "/ignore_lists/{id}"): lambda: {"notes": "Why"},
    ("POST", "/streamers"): lambda: {"name": fresh("Grace")},
    ("PATCH", "/streamers/{id}"): lambda: {"notes": "Who"},
    ("PUT", "/streamers/{id}"): lambda: {"notes": "Who"},
    ("POST", "/streamers/{id}/continue"): row,
    ("POST", "/timestamps"): moment,
    ("PATCH", "/timestamps/{id}"): lambda: {"description": "What"},
    ("PUT", "/timestamps/{id}"): lambda: {"description": "What"},
}


class Cast:
    """Everybody who comes, on one server, and the things that they ask for."""

    def __init__(self, server: Server, people: Mapping[str, Person], tokens: Mapping[str, str | None]) -> None:
        self.url = server.url
        self.people = people
        self.tokens = tokens

    def ask(self, token: str | None, verb: Verb, **names: Any) -> httpx.Response:
        method, path = verb
        root = self.url if path.startswith("//") else f"{self.url}/api/v1"
        body = {} if verb not in BODIES else {"json": BODIES[verb]()}
        if path.endswith("/login"):
            body = {"json": {"email": self.people["reader"].email, "password": PASSWORD_OF_ALL}}
        if verb == ("POST", "/timestamps/{id}/streams"):
            body = {"json": {"stream_id": names.get("stream_id", MISSING)}}
        headers = {} if token is None else bearer(token)
        path = path.removeprefix("/") if path.startswith("//") else path
        return httpx.request(method, root + path.format(**names), headers=headers, timeout=PATIENCE_S, **body)

    def another_token(self, name: str) -> str | None:
        """For one of the people; others have but one credential."""
        if name not in self.people:
            return self.tokens[name] if "key" in name else None
        login = {"email": self.people[name].email, "password": PASSWORD_OF_ALL}
        token: str = got(httpx.post(f"{self.url}/api/v1/login", json=login, timeout=PATIENCE_S))["token"]
        return token

    def things(self, path: str, owner: str) -> dict[str, Any]:
        """New things that the path names, which belong to this one of the people."""
        collection = path.split("/")[1]
        if "{name}" in path:
            self.people["admin"].api.post(f"/features/{(name := fresh('feature').replace('-', '_'))}/enable")
            return {"name": name}
        if "{" not in path:
            return {}
        if collection == "users":
            return {"id": self.people[owner].id if owner in ("lowered", "owner") else self._somebody()}
        who = self.people["admin" if collection == "ignore_lists" else owner]
        with self._as_editor(owner):
            made = {"id": got(who.api.post(f"/{collection}", json=_draft(collection)), 201)["id"]}
            if path.startswith("/timestamps/{id}/streams"):
                made["stream_id"] = got(who.api.post("/streams", json=row()), 201)["id"]
            if path.endswith("{stream_id}"):
                got(who.api.post(f"/timestamps/{made['id']}/streams", json={"stream_id": made["stream_id"]}), 201)
        return made

    def _somebody(self) -> int:
        number: int = got(httpx.post(f"{self.url}/api/v1/signup", json=sign_up(), timeout=PATIENCE_S), 201)["user"][
            "id"
        ]
        return number

    def _as_editor(self, owner: str) -> ExitStack:
        """Somebody whose role was lowered since made his things while he was an editor."""
        stack = ExitStack()
        if owner == "lowered":
            self._set_role(owner, "editor")
            stack.callback(self._set_role, owner, "default")
        return stack

    def _set_role(self, who: str, role: str) -> None:
        got(self.people["admin"].api.patch(f"/users/{self.people[who].id}", json={"role": role}))


def _draft(collection: str) -> dict[str, Any]:
    return BODIES["POST", f"/{collection}"]()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rights") / "data", signup_roles=True) as running:
        yield running


@pytest.fixture(scope="module")
def cast(server: Server) -> Iterator[Cast]:
    roles = {"reader": "default", "lowered": "editor", "editor": "editor", "owner": "editor", "admin": "admin"}
    roles |= {"other": "editor", "gone": "admin", "left": "admin"}
    with ExitStack() as stack:
        people = {name: stack.enter_context(person(server, role)) for name, role in roles.items()}
        operator = people["admin"].api
        got(operator.patch(f"/users/{people['lowered'].id}", json={"role": "default"}))
        assert operator.delete(f"/users/{people['gone'].id}").status_code == 204
        got(people["left"].api.delete("/logout"))
        yield Cast(server, people, {name: one.token for name, one in people.items()} | _credentials(server))


def _credentials(server: Server) -> dict[str, str | None]:
    """Those that belong to none of the people."""
    with server.client() as client:
        keys = {
            name: client.post("/v2/keys", json={"name": fresh("key"), **draft}).json()["key"]
            for name, draft in {
                "a key that only reads": {"scopes": ["events:read"]},
                "a key that only writes": {"scopes": ["events:write"]},
                "a key for one topic": {"streams": ["orders"]},
            }.items()
        }
    with server.client(None) as client:
        user = User(client, server.data)
        source = user.source()
    program = f"{fresh('program')}@streamsource.local"
    with redirect_stdout(io.StringIO()) as said:
        assert main(["user", "service", program, "--data", str(server.data)]) == 0
    password = said.getvalue().split()[-1]
    answer = got(httpx.post(f"{server.url}/api/v1/login", json={"email": program, "password": password}))
    return {
        "nobody": None,
        "garbage": "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "a user key of Evernest's": user.key,
        "a source's key": source.key,
        "a program": answer["token"],
        "a key of the operator's": API_KEY,
        **keys,
    }


STRANGERS = ("nobody", "garbage", "gone", "left", "a user key of Evernest's", "a source's key")
"""Who shows nothing, or what is good no more (a deleted account's token, one that was signed out), or not here."""

AS: Mapping[str, str] = {
    "reader": "reader",
    "lowered": "lowered",
    "editor": "editor",
    "owner": "owner",
    "admin": "admin",
    "a program": "editor",
    "a key of the operator's": "admin",
    "a key that only reads": "reader",
}
"""Callers, and the column of the table that is theirs."""

NOT_FOR_THIS = ("a key that only writes", "a key for one topic")


def verbs(table: Mapping[Verb, Any]) -> list[Any]:
    return [pytest.param(verb, id=" ".join(verb)) for verb in table]


def test_every_route_has_a_row(server: Server) -> None:
    """A new one needs a decision about who may use it, written down here."""
    document = json.loads(httpx.get(f"{server.url}/swagger/v1/swagger.yaml", timeout=PATIENCE_S).text)
    served = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    written = {
        (method, path.removeprefix("/") if path.startswith("//") else f"/api/v1{path}")
        for method, path in (*PUBLIC, *TABLE)
    }

    assert served == written


@pytest.mark.parametrize("verb", verbs(PUBLIC))
def test_what_is_public_is_so_for_everybody(cast: Cast, verb: Verb) -> None:
    """A credential neither helps nor hurts."""
    for name in (*STRANGERS, *AS, *NOT_FOR_THIS):
        token = cast.tokens[name]
        if "logout" in verb[1] and name in AS:  # the token would be good no more, and others need it
            token = cast.another_token(name)
        assert cast.ask(token, verb).status_code == PUBLIC[verb], name


@pytest.mark.parametrize("verb", verbs(TABLE))
def test_who_is_not_signed_in_is_told_so_and_nothing_else(cast: Cast, verb: Verb) -> None:
    """401 in one word, whether the thing exists or not."""
    things = cast.things(verb[1], "other")
    missing = dict.fromkeys(things, MISSING)
    for name in STRANGERS:
        for names in (things, missing):
            assert error_of(cast.ask(cast.tokens[name], verb, **names), 401) == "Unauthorized", name


@pytest.mark.parametrize("verb", verbs(TABLE))
def test_a_credential_of_another_purpose_opens_nothing(cast: Cast, verb: Verb) -> None:
    """A key that may not read, and one that is limited to some topics, have no part in the catalogue."""
    things = cast.things(verb[1], "other")
    for name in NOT_FOR_THIS:
        assert error_of(cast.ask(cast.tokens[name], verb, **things), 403) == FORBIDDEN, name


@pytest.mark.parametrize("verb", verbs(TABLE))
def test_everybody_may_what_the_table_says(cast: Cast, verb: Verb) -> None:
    """And what is refused changes nothing."""
    for name, column in AS.items():
        things = cast.things(verb[1], name if name in ("lowered", "owner") else "other")
        before = _seen(cast, verb, things)
        reply = cast.ask(cast.tokens[name], verb, **things)
        assert reply.status_code == getattr(TABLE[verb], column), (name, reply.text)
        if reply.status_code == 403:
            assert reply.json().keys() == {"error"}
            assert _seen(cast, verb, things) == before, name


def _seen(cast: Cast, verb: Verb, things: Mapping[str, Any]) -> Any:
    """What an administrator sees of the things, but for what is counted."""
    if not things:
        return None
    return cast.people["admin"].api.get("/".join(verb[1].split("/")[:3]).format(**things)).json()


@pytest.mark.parametrize("verb", verbs({verb: row for verb, row in TABLE.items() if "{" in verb[1]}))
def test_what_is_not_there_is_told_as_the_table_says(cast: Cast, verb: Verb) -> None:
    """A reader learns which accounts, features and ignored things there are from no status; the rest he may list."""
    reply = cast.ask(cast.tokens["reader"], verb, id=MISSING, stream_id=MISSING, name="no_such_feature")
    assert reply.status_code == TABLE[verb].absent, reply.text


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("number", ["1", "8", "0", "-1", "999999999", "9223372036854775808", "abc", "%00", "own"])
@pytest.mark.parametrize("who", ["reader", "lowered", "editor"])
def test_only_administrators_touch_accounts_whatever_the_number(cast: Cast, who: str, number: str, method: str) -> None:
    """403, whether there is such an account, and whether the body says anything."""
    somebody = cast.people[who]
    path = f"/users/{somebody.id if number == 'own' else number}"
    for body in ({}, {"role": "admin"}, {"role": "emperor"}):
        assert error_of(somebody.api.request(method, path, json=body), 403) == FORBIDDEN


def test_only_administrators_change_known_cities(cast: Cast) -> None:
    """Editors look after all other places."""
    admin, editor = cast.people["admin"].api, cast.people["editor"].api
    made = got(admin.post("/locations", json={"city": fresh("Known"), "is_known_city": True}), 201)
    for method in ("PATCH", "PUT", "DELETE"):
        assert error_of(editor.request(method, f"/locations/{made['id']}", json={"region": "x"}), 403) == FORBIDDEN
    mine = got(editor.post("/locations", json={"city": fresh("Mine"), "is_known_city": True}), 201)
    assert mine["is_known_city"] is False
    assert got(editor.patch(f"/locations/{mine['id']}", json={"is_known_city": True}))["is_known_city"] is False


@pytest.mark.parametrize("verb", verbs(TABLE))
def test_in_maintenance_nothing_is_open_but_the_way_out_of_it(cast: Cast, maintenance: None, verb: Verb) -> None:
    """Who is not signed in is told that first; administrators reach the features, which end it, and nothing else."""
    names = {"id": MISSING, "stream_id": MISSING, "name": "maintenance_mode" if verb[0] == "GET" else "some_feature"}
    assert error_of(cast.ask(None, verb, **names), 401) == "Unauthorized"
    for name in ("reader", "owner", "admin"):
        reply = cast.ask(cast.tokens[name], verb, **names)
        if name == "admin" and verb[1].startswith("/features"):
            assert reply.status_code in (200, 404), reply.text
        else:
            assert error_of(reply, 503) == CLOSED
            assert reply.json()["maintenance"] is True
            assert reply.headers["retry-after"]


@pytest.mark.parametrize("verb", verbs(PUBLIC))
def test_in_maintenance_only_administrators_sign_in(cast: Cast, maintenance: None, verb: Verb) -> None:
    """What describes the API stays, and so does the server's health."""
    reply = cast.ask(None, verb)
    assert reply.status_code == (200 if "swagger" in verb[1] else 503)
    assert httpx.get(f"{cast.url}/health/live", timeout=PATIENCE_S).status_code == 200
    if verb[1].endswith("/login"):
        login = {"email": cast.people["admin"].email, "password": PASSWORD_OF_ALL}
        got(httpx.post(f"{cast.url}/api/v1{verb[1]}", json=login, timeout=PATIENCE_S))


CLOSED = "The API is currently under maintenance. Please try again later."


@pytest.fixture
def maintenance(cast: Cast) -> Iterator[None]:
    feature = "/features/maintenance_mode"
    got(cast.people["admin"].api.post(f"{feature}/enable"))
    yield
    got(cast.people["admin"].api.post(f"{feature}/disable"))
