"""The client for strangers' links, against strangers."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farside import FarSide, listening, page
from mainstem.catalogue.liveness.address import Unreachable, target_of
from mainstem.catalogue.liveness.fetch import BODY_BYTES_MAX, USER_AGENT, Answer, Fetcher, retry_after_s
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.verdict import Reason
from waiting import PATIENCE_S

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def fails(fetcher: Fetcher, link: str) -> Reason:
    with pytest.raises(Unreachable) as failed:
        await fetcher.get(target_of(link))
    return failed.value.reason


async def test_it_says_who_asks(fetcher: Fetcher, far: FarSide) -> None:
    far.says("/a?b=c", page("hello"))

    answer = await fetcher.get(target_of(far.url("/a?b=c#not-sent")))

    assert answer.text() == "hello"
    assert answer.complete
    assert f"User-Agent: {USER_AGENT}\r\n" in far.heads[0]
    assert f"Host: 127.0.0.1:{far.port}\r\n" in far.heads[0]


async def test_at_most_five_redirects_are_followed(fetcher: Fetcher, far: FarSide) -> None:
    for number in range(7):
        far.says(f"/{number}", page("", 302, Location=f"/{number + 1}"))
    far.says("/7", page("there"))

    assert await fails(fetcher, far.url("/0")) is Reason.REDIRECTS
    assert (await fetcher.get(target_of(far.url("/2")))).text() == "there"


async def test_a_redirect_to_another_scheme_is_not_followed(fetcher: Fetcher, far: FarSide) -> None:
    far.says("/", page("", 302, Location="file:///etc/passwd"))

    assert await fails(fetcher, far.url("/")) is Reason.BAD_LINK


async def test_a_compressed_body_is_unpacked_up_to_the_limit(fetcher: Fetcher, far: FarSide) -> None:
    """A few kilobytes that would become a gigabyte become two megabytes, and are known to be cut."""
    bomb = gzip.compress(bytes(1 << 28))
    far.says("/page", page(gzip.compress(b"hello"), Content_Encoding="gzip"))
    far.says("/bomb", page(bomb, Content_Encoding="gzip"))

    whole = await fetcher.get(target_of(far.url("/page")))
    cut = await fetcher.get(target_of(far.url("/bomb")))

    assert (whole.body, whole.complete) == (b"hello", True)
    assert (len(cut.body), cut.complete) == (BODY_BYTES_MAX, False)


async def test_a_trailer_makes_no_other_answer(fetcher: Fetcher, far: FarSide) -> None:
    """Of a page it would make a radio station."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    far.says("/", head + b"2\r\nhi\r\n0\r\nicy-name: me\r\n\r\n")

    answer = await fetcher.get(target_of(far.url("/")))

    assert (answer.text(), answer.complete, answer.is_medium) == ("hi", True, False)


async def test_a_page_without_end_is_cut(fetcher: Fetcher, far: FarSide) -> None:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    far.does("/", pour)

    answer = await fetcher.get(target_of(far.url("/")))

    assert (len(answer.body), answer.complete) == (BODY_BYTES_MAX, False)


async def say_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def headers_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1_000 + b"\r\n")
        await writer.drain()


async def trailers_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1_000 + b"\r\n")
        await writer.drain()


async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 10)


async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def unasked_encoding(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(page(b"x", Content_Encoding="br"))


async def broken_gzip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(page(b"not gzip at all", Content_Encoding="gzip"))


@pytest.mark.parametrize(
    ("handler", "fetch_s", "reasons"),
    [
        (say_nothing, 1, {Reason.TIMED_OUT}),
        (dribble, 1, {Reason.TIMED_OUT}),
        (headers_without_end, PATIENCE_S, {Reason.BROKEN_ANSWER, Reason.NOT_REACHED}),
        (trailers_without_end, PATIENCE_S, {Reason.BROKEN_ANSWER, Reason.NOT_REACHED}),
        (noise, PATIENCE_S, {Reason.BROKEN_ANSWER}),
        (hang_up, PATIENCE_S, {Reason.BROKEN_ANSWER}),
        (reset, PATIENCE_S, {Reason.BROKEN_ANSWER, Reason.NOT_REACHED}),
        (unasked_encoding, PATIENCE_S, {Reason.BROKEN_ANSWER}),
        (broken_gzip, PATIENCE_S, {Reason.BROKEN_ANSWER}),
    ],
)
async def test_a_hostile_server_costs_little_and_says_nothing(
    fetcher: Fetcher,
    far: FarSide,
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    reasons: set[Reason],
) -> None:
    far.does("/", handler)

    assert await fails(fetcher, far.url("/")) in reasons


async def test_nobody_there_is_not_reached(fetcher: Fetcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else has the port; and nobody listens

        assert await fails(fetcher, f"http://127.0.0.1:{taken.getsockname()[1]}/") is Reason.NOT_REACHED


async def test_a_name_that_nobody_knows_is_not_found(fetcher: Fetcher) -> None:
    assert await fails(fetcher, "http://no-such-host.invalid/") is Reason.NAME_NOT_FOUND


async def test_who_does_not_prove_who_he_is_might_be_anybody(fetcher: Fetcher, tmp_path: Path) -> None:
    """A certificate that nobody we know has signed, and a server that speaks no TLS at all."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path))
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls)
    async with server, listening(noise) as plain:
        port = server.sockets[0].getsockname()[1]

        assert await fails(fetcher, f"https://127.0.0.1:{port}/") is Reason.TLS_FAILED
        assert await fails(fetcher, f"https://127.0.0.1:{plain}/") is Reason.TLS_FAILED


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(today).not_valid_after(today + timedelta(days=3_650))
    path = folder / "self-signed.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + builder.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


async def test_half_a_body_is_known_to_be_half(fetcher: Fetcher, far: FarSide) -> None:
    far.says("/", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    answer = await fetcher.get(target_of(far.url("/")))

    assert (answer.body, answer.complete) == (b"half", False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("Sun, 22 Nov 2026 10:01:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    answer = Answer(target_of("http://example.com/"), 429, {"retry-after": header})

    assert retry_after_s(answer, now=1_795_341_600) == seconds


# Manners


async def test_no_more_than_two_ask_a_host_at_once(fetcher: Fetcher, far: FarSide) -> None:
    far.says("/", page("hello"))

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(fetcher.get(target_of(far.url("/"))))

    assert far.at_once_max <= 2
    assert len(far.asked) == 20


async def test_a_host_that_keeps_failing_is_left_alone(fetcher: Fetcher, far: FarSide, hosts: Hosts) -> None:
    """After five failures in a row it is not asked, and whoever would have asked learns it at once."""
    far.says("/", page("", 503))
    for _ in range(5):
        await fetcher.get(target_of(far.url("/")))

    assert await fails(fetcher, far.url("/")) is Reason.HOST_RESTS
    assert len(far.asked) == 5
    assert hosts.resting == 1


async def test_a_host_says_itself_for_how_long(fetcher: Fetcher, far: FarSide) -> None:
    far.says("/", page("", 429, Retry_After="77"))
    await fetcher.get(target_of(far.url("/")))

    with pytest.raises(Unreachable) as rests:
        await fetcher.get(target_of(far.url("/")))

    assert rests.value.reason is Reason.HOST_RESTS
    assert rests.value.retry_s == pytest.approx(77)


async def test_another_port_is_another_host(fetcher: Fetcher, far: FarSide) -> None:
    """One broken camera behind an address does not silence the others."""
    far.says("/", page("hello"))
    async with listening(hang_up) as broken:
        for _ in range(6):
            with pytest.raises(Unreachable):
                await fetcher.get(target_of(f"http://127.0.0.1:{broken}/"))

    assert (await fetcher.get(target_of(far.url("/")))).text() == "hello"
