"""stream-server: who may come in, what a link opens, and how often one may send."""

import hashlib
import hmac
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from serving import API_KEY, EMAIL, PASSWORD, Server, serving
from streamserver import TUNE, completed, playlist, refused, segments, submit
from waiting import PATIENCE_S

JWT_SECRET = "what the platform signs its tokens with, 32 bytes"
SECRET_KEY = "what links are signed with"
CLAIMS: dict[str, Any] = {
    "sub": 42,
    "username": "ada",
    "email": "ada@example.com",
    "roles": ["User"],
    "permissions": ["UploadAudio", "StreamAudio"],
    "iss": "veza-platform",
    "aud": "veza-services",
    "session_id": "x",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a credential and counts, with a platform that signs tokens."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    with serving(
        data,
        transcode_jobs=1,
        stream_require_auth="true",
        jwt_secret=JWT_SECRET,
        secret_key=SECRET_KEY,
        signature_tolerance_s=0,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def operator(guarded: Server) -> Iterator[httpx.Client]:
    with guarded.client() as client:
        yield client


@pytest.fixture(scope="module")
def stranger(guarded: Server) -> Iterator[httpx.Client]:
    with guarded.client(None) as client:
        yield client


@pytest.fixture(scope="module")
def job(operator: httpx.Client) -> str:
    return completed(operator)


def platform_token(**claims: Any) -> str:
    return jwt.encode({**CLAIMS, "exp": int(time.time()) + 60, **claims}, JWT_SECRET, "HS256")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(job: str, expires: int) -> dict[str, str]:
    """As any program does it that knows the secret."""
    signature = hmac.new(SECRET_KEY.encode(), f"{job}:{expires}".encode(), hashlib.sha256).hexdigest()
    return {"expires": str(expires), "sig": signature}


# Credentials


def test_without_a_credential_nothing_is_told(stranger: httpx.Client, job: str) -> None:
    for path in (f"job/{job}", "jobs", f"hls/{job}/index.m3u8", f"hls/{job}/segment_00001.ts", f"job/{job}/player"):
        response = stranger.get(f"/v1/stream/{path}")
        refused(response, 401, "Unauthorized access")
        assert response.headers["www-authenticate"] == "Bearer"
    refused(stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}), 401)
    refused(stranger.delete(f"/v1/stream/job/{job}"), 401)
    assert stranger.get("/v1/stream/openapi.json").status_code == 200


def test_a_person_with_a_link_that_has_ended_sees_a_page(stranger: httpx.Client, job: str) -> None:
    """A browser asks for HTML; the status and the headers are those that programs get."""
    answer = stranger.get(f"/v1/stream/job/{job}/player", params=signed(job, 1), headers={"Accept": "text/html"})

    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Unauthorized access" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_our_own_keys_and_tokens_are_taken(stranger: httpx.Client, job: str) -> None:
    token = stranger.post("/v2/auth/token", json={"email": EMAIL, "password": PASSWORD}).json()["access_token"]

    for headers in (bearer(API_KEY), {"X-API-Key": API_KEY}, bearer(token)):
        assert stranger.get(f"/v1/stream/job/{job}", headers=headers).status_code == 200
    refused(stranger.get(f"/v1/stream/job/{job}", headers=bearer("ms_nobody-knows-this-key")), 401)


def test_tokens_of_the_platform_are_taken(stranger: httpx.Client) -> None:
    headers = bearer(platform_token())
    response = stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, headers=headers)

    assert response.status_code == 200
    assert stranger.get(f"/v1/stream/job/{response.json()['job_id']}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "claims", [{"iss": "somebody"}, {"aud": "others"}, {"exp": 1}, {"sub": None}, {"sub": "ada"}], ids=str
)
def test_a_token_that_is_not_for_us_lets_nobody_in(stranger: httpx.Client, claims: dict[str, Any]) -> None:
    refused(stranger.get("/v1/stream/jobs", headers=bearer(platform_token(**claims))), 401)


def test_a_permission_that_is_missing_is_missed(stranger: httpx.Client) -> None:
    listener = bearer(platform_token(permissions=["StreamAudio"]))

    response = stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, headers=listener)
    refused(response, 403, "Forbidden access")
    assert stranger.get("/v1/stream/jobs", headers=listener).status_code == 200


def test_a_key_needs_the_scope(operator: httpx.Client, stranger: httpx.Client, job: str) -> None:
    made = operator.post("/v2/keys", json={"name": "writes only", "scopes": ["events:write"]})
    key = made.json()["key"]

    refused(stranger.get(f"/v1/stream/job/{job}", headers=bearer(key)), 403)


def test_a_key_that_is_limited_to_some_topics_is_for_no_job(
    operator: httpx.Client, stranger: httpx.Client, job: str
) -> None:
    """Not in a header and not in an address, whoever made it."""
    assert operator.post("/v2/streams", json={"stream_id": "orders"}).status_code == 201
    made = operator.post(
        "/v2/keys", json={"name": "orders", "scopes": ["events:read", "events:write"], "streams": ["orders"]}
    )
    key = made.json()["key"]

    refused(stranger.get(f"/v1/stream/job/{job}", headers=bearer(key)), 403)
    refused(stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, headers=bearer(key)), 403)
    refused(stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params={"token": key}), 403)


# Whose it is


def test_a_job_is_seen_by_who_sent_it_and_by_administrators(operator: httpx.Client, stranger: httpx.Client) -> None:
    """For everybody else it is as if there were none."""
    ada, bob = bearer(platform_token()), bearer(platform_token(sub=43, username="bob"))
    admin = bearer(platform_token(sub=44, roles=["Admin"], permissions=[]))
    sent = stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, headers=ada).json()["job_id"]
    path = f"/v1/stream/job/{sent}"

    assert stranger.get(path, headers=ada).status_code == 200
    assert stranger.get(path, headers=admin).status_code == 200
    assert operator.get(path).status_code == 200
    unknown = refused(stranger.get(f"/v1/stream/job/{'0' * 8}-0000-4000-8000-{'0' * 12}", headers=bob), 404)
    assert refused(stranger.get(path, headers=bob), 404).replace(sent, "") == unknown.replace(
        f"{'0' * 8}-0000-4000-8000-{'0' * 12}", ""
    )
    refused(stranger.delete(path, headers=bob), 404)
    refused(stranger.post(f"{path}/link", headers=bob), 404)
    about = [f"job/{sent}/{what}" for what in ("events", "waveform.json", "waveform.dat", "cover", "player")]
    names = ("index.m3u8", "master.m3u8", "segment_00001.ts", "init.mp4", "aac-64k/index.m3u8", "aac-64k/init.mp4")
    media = [f"{folder}/{sent}/{name}" for folder in ("hls", "live") for name in names]
    for address in about + media:
        refused(stranger.get(f"/v1/stream/{address}", headers=bob), 404)
    assert stranger.get("/v1/stream/jobs", headers=bob).json()["jobs"] == []


def test_an_administrators_key_without_the_scope_sees_his_own_jobs(
    operator: httpx.Client, stranger: httpx.Client
) -> None:
    """Without it his key is like anybody's: it is for what he sent himself."""
    made = operator.post("/v2/keys", json={"name": "plays", "scopes": ["events:read", "events:write"]})
    key, ada = bearer(made.json()["key"]), bearer(platform_token())
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(TUNE))}
    hers = stranger.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, headers=ada).json()["job_id"]
    upload = stranger.post("/v1/stream/uploads", headers={**ada, **tus}).headers["location"]
    his = submit(operator)

    assert stranger.get(f"/v1/stream/job/{his}", headers=key).status_code == 200
    for path in (f"job/{hers}", f"hls/{hers}/index.m3u8", f"job/{hers}/events", f"job/{hers}/player"):
        refused(stranger.get(f"/v1/stream/{path}", headers=key), 404)
    refused(stranger.delete(f"/v1/stream/job/{hers}", headers=key), 404)
    listed = {job["id"] for job in stranger.get("/v1/stream/jobs", headers=key).json()["jobs"]}
    assert his in listed
    assert hers not in listed
    assert stranger.head(upload, headers={**key, **tus}).status_code == 404
    assert operator.head(upload, headers=tus).status_code == 200


def test_an_upload_becomes_a_job_of_who_began_it(stranger: httpx.Client) -> None:
    """Also when an administrator sends the last of it, or looks at one that is complete."""
    ada, admin = bearer(platform_token()), bearer(platform_token(sub=44, roles=["Admin"], permissions=[]))
    tus = {"Tus-Resumable": "1.0.0"}
    begun = stranger.post("/v1/stream/uploads", headers={**ada, **tus, "Upload-Length": str(len(TUNE))})
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}

    last = stranger.patch(begun.headers["location"], content=TUNE, headers={**admin, **tus, **piece})

    assert stranger.get(last.headers["location"], headers=ada).status_code == 200


def test_an_upload_is_somebody_elses_on_every_route(stranger: httpx.Client) -> None:
    ada, bob = bearer(platform_token()), {**bearer(platform_token(sub=43)), "Tus-Resumable": "1.0.0"}
    part = {**ada, "Tus-Resumable": "1.0.0", "Upload-Length": "0", "Upload-Concat": "partial"}
    address = stranger.post("/v1/stream/uploads", headers=part).headers["location"]
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}

    assert stranger.head(address, headers=bob).status_code == 404
    refused(stranger.patch(address, content=b"", headers={**bob, **piece}), 404)
    refused(stranger.delete(address, headers=bob), 404)
    refused(stranger.post("/v1/stream/uploads", headers={**bob, "Upload-Concat": f"final;{address}"}), 404)


# Links


def test_a_link_opens_one_jobs_media_all_the_way_down(operator: httpx.Client, stranger: httpx.Client, job: str) -> None:
    link = operator.post(f"/v1/stream/job/{job}/link", params={"expires_in": 60}).json()

    for address in (link["master"], link["playlist"]):
        while address.split("?")[0].endswith(".m3u8"):
            answer = stranger.get(address)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "private, no-cache"
            address = str(answer.url.join(segments(answer.text.splitlines())[0]))
        segment = stranger.get(address)
        assert segment.status_code == 200
        assert segment.headers["cache-control"] == "private, max-age=31536000, immutable"
    player = stranger.get(link["player"])
    assert player.status_code == 200
    assert "sig=" in player.text
    refused(stranger.get(link["playlist"].split("?")[0]), 401)


def test_a_link_opens_nothing_else(stranger: httpx.Client, operator: httpx.Client, job: str) -> None:
    other = submit(operator)
    query = signed(job, int(time.time()) + 60)

    assert stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params=query).status_code == 200
    refused(stranger.get(f"/v1/stream/hls/{other}/index.m3u8", params=query), 401)
    refused(stranger.get(f"/v1/stream/job/{job}", params=query), 401)
    refused(stranger.get("/v1/stream/jobs", params=query), 401)
    refused(stranger.delete(f"/v1/stream/job/{job}", params=query), 401)


@pytest.mark.parametrize("change", ["old", "later", "garbled", "empty", "no number"])
def test_a_link_that_is_over_or_changed_opens_nothing(stranger: httpx.Client, job: str, change: str) -> None:
    now = int(time.time())
    query = {
        "old": signed(job, now - 1),
        "later": signed(job, now + 60) | {"expires": str(now + 3_600)},
        "garbled": signed(job, now + 60) | {"sig": "0" * 64},
        "empty": signed(job, now + 60) | {"sig": ""},
        "no number": signed(job, now + 60) | {"expires": "soon"},
    }[change]

    response = stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params=query)
    refused(response, 400 if change == "no number" else 401)


def test_a_token_in_the_address_opens_media_too(stranger: httpx.Client, job: str) -> None:
    """For players that cannot set headers; and nothing but media, for addresses end up in logs."""
    admin = {"token": platform_token(roles=["Admin"])}
    answer = stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params=admin)

    segment = answer.url.join(segments(answer.text.splitlines())[0])
    assert stranger.get(segment).status_code == 200
    refused(stranger.get(f"/v1/stream/job/{job}", params=admin), 401)
    refused(stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params={"token": "nonsense"}), 401)
    bob = {"token": platform_token(sub=43)}
    refused(stranger.get(f"/v1/stream/hls/{job}/index.m3u8", params=bob), 404)


def test_events_can_be_followed_with_a_link(stranger: httpx.Client, job: str) -> None:
    response = stranger.get(f"/v1/stream/job/{job}/events", params=signed(job, int(time.time()) + 60))

    assert response.status_code == 200
    assert "event: completed" in response.text


def test_where_nothing_is_asked_for_a_wrong_credential_does_no_harm(transcoder: httpx.Client) -> None:
    job = completed(transcoder)

    assert transcoder.get(f"/v1/stream/job/{job}", headers=bearer("nonsense")).status_code == 200
    assert playlist(transcoder, job)


# How often


def test_uploads_are_counted_and_the_rest_is_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    """60 a minute of which 10 at once, unless it is set otherwise."""
    data = tmp_path_factory.mktemp("counted") / "data"
    with serving(data, rate_limit="on", rate_limit_rpm=1, rate_limit_burst=2) as server, server.client(None) as client:
        jobs = [submit(client) for _ in range(2)]
        response = client.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)})

        refused(response, 429, "Rate limit exceeded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
        refused(client.post("/v1/stream/uploads", headers=tus), 429)
        for _ in range(20):
            assert client.get(f"/v1/stream/job/{jobs[0]}").status_code == 200


def test_a_server_that_others_can_reach_asks_for_a_credential(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("reachable") / "data"
    with serving(data, host="0.0.0.0") as server:
        url = f"http://127.0.0.1:{server.port}/v1/stream/jobs"
        refused(httpx.get(url, timeout=PATIENCE_S), 401)
        assert httpx.get(url, headers=bearer(API_KEY), timeout=PATIENCE_S).status_code == 200
