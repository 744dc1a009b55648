"""What a form says becomes an order, or is refused by the name of the field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.errors import Invalid
from mainstem.transcode import Codec, Order, Profile, order_of
from mainstem.transcode.orders import track_of
from mainstem.work import Priority


def test_nothing_said_is_the_profile_high_at_normal_priority() -> None:
    assert order_of({}) == order_of({"codec": "", "bitrate": " ", "unknown": "x"}) == Order()


def test_values_are_taken_in_any_case() -> None:
    fields = {"codec": "FLAC", "quality_profile": "Hi_Res", "priority": "URGENT", "ladder": "True", "loudness": "-14"}

    assert order_of(fields) == Order(
        codec=Codec.FLAC, profile=Profile.HI_RES, priority=Priority.URGENT, ladder=True, loudness=-14.0
    )


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("codec", "wma"),
        ("quality_profile", "ultra"),
        ("priority", "low"),
        *[("bitrate", text) for text in ("abc", "-1", "0", "999999999", "1e5", "192000.5", "31999")],
        ("ladder", "perhaps"),
        *[("loudness", text) for text in ("0", "-4.9", "-71", "nan", "inf", "loud")],
        *[("track_id", text) for text in ("a/b", "..", "x" * 256, "a\nb", "a;b")],
    ],
)
def test_what_is_wrong_is_refused_by_name(field: str, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        order_of({field: text})

    assert refused.value.details["field"] == field


def test_the_bitrate_is_held_to_the_codec() -> None:
    assert order_of({"codec": "opus", "bitrate": "6000"}).bitrate == 6_000
    assert order_of({"codec": "flac", "bitrate": "6000"}).bitrate is None
    with pytest.raises(Invalid):
        order_of({"codec": "mp3", "bitrate": "6000"})


@pytest.mark.parametrize(
    ("filename", "track"),
    [
        ("song.wav", "song"),
        ("../../a b;.wav", "a b_"),
        ("C:\\music\\Über Ä.FLAC", "Über Ä"),
        ("noextension", "noextension"),
        (".wav", ""),
        ("..", ""),
        ("a...b.wav", "a.b"),
        ("x" * 300 + ".wav", "x" * 255),
        ("", ""),
    ],
)
def test_a_track_is_named_after_its_file(filename: str, track: str) -> None:
    assert track_of(filename) == track


@given(st.text())
def test_a_track_named_after_a_file_could_be_asked_for_as_well(filename: str) -> None:
    track = track_of(filename)

    assert order_of({"track_id": track}).track_id == (track or None)
