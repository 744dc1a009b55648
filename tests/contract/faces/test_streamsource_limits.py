"""How often one may ask StreamSource, to the number."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mainstem.clock import SECOND_US, FixedClock
from serving import EMAIL, PASSWORD
from streamsource import ELSEWHERE, PASSWORD_OF_ALL, House, error_of, fresh_email, got, house

TOO_MANY = "Too many requests. Please try again later."
CHEAP = "/nothing"
"""A path that costs nothing to answer, and counts as every other."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as running:
        yield running


def window_end_s(clock: FixedClock, window_s: int) -> int:
    return (clock() // SECOND_US // window_s + 1) * window_s


async def asked(client: httpx.AsyncClient, times: int, path: str = CHEAP) -> httpx.Response:
    """The last of so many answers."""
    for _ in range(times):
        answer = await client.get(path)
    return answer


async def test_the_thousand_and_first_request_of_a_minute_is_refused(here: House) -> None:
    """Windows end with the minute of the clock, however late the requests came in it."""
    client = here.client()
    here.clock.advance(window_end_s(here.clock, 60) - here.clock() / SECOND_US - 10)
    last = await asked(client, 1_000)
    refusal = await client.get("/streams")

    assert last.status_code == 404
    assert last.headers["x-ratelimit-remaining"] == "0"
    assert error_of(refusal, 429) == TOO_MANY
    assert refusal.headers["x-ratelimit-limit"] == "1000"
    assert refusal.headers["x-ratelimit-remaining"] == "0"
    assert refusal.headers["x-ratelimit-reset"] == str(window_end_s(here.clock, 60))
    assert refusal.headers["retry-after"] == "10"
    here.clock.advance(9.999)
    assert (await client.get(CHEAP)).status_code == 429
    here.clock.advance(0.001)
    fresh = await client.get(CHEAP)
    assert (fresh.status_code, fresh.headers["x-ratelimit-remaining"]) == (404, "999")


async def test_every_path_counts_and_each_address_for_itself(here: House) -> None:
    """Whether there is such a path, and whether the caller has a token."""
    client = here.client()
    paths = ("/streams", "/nothing", "http://here/swagger/v1/swagger.yaml", "/users/login", "/features")
    left = [int((await client.get(path)).headers["x-ratelimit-remaining"]) for path in paths]
    elsewhere = await here.client(address="192.0.2.8").get("/streams")

    assert left == [999, 998, 997, 996, 995]
    assert elsewhere.headers["x-ratelimit-remaining"] == "999"


async def test_what_belongs_to_all_doors_is_not_counted(here: House) -> None:
    """A monitor of the same address must not take the server for dead, nor be what locks a program out."""
    client = here.client()
    shared = ("/", "/health", "/health/live", "/health/ready", "/metrics", "/api-docs")
    await asked(client, 999)
    for path in shared:
        assert (await client.get(f"http://here{path}")).status_code in (200, 401), path
    assert (await client.get(CHEAP)).headers["x-ratelimit-remaining"] == "0"
    assert (await client.get(CHEAP)).status_code == 429
    for path in shared:
        assert (await client.get(f"http://here{path}")).status_code in (200, 401), path


async def test_limits_come_before_everything_else(here: House) -> None:
    """429 whoever asks for whatever."""
    token = (await here.sign_up())["token"]
    client = here.client(token)
    await asked(client, 1_000)

    for method, path in (("GET", "/streams"), ("POST", "/users/login"), ("PUT", "/users/login"), ("GET", "/nothing")):
        assert error_of(await client.request(method, path), 429) == TOO_MANY, path


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_the_servers_own_machine_is_not_limited(here: House, address: str) -> None:
    """Its answers tell the limits all the same."""
    last = await asked(here.client(address=address), 1_001)

    assert last.status_code == 404
    assert (last.headers["x-ratelimit-limit"], last.headers["x-ratelimit-remaining"]) == ("1000", "1000")
    assert last.headers["x-ratelimit-reset"] == str(window_end_s(here.clock, 60))


async def test_the_servers_own_machine_is_limited_when_that_is_asked_for(tmp_path: Path) -> None:
    """By a setting, for tests and for proxies that tell no address."""
    async with house(tmp_path, rate_limit_loopback=True) as here:
        assert (await asked(here.client(address="127.0.0.1"), 1_001)).status_code == 429


async def test_an_account_is_tried_five_hundred_times_whatever_the_addresses(here: House) -> None:
    """In twenty minutes, by both paths and in any case: many machines do not help to guess a password."""
    here.clock.advance(window_end_s(here.clock, 1_200) - here.clock() / SECOND_US)
    body = {"email": "x", "password": ""}
    for count in range(500):
        email = f"Ada@Example.com{' ' * (count % 2)}"
        path = ("/users/login", "/login")[count % 2]
        await _refused_sign_in(here, f"192.0.2.{count % 200}", path, {**body, "email": email})
    refusal = await here.client(address="192.0.2.250").post("/login", json={"user": {"email": "ada@example.com"}})

    assert error_of(refusal, 429) == TOO_MANY
    assert refusal.headers["x-ratelimit-limit"] == "500"
    assert refusal.headers["x-ratelimit-reset"] == str(window_end_s(here.clock, 1_200))
    other = await here.client(address="192.0.2.250").post("/login", json={"email": EMAIL, "password": PASSWORD})
    got(other)


async def _refused_sign_in(here: House, address: str, path: str, body: dict[str, str]) -> None:
    answer = await here.client(address=address).post(path, json=body)
    assert answer.status_code == 401


async def test_an_address_tries_to_sign_in_five_hundred_times(here: House) -> None:
    """In twenty minutes, to whichever accounts; a broken body counts, too."""
    here.clock.advance(window_end_s(here.clock, 1_200) - here.clock() / SECOND_US)
    client = here.client()
    for _ in range(500):
        assert (await client.post("/users/login", content=b"{")).status_code == 400
    refusal = await client.post("/login", json={"email": EMAIL, "password": PASSWORD})
    assert error_of(refusal, 429) == TOO_MANY

    here.clock.advance(1_200)
    got(await client.post("/login", json={"email": EMAIL, "password": PASSWORD}))


async def test_an_address_signs_up_three_hundred_times_an_hour(here: House) -> None:
    """By both paths together, whether it works or not."""
    here.clock.advance(window_end_s(here.clock, 3_600) - here.clock() / SECOND_US)
    client = here.client()
    for count in range(300):
        assert (await client.post(("/users/signup", "/signup")[count % 2], json={})).status_code == 422
    body = {"email": fresh_email(), "password": PASSWORD_OF_ALL}
    refusal = await client.post("/users/signup", json=body)

    assert error_of(refusal, 429) == TOO_MANY
    assert refusal.headers["retry-after"] == "3600"
    got(await here.client(address="192.0.2.9").post("/users/signup", json=body), 201)


async def test_behind_a_trusted_proxy_the_client_counts(tmp_path: Path) -> None:
    """What the client itself put into X-Forwarded-For is not believed."""
    async with house(tmp_path, trusted_proxies=("192.0.2.0/24",)) as here:
        proxy = here.client(address=ELSEWHERE)
        first = await proxy.get(CHEAP, headers={"X-Forwarded-For": "127.0.0.1, 198.51.100.1"})
        again = await proxy.get(CHEAP, headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.1, 192.0.2.99"})
        other = await proxy.get(CHEAP, headers={"X-Forwarded-For": "198.51.100.2"})
        liar = await here.client(address="198.51.100.3").get(CHEAP, headers={"X-Forwarded-For": "127.0.0.1"})

    left = [answer.headers["x-ratelimit-remaining"] for answer in (first, again, other, liar)]
    assert left == ["999", "998", "999", "999"]
