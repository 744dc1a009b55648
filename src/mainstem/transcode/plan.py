"""What a file deserves: from what the probe found and what was asked for to the rungs that are made. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from mainstem.transcode.audio import Codec, Container, Media, Rung
from mainstem.transcode.model import Order, Profile

TS_ORIGIN_S = 1.4
"""Where the timestamps of transport streams begin, so that their clock can run ahead of the first frame."""

BITRATES = {Codec.AAC: (32_000, 320_000), Codec.MP3: (32_000, 320_000), Codec.OPUS: (6_000, 512_000)}
"""What may be asked for, in bits a second. FLAC takes what it takes."""

LADDER = (64_000, 128_000, 192_000)

_PROFILES = {
    Profile.HI_RES: (320_000, 48_000),
    Profile.HIGH: (256_000, 44_100),
    Profile.MEDIUM: (192_000, 44_100),
    Profile.LOW: (96_000, 44_100),
}
"""Bits a second, and the highest sample rate. All are AAC and at most stereo."""

_CHANNELS_MAX = 2
_FLAC_CHANNELS_MAX = 8
_OPUS_RATE = 48_000

_RATES = {
    Codec.AAC: (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
    Codec.MP3: (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}
_FLAC_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)

# ISO 11172-3 and 13818-3, layer III; the last line is MPEG-2.5's, which decoders know without a standard.
_MP3_BITRATES = (
    (32_000, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16_000, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (0, (8, 16, 24, 32, 40, 48, 56, 64)),
)


def plan(media: Media, order: Order) -> list[Rung]:
    """The rungs to make, that of the profile first. No rung has a higher rate or more channels than the source, but
    where its codec has none so low."""
    asked = _asked(media, order)
    if not order.ladder:
        return [asked]
    ladder = _ladder(media, order)
    # Players switch between these, so their timestamps begin at one place, whatever the container.
    if any(rung.container is Container.TS for rung in ladder):
        ladder = [replace(rung, origin_s=TS_ORIGIN_S) for rung in ladder]
    same = [rung for rung in ladder if _encoding(rung) == _encoding(asked)]
    if same:
        return [same[0], *[rung for rung in ladder if rung is not same[0]]]
    return [replace(asked, in_master=False), *ladder]


def _asked(media: Media, order: Order) -> Rung:
    profile_bitrate, rate_max = _PROFILES[order.profile]
    return _rung(media, order.codec or Codec.AAC, order.bitrate or profile_bitrate, rate_max)


def _ladder(media: Media, order: Order) -> list[Rung]:
    _, rate_max = _PROFILES[order.profile]
    rungs = [_rung(media, Codec.AAC, bitrate, rate_max) for bitrate in LADDER]
    if media.lossless:
        rungs.append(_rung(media, Codec.FLAC, 0, 0))
    # At low rates several become the same.
    return list({rung.name: rung for rung in rungs}.values())


def _rung(media: Media, codec: Codec, bitrate: int, rate_max: int) -> Rung:
    channels = min(media.channels, _FLAC_CHANNELS_MAX if codec is Codec.FLAC else _CHANNELS_MAX)
    match codec:
        case Codec.FLAC:
            rate = _flac_rate(media.sample_rate)
            return Rung(name="flac", codec=codec, bitrate=None, sample_rate=rate, channels=channels, bits=media.bits)
        case Codec.OPUS:
            rate = _OPUS_RATE
            bitrate = min(bitrate, 256_000 * channels)  # libopus takes no more
        case Codec.MP3:
            rate = _highest(_RATES[codec], min(media.sample_rate, rate_max))
            legal = next(rates for lowest, rates in _MP3_BITRATES if rate >= lowest)
            bitrate = _highest([kbps * 1_000 for kbps in legal], bitrate)
        case Codec.AAC:
            rate = _highest(_RATES[codec], min(media.sample_rate, rate_max))
            bitrate = min(bitrate, 6 * rate * channels)  # ISO 14496-3: 6,144 bits a channel in 1,024 samples
    origin_s = TS_ORIGIN_S if codec in (Codec.AAC, Codec.MP3) else 0.0
    return Rung(
        name=f"{codec}-{bitrate / 1_000:g}",  # 64,001 is not the 64,000 of the ladder
        codec=codec,
        bitrate=bitrate,
        sample_rate=rate,
        channels=channels,
        origin_s=origin_s,
    )


def _highest(legal: Sequence[int], at_most: int) -> int:
    """The highest legal value that is not above, or the lowest there is."""
    return max((value for value in legal if value <= at_most), default=min(legal))


def _flac_rate(rate: int) -> int:
    """The source's own, unless a FLAC frame has no way to write it (RFC 9639, 9.1.2)."""
    whole = rate < 65_536 or (rate % 1_000 == 0 and rate < 255_000) or (rate % 10 == 0 and rate < 655_350)
    return rate if whole else _highest(_FLAC_RATES, rate)


def _encoding(rung: Rung) -> tuple[object, ...]:
    return rung.codec, rung.bitrate, rung.sample_rate, rung.channels
