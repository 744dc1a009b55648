"""What a file deserves."""

from hypothesis import example, given
from hypothesis import strategies as st

from mainstem.transcode import Codec, Container, Media, Order, Profile
from mainstem.transcode.plan import plan


def media(sample_rate: int = 44_100, channels: int = 2, *, lossless: bool = True, bits: int = 16) -> Media:
    return Media(
        duration_s=10.0,
        codec="pcm_s16le",
        bitrate=None,
        sample_rate=sample_rate,
        channels=channels,
        bits=bits,
        lossless=lossless,
    )


MEDIA = st.builds(
    media,
    st.one_of(st.sampled_from([8_000, 11_025, 37_800, 44_100, 48_000, 96_000, 192_000]), st.integers(1_000, 768_000)),
    st.integers(1, 8),
    lossless=st.booleans(),
    bits=st.sampled_from([16, 24]),
)
ORDERS = st.builds(
    Order,
    codec=st.sampled_from([None, *Codec]),
    bitrate=st.one_of(st.none(), st.integers(32_000, 320_000)),
    profile=st.sampled_from(Profile),
    ladder=st.booleans(),
)
LOWEST = {Codec.AAC: 8_000, Codec.MP3: 8_000, Codec.OPUS: 48_000, Codec.FLAC: 1_000}


@given(MEDIA, ORDERS)
def test_no_rung_has_more_channels_or_a_higher_rate_than_the_source(source: Media, order: Order) -> None:
    """But where the codec has no rate that is so low."""
    for rung in plan(source, order):
        assert rung.channels <= source.channels
        assert rung.sample_rate <= max(source.sample_rate, LOWEST[rung.codec])


@given(MEDIA, ORDERS)
@example(media(lossless=False), Order(bitrate=64_001, ladder=True))
def test_rungs_have_names_of_their_own_and_those_in_the_master_begin_together(source: Media, order: Order) -> None:
    rungs = plan(source, order)

    assert len({rung.name for rung in rungs}) == len(rungs)
    assert len({rung.origin_s for rung in rungs if rung.in_master}) == 1
    assert all(rung.origin_s > 0 for rung in rungs if rung.container is Container.TS)


@given(MEDIA, ORDERS)
def test_the_first_rung_is_of_the_codec_that_was_asked_for(source: Media, order: Order) -> None:
    assert plan(source, order)[0].codec == (order.codec or Codec.AAC)


def test_profiles_are_aac_at_the_rates_of_the_sheet() -> None:
    asked = {profile: plan(media(96_000), Order(profile=profile))[0] for profile in Profile}

    assert {profile: (rung.codec, rung.bitrate, rung.sample_rate) for profile, rung in asked.items()} == {
        Profile.HI_RES: (Codec.AAC, 320_000, 48_000),
        Profile.HIGH: (Codec.AAC, 256_000, 44_100),
        Profile.MEDIUM: (Codec.AAC, 192_000, 44_100),
        Profile.LOW: (Codec.AAC, 96_000, 44_100),
    }


def test_a_ladder_has_three_of_aac_and_flac_where_the_source_is_lossless() -> None:
    order = Order(ladder=True, profile=Profile.MEDIUM)

    assert [rung.name for rung in plan(media(), order)] == ["aac-192", "aac-64", "aac-128", "flac"]
    assert [rung.name for rung in plan(media(lossless=False), order)] == ["aac-192", "aac-64", "aac-128"]


def test_what_was_asked_for_stays_out_of_the_master_when_it_is_no_rung_of_the_ladder() -> None:
    rungs = plan(media(), Order(ladder=True, profile=Profile.HIGH))

    assert [rung.name for rung in rungs if not rung.in_master] == ["aac-256"]
    assert rungs[0].name == "aac-256"


def test_flac_keeps_rate_channels_and_depth() -> None:
    (rung,) = plan(media(192_000, 6, bits=24), Order(codec=Codec.FLAC))

    assert (rung.sample_rate, rung.channels, rung.bits, rung.bitrate) == (192_000, 6, 24, None)


def test_opus_is_always_at_48_khz_and_as_large_as_its_encoder_takes() -> None:
    (rung,) = plan(media(8_000, 1), Order(codec=Codec.OPUS, bitrate=512_000))

    assert (rung.sample_rate, rung.bitrate) == (48_000, 256_000)


def test_mp3_gets_the_next_lower_bitrate_that_its_rate_has() -> None:
    (rung,) = plan(media(22_050), Order(codec=Codec.MP3, bitrate=150_000))
    (low,) = plan(media(8_000), Order(codec=Codec.MP3, bitrate=320_000))

    assert (rung.sample_rate, rung.bitrate) == (22_050, 144_000)
    assert (low.sample_rate, low.bitrate) == (8_000, 64_000)


def test_a_rate_that_a_codec_does_not_have_becomes_the_next_lower_one() -> None:
    assert plan(media(37_800), Order())[0].sample_rate == 32_000
    assert plan(media(37_800), Order(codec=Codec.FLAC))[0].sample_rate == 37_800
