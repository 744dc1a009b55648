"""The client that StreamSource's guide gives to integrators, run by Node against a server."""

import json
from pathlib import Path

import foreign
from serving import EMAIL, PASSWORD, serving


def test_the_guides_own_client_works(tmp_path: Path) -> None:
    """It signs in, creates, lists, pins and deletes, waits when it is told to, and reads every refusal."""
    with serving(tmp_path / "data", trusted_proxies="127.0.0.1", rate_limit_loopback="yes") as server:
        given = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
        told = json.loads(foreign.node("guide.cjs", server.url, stdin=given))

    made = told["made"]
    assert told["user"].keys() >= {"id", "email", "role"}
    assert (made["source"], made["status"], made["platform"]) == ("StreamerName", "offline", "TikTok")
    assert (made["title"], made["notes"], made["user"]["email"]) == ("Stream Title", "Additional notes", EMAIL)
    assert (told["second"]["status"], told["second"]["platform"]) == ("live", "Twitch")
    assert (told["pinned"]["id"], told["pinned"]["is_pinned"]) == (made["id"], True)
    assert [stream["id"] for stream in told["listed"]["streams"]] == [made["id"]]
    assert told["listed"]["pagination"] == {"current_page": 1, "total_pages": 1, "total_count": 1, "per_page": 10}
    assert [stream["id"] for stream in told["others"]["streams"]] == [told["second"]["id"]]
    assert told["invalid"] == "Link can't be blank, Link must be a valid HTTP or HTTPS URL"
    assert told["unauthorized"] == "Unauthorized"
    assert (told["waits"], told["afterWaiting"]["id"]) == ([100, 200], made["id"])
    assert (told["deleted"], told["gone"]) == (None, "Record not found")
