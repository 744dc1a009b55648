"""stream-server: what is played, and how it is served."""

import io
import re
from urllib.parse import urljoin

import av
import httpx
import m3u8
import pytest

from streamserver import completed, events, playlist, refused, segments, submit
from tunes import tune

KEPT = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def job(transcoder: httpx.Client) -> str:
    """20 s as the seed's examples ask for it."""
    return completed(transcoder, tune(20), quality_profile="high")


@pytest.fixture(scope="module")
def ladder(transcoder: httpx.Client) -> str:
    return completed(transcoder, tune(8), ladder="true")


def decoded_s(content: bytes) -> tuple[str, float]:
    """The codec, and how much sound comes out."""

    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.audio[0]
        samples: int = sum(frame.samples for frame in container.decode(stream))
        return stream.codec_context.name, samples / stream.codec_context.sample_rate


# The playlist


def test_the_playlist_is_written_as_the_seed_has_it(transcoder: httpx.Client, job: str) -> None:
    lines = playlist(transcoder, job)

    assert lines[:4] == ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:6", "#EXT-X-MEDIA-SEQUENCE:0"]
    assert segments(lines) == [f"segment_{number:05d}.ts" for number in (1, 2, 3, 4)]
    assert lines[-1] == "#EXT-X-ENDLIST"


def test_its_segments_are_as_long_together_as_the_file(transcoder: httpx.Client, job: str) -> None:
    parsed = m3u8.loads("\n".join(playlist(transcoder, job)))

    durations = [segment.duration for segment in parsed.segments]
    assert durations == pytest.approx([6, 6, 6, 2], abs=0.06)
    assert sum(durations) == pytest.approx(20, abs=0.1)
    assert parsed.target_duration >= max(map(round, durations))


@pytest.mark.parametrize("codec", ["aac", "mp3"])
def test_aac_and_mp3_come_in_transport_streams(transcoder: httpx.Client, codec: str) -> None:
    job = completed(transcoder, tune(8), codec=codec, bitrate="128000")
    content = b""
    for name in segments(playlist(transcoder, job)):
        response = transcoder.get(f"/v1/stream/hls/{job}/{name}")
        assert response.headers["content-type"] == "video/mp2t"
        assert response.content[0] == 0x47
        assert len(response.content) % 188 == 0
        content += response.content

    name, seconds = decoded_s(content)
    assert name == codec if codec == "aac" else name in ("mp3", "mp3float")
    assert seconds == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("codec", ["opus", "flac"])
def test_opus_and_flac_come_in_fragmented_mp4(transcoder: httpx.Client, codec: str) -> None:
    job = completed(transcoder, tune(8), codec=codec)
    lines = playlist(transcoder, job)

    assert "#EXT-X-VERSION:7" in lines
    assert '#EXT-X-MAP:URI="init.mp4"' in lines
    names = ["init.mp4", *segments(lines)]
    assert names[1] == "segment_00001.m4s"
    answers = [transcoder.get(f"/v1/stream/hls/{job}/{name}") for name in names]
    assert {answer.headers["content-type"] for answer in answers} == {"audio/mp4"}
    name, seconds = decoded_s(b"".join(answer.content for answer in answers))
    assert codec in name
    assert seconds == pytest.approx(8, abs=0.1)


def test_a_ladder_has_several_bitrates_and_flac_of_a_lossless_file(transcoder: httpx.Client, ladder: str) -> None:
    master = m3u8.loads("\n".join(playlist(transcoder, ladder, "master.m3u8")))

    codecs = [variant.stream_info.codecs for variant in master.playlists]
    assert sorted(codecs) == ["fLaC", "mp4a.40.2", "mp4a.40.2", "mp4a.40.2"]
    for variant in master.playlists:
        lines = playlist(transcoder, ladder, variant.uri)
        first = urljoin(f"/v1/stream/hls/{ladder}/{variant.uri}", segments(lines)[0])
        assert transcoder.get(first).status_code == 200
    assert segments(playlist(transcoder, ladder))[0] == "segment_00001.ts"


def test_without_a_ladder_the_master_has_the_one(transcoder: httpx.Client, job: str) -> None:
    assert segments(playlist(transcoder, job, "master.m3u8")) == ["index.m3u8"]


def test_it_can_be_played_before_it_is_finished(transcoder: httpx.Client) -> None:
    """The live playlist grows while the job runs, and at its end has the same segments as the other one."""
    job = submit(transcoder, tune(240), codec="opus", priority="urgent")
    early: list[str] = []
    for name, data in events(transcoder, job):
        if name == "segment" and not early:
            early = playlist(transcoder, job, folder="live")
            first = transcoder.get(f"/v1/stream/live/{job}/{segments(early)[0]}")
            assert first.status_code == 200
        assert name == "segment" or data["status"] != "Failed"

    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in early
    late = playlist(transcoder, job, folder="live")
    assert late[-1] == "#EXT-X-ENDLIST"
    assert segments(late) == segments(playlist(transcoder, job))
    assert segments(late)[: len(segments(early))] == segments(early)


# Names


@pytest.mark.parametrize(
    "name",
    [
        "segment_00000.ts",
        "segment_99999.ts",
        "segment_00001.m4s",
        "segment_1.ts",
        "segment_00001.ts.bak",
        "init.mp4",
        "index.m3u8.bak",
        "tune.wav",
        "source",
        "%2e%2e%2f%2e%2e%2fsource",
        "..%2fsource",
        "segment_00001.ts%00",
        "aac-999/index.m3u8",
        "aac-256/segment_00009.ts",
    ],
)
def test_only_names_of_the_playlist_are_served(transcoder: httpx.Client, job: str, name: str) -> None:
    refused(transcoder.get(f"/v1/stream/hls/{job}/{name}"), 404)


def test_a_job_serves_its_own_segments(transcoder: httpx.Client, job: str) -> None:
    other = completed(transcoder, tune(3))

    ours, theirs = [transcoder.get(f"/v1/stream/hls/{one}/segment_00001.ts").content for one in (job, other)]
    assert ours != theirs
    refused(transcoder.get(f"/v1/stream/hls/{other}/segment_00002.ts"), 404)


# Serving


def test_a_segment_says_how_to_keep_it(transcoder: httpx.Client, job: str) -> None:
    path = f"/v1/stream/hls/{job}/segment_00001.ts"
    whole = transcoder.get(path, headers={"Accept-Encoding": "gzip"})

    assert whole.headers["content-length"] == str(len(whole.content))
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["cache-control"] == KEPT
    assert "content-encoding" not in whole.headers
    etag = whole.headers["etag"]
    assert transcoder.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert transcoder.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_range_of_a_segment_is_served(transcoder: httpx.Client, job: str) -> None:
    path = f"/v1/stream/hls/{job}/segment_00001.ts"
    whole = transcoder.get(path)
    size = len(whole.content)
    for header, part in (
        ("bytes=0-187", whole.content[:188]),
        ("bytes=188-", whole.content[188:]),
        ("bytes=-100", whole.content[-100:]),
    ):
        answer = transcoder.get(path, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, part)
        assert re.fullmatch(rf"bytes \d+-\d+/{size}", answer.headers["content-range"])

    too_far = transcoder.get(path, headers={"Range": "bytes=9999999999-"})
    refused(too_far, 416, "Invalid range request")
    assert too_far.headers["content-range"] == f"bytes */{size}"
    changed = transcoder.get(path, headers={"Range": "bytes=0-187", "If-Range": '"other"'})
    assert (changed.status_code, len(changed.content)) == (200, size)


@pytest.mark.parametrize("path", ["hls/{}/segment_00001.ts", "hls/{}/index.m3u8", "job/{}", "job/{}/player"])
def test_head_is_get_without_the_body(transcoder: httpx.Client, job: str, path: str) -> None:
    url = f"/v1/stream/{path.format(job)}"
    get, head = transcoder.get(url), transcoder.head(url)

    own = ("date", "x-request-id")
    assert head.content == b""
    assert head.status_code == get.status_code
    assert [one for one in head.headers.multi_items() if one[0] not in own] == [
        one for one in get.headers.multi_items() if one[0] not in own
    ]


def test_the_playlist_is_asked_for_anew_and_told_when_it_is_the_same(transcoder: httpx.Client, job: str) -> None:
    path = f"/v1/stream/hls/{job}/index.m3u8"
    answer = transcoder.get(path)

    assert answer.headers["cache-control"] == "no-cache"
    assert transcoder.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/v1/stream/hls/{}/index.m3u8", "/v1/stream/job/{}/player"])
def test_other_methods_are_refused(transcoder: httpx.Client, job: str, path: str) -> None:
    response = transcoder.post(path.format(job))

    refused(response, 405)
    assert response.headers["allow"] == "GET, HEAD"


# What else is known


def test_the_waveform_comes_as_json_and_as_a_file(transcoder: httpx.Client, job: str) -> None:
    """After audiowaveform's format, version 2."""
    path = f"/v1/stream/job/{job}/waveform"
    json, dat = transcoder.get(f"{path}.json").json(), transcoder.get(f"{path}.dat").content
    coarse = transcoder.get(f"{path}.json", params={"samples_per_pixel": 4_096}).json()

    assert json["version"] == 2
    assert len(json["data"]) == 2 * json["length"] * json["channels"]
    assert int.from_bytes(dat[:4], "little") == 2
    assert coarse["length"] < json["length"]
    refused(transcoder.get(f"{path}.json", params={"samples_per_pixel": 0}), 400)
    refused(transcoder.get(f"{path}.json", params={"samples_per_pixel": "x"}), 400)


def test_there_is_no_cover_where_none_came_with_it(transcoder: httpx.Client, job: str) -> None:
    refused(transcoder.get(f"/v1/stream/job/{job}/cover"), 404)


def test_the_player_loads_nothing_from_elsewhere(transcoder: httpx.Client, job: str) -> None:
    page = transcoder.get(f"/v1/stream/job/{job}/player")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"(?:src|href)=\"(?!/)", page.text)
    for address in re.findall(r"(?:src|href)=\"(/assets/[^\"]+)", page.text):
        assert transcoder.get(address).status_code == 200


def test_the_player_of_a_ladder_tells_all_that_it_chooses_from(transcoder: httpx.Client) -> None:
    page = transcoder.get(f"/v1/stream/job/{completed(transcoder, tune(2), ladder='true')}/player").text

    assert "AAC, 64 to 192 kbit/s; FLAC" in page


def test_a_title_cannot_break_out_of_the_player(transcoder: httpx.Client) -> None:
    job = completed(transcoder, _tagged("</script><script>alert(1)</script>"))

    page = transcoder.get(f"/v1/stream/job/{job}/player").text
    assert "<script>alert" not in page
    assert "alert(1)" in page


def _tagged(title: str) -> bytes:

    output = io.BytesIO()
    with av.open(io.BytesIO(tune(1)), "r") as source, av.open(output, "w", format="flac") as target:
        target.metadata["title"] = title
        stream = target.add_stream("flac", rate=44_100)
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return output.getvalue()


def test_the_first_segment_is_there_soon(transcoder: httpx.Client) -> None:
    """Before all is done. How soon is measured by the benchmarks, on a machine with nothing else to do."""
    job = submit(transcoder, tune(120), codec="opus", priority="urgent")
    assert "segment" in (name for name, _ in events(transcoder, job))

    assert transcoder.get(f"/v1/stream/job/{job}").json()["status"] == "Processing"
    transcoder.delete(f"/v1/stream/job/{job}")
