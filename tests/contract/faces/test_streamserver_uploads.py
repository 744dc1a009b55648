"""stream-server: uploads that go on where they broke off (tus 1.0.0), by hand and by tus's own client."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreign import node
from serving import serving
from streamserver import TUNE, ended, refused

VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


def metadata(**values: str) -> dict[str, str]:
    pairs = [f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def begin(client: httpx.Client, length: int, **values: str) -> str:
    """Begin an upload; its address."""
    headers = VERSION | {"Upload-Length": str(length)} | metadata(**values)
    response = client.post("/v1/stream/uploads", headers=headers)
    assert response.status_code == 201, response.text
    address: str = response.headers["location"]
    return address


def append(client: httpx.Client, address: str, offset: int, content: bytes, **headers: str) -> httpx.Response:
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch(address, content=content, headers=VERSION | BYTES | {"Upload-Offset": str(offset)} | own)


def offset_of(client: httpx.Client, address: str) -> int:
    response = client.head(address, headers=VERSION)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return int(response.headers["upload-offset"])


def test_the_server_says_what_of_tus_it_speaks(transcoder: httpx.Client) -> None:
    response = transcoder.options("/v1/stream/uploads")

    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-max-size"] == str(100 << 20)
    spoken = set(response.headers["tus-extension"].split(","))
    assert {"creation", "creation-with-upload", "expiration", "checksum", "termination", "concatenation"} <= spoken


def test_a_file_in_two_pieces_becomes_a_job(transcoder: httpx.Client) -> None:
    address = begin(transcoder, len(TUNE), filename="My Song.wav", codec="mp3", bitrate="128000")
    first = append(transcoder, address, 0, TUNE[:100_000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "100000")
    assert "upload-expires" in first.headers
    assert "stream-job-id" not in first.headers
    assert offset_of(transcoder, address) == 100_000

    last = append(transcoder, address, 100_000, TUNE[100_000:])

    job = last.headers["stream-job-id"]
    assert last.headers["location"] == f"/v1/stream/job/{job}"
    assert last.headers["tus-resumable"] == "1.0.0"
    done = ended(transcoder, job)
    assert (done["status"], done["track_id"]) == ("Completed", "My Song")
    assert transcoder.get(f"/v1/stream/hls/{job}/segment_00001.ts").status_code == 200
    assert transcoder.head(address, headers=VERSION).headers["stream-job-id"] == job


def test_a_file_may_come_with_the_first_request(transcoder: httpx.Client) -> None:
    headers = VERSION | BYTES | {"Upload-Length": str(len(TUNE))} | metadata(filename="tune.wav")
    response = transcoder.post("/v1/stream/uploads", content=TUNE, headers=headers)

    assert response.status_code == 201
    assert response.headers["upload-offset"] == str(len(TUNE))
    assert response.headers["location"].startswith("/v1/stream/uploads/")
    assert ended(transcoder, response.headers["stream-job-id"])["status"] == "Completed"


def test_the_length_may_come_later(transcoder: httpx.Client) -> None:
    response = transcoder.post("/v1/stream/uploads", headers=VERSION | {"Upload-Defer-Length": "1"})
    address = response.headers["location"]
    append(transcoder, address, 0, TUNE[:1_000])
    assert transcoder.head(address, headers=VERSION).headers["upload-defer-length"] == "1"

    last = append(transcoder, address, 1_000, TUNE[1_000:], Upload_Length=str(len(TUNE)))

    assert last.headers["stream-job-id"]


def test_bytes_that_do_not_follow_are_refused(transcoder: httpx.Client) -> None:
    address = begin(transcoder, 10)

    refused(append(transcoder, address, 5, b"12345"), 409)
    refused(append(transcoder, address, 0, b"12345678901"), 400)
    refused(append(transcoder, address, 0, b"1", Content_Type="text/plain"), 415)
    assert offset_of(transcoder, address) == 0


def test_another_version_is_refused(transcoder: httpx.Client) -> None:
    response = transcoder.post("/v1/stream/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})

    refused(response, 412)
    assert response.headers["tus-version"] == "1.0.0"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "-1"},
        {"Upload-Length": "many"},
        {"Upload-Length": "1", "Upload-Metadata": "filename ???"},
        {"Upload-Length": "1", "Upload-Metadata": "a YQ==,a YQ=="},
        {"Upload-Length": "1"} | metadata(codec="wma"),
        {"Upload-Length": "1"} | metadata(bitrate="fast"),
        {"Upload-Concat": "final;/elsewhere"},
    ],
    ids=str,
)
def test_an_upload_that_cannot_become_a_job_is_not_begun(transcoder: httpx.Client, headers: dict[str, str]) -> None:
    refused(transcoder.post("/v1/stream/uploads", headers=VERSION | headers), 400)


def test_a_file_that_is_too_large_is_not_begun(transcoder: httpx.Client) -> None:
    headers = VERSION | {"Upload-Length": str((100 << 20) + 1)}
    refused(transcoder.post("/v1/stream/uploads", headers=headers), 413)


def test_a_file_of_unknown_length_that_gets_too_large_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", max_file_size=1_000) as server, server.client(None) as client:
        address = client.post("/v1/stream/uploads", headers=VERSION | {"Upload-Defer-Length": "1"}).headers["location"]

        assert append(client, address, 0, bytes(1_000)).status_code == 204
        refused(append(client, address, 1_000, b"x"), 413)
        assert offset_of(client, address) == 1_000


def test_a_file_that_is_no_audio_is_refused_when_it_is_there(transcoder: httpx.Client) -> None:
    address = begin(transcoder, 10, filename="a.wav")

    refused(append(transcoder, address, 0, b"no audio!!"), 400)
    refused(transcoder.patch(address, headers=VERSION | BYTES | {"Upload-Offset": "10"}), 404)


def test_a_checksum_that_does_not_fit_keeps_nothing(transcoder: httpx.Client) -> None:
    address = begin(transcoder, 10)
    right = "sha1 " + base64.b64encode(hashlib.sha1(b"12345").digest()).decode()
    wrong = "sha1 " + base64.b64encode(hashlib.sha1(b"other").digest()).decode()

    refused(append(transcoder, address, 0, b"12345", Upload_Checksum=wrong), 460)
    assert offset_of(transcoder, address) == 0
    assert append(transcoder, address, 0, b"12345", Upload_Checksum=right).status_code == 204
    refused(append(transcoder, address, 5, b"12345", Upload_Checksum="crc32 AAAA"), 400)


def test_an_upload_can_be_ended(transcoder: httpx.Client) -> None:
    address = begin(transcoder, 10)

    assert transcoder.delete(address, headers=VERSION).status_code == 204
    assert transcoder.head(address, headers=VERSION).status_code == 404


def test_clients_with_nothing_but_post_go_on_as_well(transcoder: httpx.Client) -> None:
    address = begin(transcoder, 10)
    headers = VERSION | BYTES | {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}

    assert transcoder.post(address, content=b"12345", headers=headers).status_code == 204
    assert offset_of(transcoder, address) == 5
    refused(transcoder.post(address, headers=VERSION), 400)


def test_parts_that_were_sent_side_by_side_become_one_job(transcoder: httpx.Client) -> None:
    addresses = []
    for part in (TUNE[:70_000], TUNE[70_000:]):
        headers = VERSION | {"Upload-Length": str(len(part)), "Upload-Concat": "partial"}
        addresses.append(transcoder.post("/v1/stream/uploads", headers=headers).headers["location"])
        assert "stream-job-id" not in append(transcoder, addresses[-1], 0, part).headers

    headers = VERSION | {"Upload-Concat": f"final;{' '.join(addresses)}"} | metadata(filename="whole.wav")
    whole = transcoder.post("/v1/stream/uploads", headers=headers)

    assert whole.status_code == 201
    assert ended(transcoder, whole.headers["stream-job-id"])["track_id"] == "whole"


def test_an_upload_survives_the_end_of_the_server(tmp_path: Path) -> None:
    """It is killed in the middle of the file; what was acknowledged is still there."""
    with serving(tmp_path / "data") as server, server.client(None) as client:
        address = begin(client, len(TUNE), filename="tune.wav")
        append(client, address, 0, TUNE[:123_456])
        server.process.kill()

    with serving(tmp_path / "data", transcode_jobs=1) as server, server.client(None) as client:
        offset = offset_of(client, address)
        assert offset == 123_456
        last = append(client, address, offset, TUNE[offset:])
        assert ended(client, last.headers["stream-job-id"])["status"] == "Completed"


def test_there_are_only_so_many_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", uploads_open_max=2) as server, server.client(None) as client:
        for _ in range(2):
            begin(client, 10)
        response = client.post("/v1/stream/uploads", headers=VERSION | {"Upload-Length": "10"})

        refused(response, 503)
        assert response.headers["retry-after"]


def test_an_upload_is_seen_by_who_began_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", stream_require_auth="true") as server, server.client() as operator:
        address = begin(operator, 10)
        with server.client(None) as stranger:
            assert stranger.head(address, headers=VERSION).status_code == 401
        assert offset_of(operator, address) == 0


@pytest.mark.parametrize("chunk", [50_000, 10_000_000])
def test_the_client_of_tus_uploads(transcoder: httpx.Client, tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "tune.wav"
    path.write_bytes(TUNE)
    endpoint = f"{transcoder.base_url}/v1/stream/uploads"
    order = json.dumps({"filename": "Ünïcode.wav", "quality_profile": "low"})

    told: dict[str, Any] = json.loads(node("tus.cjs", endpoint, path, chunk, order))

    job = ended(transcoder, told["headers"]["job"])
    assert (job["status"], job["track_id"]) == ("Completed", "Ünïcode")
