"""StreamSource as a client program speaks it, for tests of that door: people with roles, a server with its clock."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from mainstem.app import compose
from mainstem.clock import FixedClock
from mainstem.identity import passwords
from mainstem.settings import Settings
from serving import API_KEY, PASSWORD, Server
from waiting import PATIENCE_S

PASSWORD_OF_ALL = "SecurePassword123!"
FORBIDDEN = "You are not authorized to perform this action"
ELSEWHERE = "192.0.2.7"
"""An address that is not the server's own machine."""

_numbers = count(1)


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{next(_numbers)}"


def fresh_email() -> str:
    return f"{fresh('somebody')}@example.com"


class Person:
    """Somebody with an account and a token for it."""

    def __init__(self, url: str, answer: Mapping[str, Any]) -> None:
        self.id: int = answer["user"]["id"]
        self.email: str = answer["user"]["email"]
        self.token: str = answer["token"]
        self.api = httpx.Client(base_url=f"{url}/api/v1", headers=bearer(self.token), timeout=PATIENCE_S)

    def listing(self, **fields: Any) -> dict[str, Any]:
        """A stream of this person's."""
        body = {"source": "Ada", "link": "https://live.example/ada", **fields}
        made: dict[str, Any] = got(self.api.post("/streams", json=body), 201)
        return made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def person(server: Server, role: str = "default") -> Iterator[Person]:
    """Somebody new; other roles than the first need a server with `signup_roles`."""
    body = {"email": fresh_email(), "password": PASSWORD_OF_ALL, "role": role}
    answer = got(httpx.post(f"{server.url}/api/v1/users/signup", json=body, timeout=PATIENCE_S), 201)
    assert answer["user"]["role"] == role
    made = Person(server.url, answer)
    with made.api:
        yield made


def got(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer with this status."""
    assert response.status_code == status, response.text
    return response.json()


def error_of(response: httpx.Response, status: int) -> str:
    """Check that this is an error of that status in StreamSource's shape, and give its words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    said: str = response.json()["error"]
    assert said
    return said


class House:
    """A server in this process, with a clock that stands still."""

    def __init__(self, application: Any, clock: FixedClock) -> None:
        self.clock = clock
        self._application = application

    def client(self, token: str | None = None, address: str = ELSEWHERE) -> httpx.AsyncClient:
        """Speaks from this address."""
        transport = httpx.ASGITransport(app=self._application, client=(address, 40_000))
        headers = {} if token is None else bearer(token)
        return httpx.AsyncClient(transport=transport, base_url="http://here/api/v1", headers=headers)

    def operator(self) -> httpx.AsyncClient:
        return self.client(API_KEY, "127.0.0.1")

    async def sign_up(self, email: str | None = None, role: str | None = None) -> dict[str, Any]:
        """What a sign-up answers, from this machine."""
        body = {"email": email or fresh_email(), "password": PASSWORD_OF_ALL, "role": role}
        answer: dict[str, Any] = got(await self.client(address="127.0.0.1").post("/users/signup", json=body), 201)
        return answer


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """A server with these settings, for the block."""
    clock = FixedClock()
    plain: dict[str, Any] = {"data": folder / "data", "admin_password": PASSWORD, "api_key": API_KEY}
    alone = {"transcode_jobs": 0, "check": False}
    quick = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)  # it takes its time on purpose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "PasswordHasher", quick)
        async with compose(Settings(**plain | alone | settings), clock) as server:
            yield House(server.application, clock)
