"""stream-server: sending a file, and the job that becomes of it."""

import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest

from serving import serving
from streamserver import TUNE, completed, ended, events, refused, submit
from tunes import tune, wav
from waiting import PATIENCE_S

KEYS = {"id", "track_id", "status", "progress", "created_at", "started_at", "completed_at", "error"}
EXTRAS = {"attempt", "loudness", "media"}


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that transcodes nothing: what is sent stays Pending."""
    with serving(tmp_path_factory.mktemp("idle") / "data") as server, server.client(None) as client:
        yield client


# Sending


def test_a_file_alone_is_enough(idle: httpx.Client) -> None:
    response = idle.post("/v1/stream/transcode", files={"file": ("tune.wav", TUNE)})

    assert response.status_code == 200
    answer = response.json()
    assert uuid.UUID(answer["job_id"]).version == 4
    assert answer == {"job_id": answer["job_id"], "status": "queued", "message": "Job submitted successfully"}


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": "aac"},
        {"codec": "MP3", "bitrate": "192000"},
        {"codec": "opus"},
        {"codec": "Flac"},
        {"quality_profile": "hi_res"},
        {"quality_profile": "HIGH"},
        {"quality_profile": "medium", "priority": "urgent"},
        {"quality_profile": "low", "priority": "Background"},
        {"codec": "", "bitrate": "", "quality_profile": "", "priority": ""},
        {"somebody": "else's field"},
    ],
)
def test_every_codec_profile_and_priority_is_taken(idle: httpx.Client, fields: dict[str, str]) -> None:
    """In any case; an empty field is one that was not sent, and unknown ones are passed over."""
    submit(idle, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": "wma"},
        {"quality_profile": "ultra"},
        {"priority": "low"},
        {"bitrate": "abc"},
        {"bitrate": "-1"},
        {"bitrate": "0"},
        {"bitrate": "999999999"},
        {"loudness": "loud"},
        {"loudness": "0"},
        {"ladder": "perhaps"},
        {"track_id": "../../etc/passwd"},
        {"track_id": "a" * 256},
    ],
)
def test_a_wrong_field_is_refused_by_its_name(idle: httpx.Client, fields: dict[str, str]) -> None:
    response = idle.post("/v1/stream/transcode", files={"file": ("tune.wav", TUNE)}, data=fields)

    assert next(iter(fields)).split("_")[-1] in refused(response, 400)


@pytest.mark.parametrize(
    "content", [b"", b"this is no sound", b"RIFF\0\0\0\0WAVE", TUNE[:44], b"#EXTM3U\nfile:///etc/passwd\n"]
)
def test_what_is_no_audio_is_refused_at_once(idle: httpx.Client, content: bytes) -> None:
    """And is no job that fails later."""
    before = idle.get("/v1/stream/jobs").json()["jobs"]

    refused(idle.post("/v1/stream/transcode", files={"file": ("tune.wav", content)}), 400)

    assert idle.get("/v1/stream/jobs").json()["jobs"] == before


def test_a_request_without_a_file_is_refused(idle: httpx.Client) -> None:
    path = "/v1/stream/transcode"

    assert "file" in refused(idle.post(path, files={"other": ("tune.wav", TUNE)}), 400)
    refused(idle.post(path, json={"file": "tune.wav"}), 400)
    refused(idle.post(path, content=b""), 400)
    refused(idle.post(path, content=b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}), 400)
    two = [("file", ("a.wav", TUNE)), ("file", ("b.wav", TUNE))]
    refused(idle.post(path, files=two), 400)


@pytest.mark.parametrize(("codecs", "status"), [(("aac", "mp3"), 400), (("aac", "aac"), 400), (("", "mp3"), 200)])
def test_a_field_comes_once(idle: httpx.Client, codecs: tuple[str, str], status: int) -> None:
    """Nobody can tell which of two was meant; but one that is empty is none."""
    fields = [("codec", (None, codec.encode())) for codec in codecs]

    response = idle.post("/v1/stream/transcode", files=[*fields, ("file", ("tune.wav", TUNE))])

    assert response.status_code == status, response.text


def test_fields_may_come_after_the_file(idle: httpx.Client) -> None:
    response = idle.post(
        "/v1/stream/transcode", files=[("file", ("tune.wav", TUNE)), ("track_id", (None, b"my track"))]
    )

    job = idle.get(f"/v1/stream/job/{response.json()['job_id']}").json()
    assert job["track_id"] == "my track"


@pytest.mark.parametrize(
    ("filename", "track"),
    [
        ("My Song-1.2.wav", "My Song-1.2"),
        ("../../a b;.wav", "a b_"),
        ("C:\\music\\тест.flac", "тест"),
        ("x" * 300 + ".wav", "x" * 255),
        ("no extension", "no extension"),
        ('a"b.wav', "a_b"),
        ("\u202eabc.wav", "_abc"),
    ],
)
def test_a_track_is_named_after_its_file(idle: httpx.Client, filename: str, track: str) -> None:
    job = submit(idle, filename=filename)

    assert idle.get(f"/v1/stream/job/{job}").json()["track_id"] == track


def test_a_file_without_a_name_is_named_after_its_job(idle: httpx.Client) -> None:
    job = submit(idle, filename=".wav")

    assert idle.get(f"/v1/stream/job/{job}").json()["track_id"] == job


# Looking


def test_a_job_that_waits_has_exactly_these_keys(idle: httpx.Client) -> None:
    job = idle.get(f"/v1/stream/job/{submit(idle)}").json()

    assert job.keys() == KEYS | EXTRAS
    assert (job["status"], job["progress"], job["attempt"]) == ("Pending", 0.0, 0)
    assert (job["started_at"], job["completed_at"], job["error"], job["loudness"]) == (None, None, None, None)
    assert job["media"] == {
        "duration_s": 2.0,
        "codec": "pcm_s16le",
        "bitrate": 1_411_200,
        "sample_rate": 44_100,
        "channels": 2,
        "tags": {},
    }


@pytest.mark.parametrize("job", ["0d4b1a5e-7c1f-4b0a-9d9e-3f5a2c8e6b71", "not-a-uuid", "%2e%2e", "%ff", "' OR 1=1"])
def test_a_job_that_nobody_sent_is_not_found(idle: httpx.Client, job: str) -> None:
    refused(idle.get(f"/v1/stream/job/{job}"), 404)
    refused(idle.get(f"/v1/stream/hls/{job}/index.m3u8"), 404)
    refused(idle.get(f"/v1/stream/hls/{job}/segment_00001.ts"), 404)


def test_what_a_job_that_waits_will_make_is_not_there_yet(idle: httpx.Client) -> None:
    """The manifest says 400, its segments 404: nobody can have their names."""
    job = submit(idle)

    refused(idle.get(f"/v1/stream/hls/{job}/index.m3u8"), 400)
    refused(idle.get(f"/v1/stream/hls/{job}/master.m3u8"), 400)
    refused(idle.get(f"/v1/stream/hls/{job}/segment_00001.ts"), 404)
    refused(idle.get(f"/v1/stream/live/{job}/index.m3u8"), 400)


def test_jobs_are_listed_newest_first_and_in_pages(idle: httpx.Client) -> None:
    sent = [submit(idle, track_id="listed") for _ in range(3)]

    first = idle.get("/v1/stream/jobs", params={"track_id": "listed", "status": "pending", "limit": 2}).json()
    rest = idle.get("/v1/stream/jobs", params={"track_id": "listed", "cursor": first["next_cursor"]}).json()

    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == sent[::-1]
    assert rest["next_cursor"] is None
    for wrong in ({"status": "queued"}, {"limit": "0"}, {"limit": "x"}, {"cursor": "x"}):
        refused(idle.get("/v1/stream/jobs", params=wrong), 400)


def test_times_are_written_as_rust_does_where_that_is_asked_for(idle: httpx.Client) -> None:
    job = submit(idle)
    usual = datetime.fromisoformat(idle.get(f"/v1/stream/job/{job}").json()["created_at"])
    rust = idle.get(f"/v1/stream/job/{job}", params={"dates": "rust"}).json()

    match = re.fullmatch(r"SystemTime \{ tv_sec: (\d+), tv_nsec: (\d+) \}", rust["created_at"])
    assert match is not None
    assert int(match[1]) + int(match[2]) / 1e9 == pytest.approx(usual.timestamp())
    assert rust["started_at"] is None
    refused(idle.get(f"/v1/stream/job/{job}", params={"dates": "maya"}), 400)


# Ending


def test_a_job_that_waits_can_be_cancelled_and_then_removed(idle: httpx.Client) -> None:
    job = submit(idle)
    path = f"/v1/stream/job/{job}"

    cancelled = idle.delete(path)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "Cancelled")
    assert idle.get(path).json()["completed_at"] is not None
    refused(idle.get(f"/v1/stream/hls/{job}/index.m3u8"), 404)
    refused(idle.get(f"/v1/stream/live/{job}/index.m3u8"), 404)

    assert idle.delete(path).status_code == 204
    refused(idle.get(path), 404)
    refused(idle.delete(path), 404)


# Doing


def test_a_job_goes_from_pending_to_completed_and_its_progress_never_falls(transcoder: httpx.Client) -> None:
    job = submit(transcoder, tune(20))
    seen: list[dict[str, Any]] = [transcoder.get(f"/v1/stream/job/{job}").json()]
    seen += [data for name, data in events(transcoder, job) if name != "segment"]

    order = ["Pending", "Processing", "Completed"]
    states = [order.index(one["status"]) for one in seen]
    assert states == sorted(states)
    progress = [one["progress"] for one in seen]
    assert progress == sorted(progress)
    last = seen[-1]
    assert (last["status"], last["progress"], last["error"], last["attempt"]) == ("Completed", 100.0, None, 1)
    times = [datetime.fromisoformat(last[key]) for key in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)


def test_a_finished_job_writes_its_times_as_rust_does(transcoder: httpx.Client) -> None:
    job = completed(transcoder)

    times = transcoder.get(f"/v1/stream/job/{job}", params={"dates": "rust"}).json()
    some = re.compile(r"Some\(SystemTime \{ tv_sec: \d+, tv_nsec: \d+ \}\)")
    assert some.fullmatch(times["started_at"])
    assert some.fullmatch(times["completed_at"])


def test_loudness_is_measured_always_and_brought_to_a_target_when_asked(transcoder: httpx.Client) -> None:
    usual = ended(transcoder, submit(transcoder))["loudness"]
    quiet = ended(transcoder, submit(transcoder, loudness="-23"))["loudness"]

    assert usual.keys() == {"integrated_lufs", "range_lu", "true_peak_dbtp", "target_lufs"}
    assert -40 < usual["integrated_lufs"] < 0
    assert (usual["target_lufs"], quiet["target_lufs"]) == (None, -23.0)


@pytest.mark.parametrize(
    "content",
    [
        wav(np.zeros((44_100, 2), np.int16)),
        wav(np.ones((44, 1), np.int16)),
        tune(1, rate=96_000),
        tune(1, rate=8_000, channels=1),
        tune(1, channels=6),
    ],
    ids=["silence", "1 ms", "96 kHz", "8 kHz mono", "six channels"],
)
def test_odd_audio_is_audio_all_the_same(transcoder: httpx.Client, content: bytes) -> None:
    completed(transcoder, content)


def test_many_jobs_at_once_all_finish(transcoder: httpx.Client) -> None:
    sent = [submit(transcoder, tune(0.5), track_id="one of many", priority="urgent") for _ in range(8)]

    assert {ended(transcoder, job)["status"] for job in sent} == {"Completed"}


def test_who_comes_back_to_the_events_is_told_what_he_has_not_seen(transcoder: httpx.Client) -> None:
    job = completed(transcoder)

    assert [name for name, _ in events(transcoder, job)] == ["segment", "completed"]
    assert [name for name, _ in events(transcoder, job, **{"Last-Event-ID": "Processing-1-20"})] == ["completed"]
    assert [name for name, _ in events(transcoder, job, **{"Last-Event-ID": "nonsense"})] == ["segment", "completed"]
    again = transcoder.get(f"/v1/stream/job/{job}/events", headers={"Last-Event-ID": "Completed-1-100"})
    assert again.status_code == 204


def test_a_running_job_can_be_cancelled(transcoder: httpx.Client) -> None:
    job = submit(transcoder, tune(120), codec="opus", priority="urgent")
    for name, _ in events(transcoder, job):
        if name == "progress":
            transcoder.delete(f"/v1/stream/job/{job}")

    assert transcoder.get(f"/v1/stream/job/{job}").json()["status"] in ("Cancelled", "Completed")


def test_what_was_made_goes_with_its_job(transcoder: httpx.Client) -> None:
    job = completed(transcoder)
    segment = f"/v1/stream/hls/{job}/segment_00001.ts"
    assert transcoder.get(segment).status_code == 200

    assert transcoder.delete(f"/v1/stream/job/{job}").status_code == 204

    for path in (segment, f"/v1/stream/hls/{job}/index.m3u8", f"/v1/stream/job/{job}", f"/v1/stream/job/{job}/player"):
        refused(transcoder.get(path), 404)


def test_a_job_outlives_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One that was waiting when the server was killed is done by the next."""
    data = tmp_path_factory.mktemp("killed") / "data"
    with serving(data) as server, server.client(None) as client:
        job = submit(client)
        server.process.kill()

    with serving(data, transcode_jobs=1) as server, server.client(None) as client:
        assert ended(client, job)["status"] == "Completed"


def test_dates_may_be_rusts_for_everybody(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("rust") / "data"
    with serving(data, stream_dates="rust") as server, server.client(None) as client:
        job = submit(client)
        assert client.get(f"/v1/stream/job/{job}").json()["created_at"].startswith("SystemTime {")
        usual = client.get(f"/v1/stream/job/{job}", params={"dates": "rfc3339"}).json()
        assert usual["created_at"].endswith("Z")


def test_a_server_that_stops_lets_those_go_who_follow(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("stopped") / "data"
    with serving(data, shutdown_timeout_s=5 * PATIENCE_S) as server, server.client(None) as client:
        job = submit(client)
        followed = events(client, job)
        assert next(followed)[1]["status"] == "Pending"

        assert server.stop() == 0

        assert list(followed) == []
