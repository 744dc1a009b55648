"""Every rule of hlscheck: a stream that keeps it passes, and one that was made to break it is found out."""

import re
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foreign import ffmpeg
from mainstem.errors import Invalid
from mainstem.hlscheck import RULES, Report, Watch, check
from mainstem.hlscheck.fragments import read_init
from mainstem.hlscheck.playlist import read_playlist
from mainstem.hlscheck.succession import succession_rules
from mainstem.hlscheck.transport import crc32

VOD = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:6.0,
segment_00001.ts
#EXTINF:5.5,
segment_00002.ts
#EXT-X-ENDLIST
"""
FRAGMENTED = VOD.replace("VERSION:3", "VERSION:7").replace(".ts", ".m4s").replace(
    "#EXTINF:6.0,", '#EXT-X-MAP:URI="init.mp4"\n#EXTINF:6.0,'
)  # fmt: skip
MASTER = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-STREAM-INF:BANDWIDTH=150000,AVERAGE-BANDWIDTH=140000,CODECS="mp4a.40.2"
aac/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=150000,AVERAGE-BANDWIDTH=140000,CODECS="mp4a.40.34"
mp3/index.m3u8
"""
EVENT = VOD.replace("VOD", "EVENT").replace("#EXT-X-ENDLIST\n", "")
LIVE = EVENT.replace("#EXT-X-PLAYLIST-TYPE:EVENT\n", "")


def rules(text: str | bytes) -> set[str]:
    """Which rules a playlist breaks by its text alone."""
    return {found.rule for found in read_playlist(text if isinstance(text, bytes) else text.encode(), "it.m3u8")[1]}


@pytest.mark.parametrize("text", [VOD, FRAGMENTED, MASTER, EVENT], ids=["vod", "fragmented", "master", "event"])
def test_a_playlist_in_order_breaks_nothing(text: str) -> None:
    assert rules(text) == set()


TEXTS = [
    ("playlist.encoding", b"\xef\xbb\xbf" + VOD.encode()),
    ("playlist.encoding", VOD.encode().replace(b"segment_00002", b"segment_\xff")),
    ("playlist.encoding", VOD.replace("segment_00002", "segment_\x07")),
    ("playlist.first-line", "\n" + VOD),
    ("playlist.first-line", VOD.replace("#EXTM3U", "#EXTM3U8")),
    ("playlist.kind", VOD + "#EXT-X-STREAM-INF:BANDWIDTH=1\nother.m3u8\n"),
    ("playlist.once", VOD.replace("#EXTINF:6.0", "#EXT-X-TARGETDURATION:6\n#EXTINF:6.0")),
    ("playlist.once", VOD + "#EXT-X-ENDLIST\n"),
    ("playlist.value", VOD.replace("DURATION:6", "DURATION:6.0")),
    ("playlist.value", VOD.replace("SEQUENCE:0", "SEQUENCE:-1")),
    ("playlist.value", VOD.replace("EXTINF:6.0,", "EXTINF:six,")),
    ("playlist.value", VOD.replace("EXTINF:6.0,", "EXTINF:6.0")),
    ("playlist.value", VOD.replace("#EXTINF:6.0,", "#EXT-X-BYTERANGE:all\n#EXTINF:6.0,")),
    ("playlist.attributes", FRAGMENTED.replace('URI="init.mp4"', "URI:init.mp4")),
    ("playlist.attributes", FRAGMENTED.replace('URI="init.mp4"', 'URI="init.mp4",URI="b.mp4"')),
    ("playlist.attributes", MASTER + '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"\n'),
    ("playlist.version", VOD.replace("#EXT-X-VERSION:3\n", "")),
    ("playlist.version", FRAGMENTED.replace("VERSION:7", "VERSION:5")),
    ("playlist.version", VOD.replace("#EXTINF:6.0,", "#EXT-X-BYTERANGE:9@0\n#EXTINF:6.0,")),
    ("playlist.version", VOD.replace("#EXTINF:6.0,", '#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="x"\n#EXTINF:6.0,')),
    ("playlist.target", VOD.replace("#EXT-X-TARGETDURATION:6\n", "")),
    ("playlist.target-exceeded", VOD.replace("EXTINF:6.0,", "EXTINF:6.5,")),
    ("playlist.sequence", VOD.replace("#EXT-X-ENDLIST", "#EXT-X-MEDIA-SEQUENCE:0")),
    ("playlist.sequence", VOD.replace("#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY-SEQUENCE:1")),
    ("playlist.extinf", VOD.replace("#EXTINF:6.0,\n", "")),
    ("playlist.extinf", VOD.replace("segment_00002.ts\n", "")),
    ("playlist.extinf", VOD.replace("segment_00001.ts\n", "")),
    ("playlist.type", VOD.replace(":VOD", ":LIVE")),
    ("playlist.type", VOD.replace("#EXT-X-ENDLIST\n", "")),
    ("playlist.map", FRAGMENTED.replace('#EXT-X-MAP:URI="init.mp4"\n', "")),
    ("playlist.map", FRAGMENTED.replace('URI="init.mp4"', 'BYTERANGE="1@0"')),
    ("playlist.empty", "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-ENDLIST\n"),
    ("master.uri", MASTER.replace("mp3/index.m3u8\n", "")),
    ("master.uri", MASTER.replace("aac/index.m3u8\n", "")),
    ("master.bandwidth", MASTER.replace("BANDWIDTH=150000,AVERAGE", "AVERAGE")),
    ("master.codecs", MASTER.replace(',CODECS="mp4a.40.2"', "")),
    ("master.average", MASTER.replace(",AVERAGE-BANDWIDTH=140000", "")),
    ("master.group", MASTER.replace("STREAM-INF:", 'STREAM-INF:AUDIO="none",')),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), TEXTS)
def test_a_playlist_that_breaks_a_rule_is_found_out(rule: str, text: str | bytes) -> None:
    assert rule in rules(text)


# Playlist, segments and master together, made by ffmpeg and then broken


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders aac, mp3, flac and opus of 8 s in segments of 3 s, and a master playlist of the first two."""
    root = tmp_path_factory.mktemp("streams")
    sound = ("-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=8,aformat=channel_layouts=stereo")
    for codec, encoder, kind in (
        ("aac", "aac", "mpegts"),
        ("mp3", "libmp3lame", "mpegts"),
        ("flac", "flac", "fmp4"),
        ("opus", "libopus", "fmp4"),
    ):
        (root / codec).mkdir()
        hls = ("-hls_time", 3, "-hls_playlist_type", "vod", "-hls_segment_type", kind, "-f", "hls")
        ffmpeg(*sound, "-c:a", encoder, "-b:a", "128k", *hls, root / codec / "index.m3u8")
    (root / "master.m3u8").write_text(MASTER)
    return root


@pytest.fixture
def copy(streams: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(streams, tmp_path / "streams"))


@pytest.mark.parametrize("codec", ["aac", "mp3", "flac", "opus"])
def test_what_ffmpeg_makes_keeps_the_rules_but_for_one(streams: Path, codec: str) -> None:
    """It writes another table before PAT and PMT, which the RFC advises against."""
    report = check(str(streams / codec))
    assert report.ok
    assert {found.rule for found in report.findings} <= {"ts.tables-first"}


def test_a_report_tells_what_is_there(streams: Path) -> None:
    """Codec, rate, channels, length and rates, read from the bytes."""
    report = check(str(streams))
    assert report.ok, report.findings
    assert [(one.name, one.audio and one.audio.codec) for one in report.renditions] == [
        ("aac/index.m3u8", "mp4a.40.2"),
        ("mp3/index.m3u8", "mp4a.40.34"),
    ]
    first = report.renditions[0]
    assert first.duration_s == pytest.approx(8, abs=0.1)
    assert first.audio is not None
    assert (first.audio.sample_rate, first.audio.channels) == (44_100, 2)
    assert 120_000 < first.average_bits <= (first.peak_bits or 0) < 150_000


def text(path: str, old: str, new: str) -> Callable[[Path], object]:
    """Break a playlist: replace what matches the pattern, once."""

    def edit(root: Path) -> None:
        content = (root / path).read_text()
        assert re.search(old, content), content
        (root / path).write_text(re.sub(old, new, content, count=1))

    return edit


def data(path: str, change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    """Break a segment."""

    def edit(root: Path) -> None:
        content = bytearray((root / path).read_bytes())
        change(content)
        (root / path).write_bytes(content)

    return edit


def packet_of(content: bytearray, pid: int, number: int = 0) -> int:
    """Where the packet with this PID begins."""
    at = [at for at in range(0, len(content), 188) if int.from_bytes(content[at + 1 : at + 3]) & 0x1FFF == pid]
    return at[number]


def without_table(pid: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        for at in reversed(range(0, len(content), 188)):
            if int.from_bytes(content[at + 1 : at + 3]) & 0x1FFF == pid:
                del content[at : at + 188]

    return change


def two_programs(content: bytearray) -> None:
    at = packet_of(content, 0) + 5
    section = content[at : at + 12] + b"\x00\x02\xf0\x01"
    section[2] += 4
    content[at : at + 20] = section + crc32(bytes(section)).to_bytes(4)


def later(ticks: int, number: int) -> Callable[[bytearray], None]:
    """Move the timestamp of one PES packet."""

    def change(content: bytearray) -> None:
        begins = [at for at in range(len(content) - 4) if content[at : at + 4] == b"\0\0\1\xc0"]
        at = begins[number] + 9
        field = content[at : at + 5]
        pts = (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1
        pts += ticks
        content[at : at + 5] = bytes(
            [field[0] & 0xF1 | pts >> 29 & 14, pts >> 22 & 255, pts >> 14 & 254 | 1, pts >> 7 & 255, pts << 1 & 254 | 1]
        )

    return change


def replaced(old: bytes, new: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        at = content.index(old)
        content[at : at + len(old)] = new

    return change


def added_at(marker: bytes, offset: int, amount: int, size: int = 4) -> Callable[[bytearray], None]:
    """Add to the number that stands so many bytes after a marker."""

    def change(content: bytearray) -> None:
        at = content.index(marker) + offset
        content[at : at + size] = (int.from_bytes(content[at : at + size]) + amount).to_bytes(size)

    return change


def old_brands(content: bytearray) -> None:
    size = int.from_bytes(content[:4])
    content[8:size] = b"isom" * ((size - 8) // 4)


def last_twice(content: bytearray) -> None:
    content += content[content.index(b"moof") - 4 :]


def segment_swapped(root: Path) -> None:
    one, other = root / "aac/index0.ts", root / "aac/index1.ts"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


FILES: list[tuple[str, str, Callable[[Path], object]]] = [
    ("ts.packets", "aac", data("aac/index0.ts", lambda content: content.append(0x47))),
    ("ts.packets", "aac", data("aac/index0.ts", lambda content: content.__setitem__(188 * 9, 0x48))),
    ("ts.tables", "aac", data("aac/index1.ts", without_table(0))),
    ("ts.tables", "aac", data("aac/index1.ts", without_table(0x1000))),
    ("ts.tables-first", "aac", lambda root: None),
    ("ts.program", "aac", data("aac/index0.ts", two_programs)),
    ("ts.checksum", "aac", data("aac/index0.ts", lambda content: content.__setitem__(packet_of(content, 0) + 9, 7))),
    ("ts.continuity", "aac", data("aac/index0.ts", lambda content: content.__delitem__(slice(188 * 9, 188 * 10)))),
    ("ts.frames", "aac", data("aac/index0.ts", lambda content: content.__delitem__(slice(-188, None)))),
    ("ts.frames", "mp3", data("mp3/index0.ts", lambda content: content.__delitem__(slice(-188, None)))),
    ("ts.frames", "aac", data("aac/index0.ts", replaced(b"\xff\xf1", b"\xfe\xf1"))),
    ("ts.pes", "aac", data("aac/index0.ts", later(90_000, 3))),
    ("ts.pes", "aac", data("aac/index0.ts", replaced(b"\0\0\1\xc0", b"\0\0\2\xc0"))),
    ("segment.timestamps", "aac", segment_swapped),
    ("segment.timestamps", "flac", data("flac/index1.m4s", added_at(b"tfdt", 8, 9_999, 8))),
    ("segment.duration", "aac", text("aac/index.m3u8", r"EXTINF:3\.\d+", "EXTINF:2.5")),
    ("segment.sum", "aac", text("aac/index.m3u8", r"EXTINF:3\.\d+", "EXTINF:2.95")),
    ("segment.sum", "opus", text("opus/index.m3u8", r"EXTINF:3\.\d+", "EXTINF:3.09")),
    ("segment.missing", "aac", lambda root: (root / "aac/index1.ts").unlink()),
    ("segment.missing", "aac", text("aac/index.m3u8", "index1.ts", "../../outside.ts")),
    ("segment.missing", "flac", lambda root: (root / "flac/init.mp4").unlink()),
    ("segment.kind", "aac", data("aac/index1.ts", lambda content: content.__setitem__(slice(None), b"ID3\x04 or so"))),
    ("segment.codec", "aac", lambda root: shutil.copy(root / "mp3/index1.ts", root / "aac/index1.ts")),
    ("playlist.map", "flac", text("flac/index.m3u8", "#EXT-X-MAP.*\n", "")),
    ("mp4.boxes", "flac", data("flac/index0.m4s", lambda content: content.__delitem__(slice(-9, None)))),
    ("mp4.boxes", "flac", data("flac/init.mp4", added_at(b"moov", -4, 1))),
    ("mp4.init", "flac", data("flac/init.mp4", replaced(b"mvex", b"free"))),
    ("mp4.init", "flac", data("flac/init.mp4", replaced(b"ftyp", b"free"))),
    ("mp4.init", "flac", data("flac/init.mp4", added_at(b"stts", 8, 1))),
    ("mp4.brand", "flac", data("flac/init.mp4", old_brands)),
    ("mp4.fragment", "flac", data("flac/index0.m4s", replaced(b"tfdt", b"free"))),
    ("mp4.fragment", "flac", data("flac/index0.m4s", replaced(b"mdat", b"free"))),
    ("mp4.fragment", "flac", data("flac/index0.m4s", replaced(b"moof", b"free"))),
    ("mp4.base", "flac", data("flac/index0.m4s", lambda content: content.__setitem__(content.index(b"tfhd") + 5, 0))),
    ("mp4.data", "flac", data("flac/index0.m4s", added_at(b"trun", 12, 100))),
    ("mp4.number", "flac", data("flac/index0.m4s", last_twice)),
    ("master.peak", "master.m3u8", text("master.m3u8", "BANDWIDTH=150000", "BANDWIDTH=100000")),
    ("master.peak-loose", "master.m3u8", text("master.m3u8", "BANDWIDTH=150000", "BANDWIDTH=200000")),
    ("master.content", "master.m3u8", text("master.m3u8", "mp4a.40.2", "mp4a.40.5")),
    ("master.target", "master.m3u8", text("aac/index.m3u8", "TARGETDURATION:3", "TARGETDURATION:4")),
    ("master.timestamps", "master.m3u8", text("master.m3u8", 'mp4a.40.34"\nmp3', 'fLaC"\nflac')),
    ("playlist.kind", "master.m3u8", lambda root: shutil.copy(root / "master.m3u8", root / "mp3/index.m3u8")),
    ("http.status", "master.m3u8", lambda root: (root / "mp3/index.m3u8").unlink()),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "place", "break_it"), FILES)
def test_a_stream_that_breaks_a_rule_is_found_out(
    copy: Path, rule: str, place: str, break_it: Callable[[Path], object]
) -> None:
    break_it(copy)
    report = check(str(copy / place))
    assert rule in {found.rule for found in report.findings}, report.findings


@pytest.mark.parametrize("place", ["aac", "flac"])
def test_damage_anywhere_is_a_finding_and_never_a_crash(copy: Path, place: str) -> None:
    """Every part of a segment is zeroed once, and every file cut off at many places."""
    for path in (copy / place).iterdir():
        whole = path.read_bytes()
        for at in range(0, min(len(whole), 3_000), 37):
            path.write_bytes(whole[:at] + bytes(37) + whole[at + 37 :])
            check(str(copy / place / "index.m3u8"))
            path.write_bytes(whole[:at])
            check(str(copy / place / "index.m3u8"))
        path.write_bytes(whole)


def test_a_place_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        check(str(tmp_path / "nowhere.m3u8"))


# A playlist that goes on


def grown(text: str, *uris: str) -> str:
    return text + "".join(f"#EXTINF:6.0,\n{uri}\n" for uri in uris)


SUCCESSIONS = [
    ("live.sequence", LIVE.replace("SEQUENCE:0", "SEQUENCE:5"), LIVE),
    ("live.sequence", LIVE, LIVE.replace("#EXTINF:5.5,\nsegment_00002.ts\n", "")),
    ("live.removed", EVENT, EVENT.replace("#EXTINF:6.0,\nsegment_00001.ts\n", "").replace("SEQUENCE:0", "SEQUENCE:1")),
    ("live.changed", EVENT, EVENT.replace("segment_00002.ts", "segment_00003.ts")),
    ("live.changed", EVENT, EVENT.replace("5.5", "5.4")),
    ("live.target", EVENT, EVENT.replace("DURATION:6", "DURATION:7")),
    ("live.end", EVENT + "#EXT-X-ENDLIST\n", grown(EVENT, "segment_00003.ts")),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "before", "after"), SUCCESSIONS)
def test_a_playlist_that_becomes_what_it_may_not_is_found_out(rule: str, before: str, after: str) -> None:
    found = succession_rules(read_playlist(before.encode(), "a")[0], read_playlist(after.encode(), "a")[0])
    assert rule in {one.rule for one in found}


def test_a_playlist_that_grows_and_ends_breaks_nothing() -> None:
    states = [EVENT, grown(EVENT, "segment_00003.ts"), grown(EVENT, "segment_00003.ts") + "#EXT-X-ENDLIST\n"]
    read = [read_playlist(state.encode(), "a")[0] for state in states]
    assert [*succession_rules(read[0], read[1]), *succession_rules(read[1], read[2])] == []


def test_a_playlist_on_disk_is_followed_to_its_end(copy: Path) -> None:
    """What comes while we watch is checked as well, and the last state counts."""
    path = copy / "aac/index.m3u8"
    whole = path.read_text().replace("VOD", "EVENT")
    lines = whole.splitlines(keepends=True)
    states = iter(["".join(lines[: 5 + 2 * count]) for count in (2, 3)] + [whole])
    path.write_text("".join(lines[:7]))
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        path.write_text(next(states, whole))

    report = check(str(path), watch=Watch(60, lambda: now, sleep))
    assert report.ok, report.findings
    assert report.renditions[0].duration_s == pytest.approx(8, abs=0.1)


def test_a_playlist_that_stands_still_is_late(copy: Path) -> None:
    path = copy / "aac/index.m3u8"
    path.write_text(path.read_text().replace("VOD", "EVENT").replace("#EXT-X-ENDLIST\n", ""))
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    report = check(str(path), watch=Watch(12, lambda: now, sleep))
    assert "live.late" in {found.rule for found in report.findings}


# Over HTTP

type Change = Callable[[str, int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]
"""(method and path, status, headers, body) → what is sent instead."""

ORIGIN = "http://localhost:5176"
TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".m4s": "audio/mp4", ".mp4": "audio/mp4"}


@pytest.fixture
def served(streams: Path) -> Iterator["Served"]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        held = Served(streams, f"http://127.0.0.1:{server.server_port}")
        server.held = held  # type: ignore[attr-defined]  # where the handler finds it
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield held
        server.shutdown()
        thread.join()


class Served:
    """A web server of its own that serves well, but for what a test changes."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.change: Change = lambda request, status, headers, body: (status, headers, body)
        self.shown: set[tuple[str, str | None]] = set()
        """Under which name it was asked, and with which credential."""

    def check(self, place: str) -> Report:
        return check(f"{self.url}/{place}", origin=ORIGIN)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name is http.server's
        held: Served = self.server.held  # type: ignore[attr-defined]
        held.shown.add((self.headers["Host"].partition(":")[0], self.headers.get("Authorization")))
        path = held.root / self.path.partition("?")[0].lstrip("/")
        status, body, headers = 200, b"", dict[str, str]()
        if not path.is_file():
            status = 404
        else:
            body = path.read_bytes()
            kept = "max-age=9999, immutable" if path.suffix != ".m3u8" else "no-cache"
            headers = {"Content-Type": TYPES[path.suffix], "ETag": f'"{path.name}"', "Cache-Control": kept}
            headers |= {"Accept-Ranges": "bytes", "Access-Control-Allow-Origin": ORIGIN}
            status, body = self._conditions(headers, body)
        status, headers, body = held.change(f"{self.command} {self.path}", status, headers, body)
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def _conditions(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self.headers.get("If-None-Match") == headers["ETag"]:
            return 304, b""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return 200, body
        first = int(asked[1])
        if first >= len(body):
            return 416, b""
        last = min(int(asked[2] or len(body)), len(body) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return 206, body[first : last + 1]

    def log_message(self, *_: object) -> None:
        """Nothing is said of requests."""


@pytest.mark.parametrize("place", ["aac/index.m3u8", "flac/index.m3u8", "master.m3u8"])
def test_a_stream_that_is_served_well_breaks_nothing(served: Served, place: str) -> None:
    report = served.check(place)
    assert {found.rule for found in report.findings} <= {"ts.tables-first"}


def header(matching: str, name: str, value: str | None) -> Change:
    """Answers for what matches have another header, or lack it."""

    def change(request: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if re.search(matching, request):
            headers = {key: held for key, held in headers.items() if key != name}
            headers |= {} if value is None else {name: value}
        return status, headers, body

    return change


def always(matching: str, wanted: int) -> Change:
    """Answers for what matches have this status instead of the one of the fourth."""

    def change(request: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (wanted, headers, body) if re.search(matching, request) and status != 200 else (status, headers, body)

    return change


def gone(request: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return (404 if "index1.ts" in request else status), headers, body


TRANSFERS: list[tuple[str, Change]] = [
    ("http.playlist-type", header("m3u8", "Content-Type", "text/plain")),
    ("http.segment-type", header(r"\.ts", "Content-Type", "text/plain")),
    ("http.validator", header(r"\.ts", "ETag", None)),
    ("http.unchanged", header(r"\.ts", "ETag", '"another"')),
    ("http.cache-segment", header(r"\.ts", "Cache-Control", "no-store")),
    ("http.range", always(r"GET .*\.ts", 200)),
    ("http.range", header(r"\.ts", "Content-Range", "bytes 0-1/2")),
    ("http.head", header(r"HEAD .*\.ts", "Content-Type", "text/plain")),
    ("http.origin", header("m3u8", "Access-Control-Allow-Origin", "http://localhost:3000")),
    ("http.origin", header(r"\.ts", "Access-Control-Allow-Origin", None)),
    ("segment.missing", gone),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "change"), TRANSFERS)
def test_a_server_that_breaks_a_rule_is_found_out(served: Served, rule: str, change: Change) -> None:
    served.change = change
    found = served.check("aac/index.m3u8").findings
    assert rule in {one.rule for one in found}, found


def test_a_credential_is_for_the_server_that_was_named(served: Served, copy: Path) -> None:
    """A playlist may name another server, and a server may send to one: neither is told."""
    served.root = copy
    master = copy / "master.m3u8"
    elsewhere = served.url.replace("127.0.0.1", "localhost")
    master.write_text(master.read_text().replace("aac/index.m3u8", f"{elsewhere}/aac/index.m3u8"))

    report = check(f"{served.url}/master.m3u8", headers={"Authorization": "Bearer secret"})

    assert report.ok
    assert served.shown == {("127.0.0.1", "Bearer secret"), ("localhost", None)}


def test_the_query_of_an_address_is_not_told(served: Served) -> None:
    """It may be what opens the stream to a player."""
    served.change = header("m3u8", "Content-Type", "text/plain")

    found = check(f"{served.url}/aac/index.m3u8?token=secret").findings

    assert found
    assert "secret" not in str(found)


def test_boxes_in_boxes_without_end_are_a_finding() -> None:
    section = b""
    for _ in range(3_000):
        section = struct.pack(">I4s", 8 + len(section), b"moov") + section

    track, found = read_init(section, "init.mp4")

    assert track is None
    assert [one.rule for one in found] == ["mp4.boxes"]


@pytest.mark.parametrize(
    "change",
    [
        header("m3u8", "Cache-Control", "max-age=" + "9" * 5_000),
        lambda request, status, headers, body: (
            status,
            {**headers, "Content-Length": "a lot", "Connection": "close"},
            body,
        ),
        lambda request, status, headers, body: (
            status,
            headers,
            re.sub(rb"BANDWIDTH=\d+", b"BANDWIDTH=" + b"9" * 5_000, body),
        ),
        lambda request, status, headers, body: (
            status,
            headers,
            re.sub(rb"EXTINF:[\d.]+", b"EXTINF:" + b"9" * 2_000_000, body),
        ),
    ],
)
def test_numbers_without_end_are_findings(served: Served, change: Change) -> None:
    served.change = change

    assert served.check("master.m3u8").findings


def test_a_live_playlist_may_not_be_kept_long(served: Served, copy: Path) -> None:
    served.root = copy
    path = copy / "aac/index.m3u8"
    path.write_text(path.read_text().replace("VOD", "EVENT").replace("#EXT-X-ENDLIST\n", ""))
    served.change = header("m3u8", "Cache-Control", "max-age=60")
    assert "http.cache-playlist" in {one.rule for one in served.check("aac/index.m3u8").findings}


def test_no_rule_is_without_its_test() -> None:
    """The last two have functions of their own, above; `http.length` needs a server that frames its answers wrong."""
    tested = {case[0] for cases in (TEXTS, FILES, SUCCESSIONS, TRANSFERS) for case in cases}
    assert set(RULES) - tested == {"http.length", "http.cache-playlist", "live.late"}


def test_rules_say_where_they_come_from() -> None:
    rules: Mapping[str, object] = RULES
    assert all(rule.source and rule.says for rule in RULES.values()), rules
