"""Bodies: what a small one may cost, and which encoding a client gets."""

import gzip
import os
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mainstem.http import BodyTooLarge, MalformedBody, UnsupportedMediaType, decompress
from mainstem.http.bodies import accepts, preferred_encoding

LIMIT = 1 << 20


@given(st.binary(max_size=5_000))
def test_what_is_compressed_comes_back(plain: bytes) -> None:
    """Whether the compressor says the size first or not, and in several members."""
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    for encoding, body in (
        ("gzip", gzip.compress(plain)),
        ("zstd", zstandard.compress(plain)),
        ("zstd", unsized),
    ):
        assert decompress(body, encoding, LIMIT) == plain
        assert decompress(body * 2, encoding, LIMIT) == plain * 2


@given(st.binary(max_size=200), st.sampled_from(["gzip", "zstd"]))
def test_nonsense_is_refused_or_read(body: bytes, encoding: str) -> None:
    """Never another error than ours."""
    with suppress(MalformedBody, BodyTooLarge):
        decompress(body, encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 4, 9, 1_500])
def test_a_cut_body_is_refused(encoding: str, cut: int) -> None:
    """It is never taken for the shorter one that it begins with."""
    plain = os.urandom(3_000)
    body = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)

    with pytest.raises(MalformedBody):
        decompress(body[:-cut], encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit(encoding: str) -> None:
    """A gibibyte of nothing costs no more than the limit and a little."""
    packed = zlib.compressobj(9, wbits=31) if encoding == "gzip" else zstandard.ZstdCompressor().compressobj()
    body = b"".join(packed.compress(bytes(1 << 20)) for _ in range(256)) + packed.flush()

    with pytest.raises(BodyTooLarge):
        decompress(body, encoding, LIMIT)


def test_a_body_of_endless_members_is_refused() -> None:
    """Setting up a decoder for each is work that nobody may ask for."""
    with pytest.raises(MalformedBody):
        decompress(gzip.compress(b"") * 1_001, "gzip", LIMIT)


def test_a_zstd_window_over_eight_mebibytes_is_refused() -> None:
    """What a frame asks for is memory before its first byte."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = packed.compress(os.urandom(1 << 20)) + packed.flush()

    with pytest.raises(MalformedBody):
        decompress(body, "zstd", LIMIT * 2)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "snappy"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    """One encoding, of those we know."""
    with pytest.raises(UnsupportedMediaType):
        decompress(b"", encoding, LIMIT)


@pytest.mark.parametrize(
    ("header", "preferred"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("*;q=0.1", "zstd"),
        ("zstd;q=0, *", "gzip"),
        ("identity;q=1, *;q=0", ""),
        ("GZIP ; Q=0.3", "gzip"),
        (",,;;q=x", ""),
    ],
)
def test_the_preferred_encoding(header: str, preferred: str) -> None:
    """As RFC 9110 ranks them."""
    assert preferred_encoding(header) == preferred


def test_accepting_by_name() -> None:
    """A wildcard does not ask for problem details."""
    assert accepts("application/json, application/problem+json;q=0.5", "application/problem+json")
    assert not accepts("*/*", "application/problem+json")
    assert not accepts("application/problem+json;q=0", "application/problem+json")
