"""Waveforms in the formats of audiowaveform, version 2: the lowest and highest sample in each stretch of audio.

One is stored, as fine as a screen can use; coarser ones are merged from it.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainstem.errors import Invalid

SAMPLES_PER_PIXEL = 256
"""The finest resolution, where the audio is not so long that it needs too many pixels."""

PIXELS_MAX = 1 << 20
SAMPLES_PER_PIXEL_MAX = 1 << 26

_HEADER = struct.Struct("<iIiiIi")  # version, flags (0: 16 bits), sample rate, samples a pixel, pixels, channels
_PIXELS_DEFAULT = 4_000


class Waveform:
    """Pairs of a lowest and a highest value, 16 bits, all channels mixed into one."""

    def __init__(self, sample_rate: int, samples_per_pixel: int, pairs: NDArray[np.int16]) -> None:
        self.sample_rate = sample_rate
        self.samples_per_pixel = samples_per_pixel
        self.pairs = pairs
        """Of shape (pixels, 2)."""

    def binary(self) -> bytes:
        """As a `.dat` file."""
        header = _HEADER.pack(2, 0, self.sample_rate, self.samples_per_pixel, len(self.pairs), 1)
        return header + self.pairs.astype("<i2").tobytes()

    @classmethod
    def parse(cls, binary: bytes) -> "Waveform":
        """What `binary` wrote."""
        _, _, rate, samples, _, _ = _HEADER.unpack_from(binary)
        return cls(rate, samples, np.frombuffer(binary, "<i2", offset=_HEADER.size).reshape(-1, 2))

    def json(self) -> dict[str, object]:
        return {
            "version": 2,
            "channels": 1,
            "sample_rate": self.sample_rate,
            "samples_per_pixel": self.samples_per_pixel,
            "bits": 16,
            "length": len(self.pairs),
            "data": self.pairs.ravel().tolist(),
        }

    def at(self, samples_per_pixel: int | None) -> "Waveform":
        """The same, coarser. None: about four thousand pixels at most.

        Where `samples_per_pixel` is no multiple of the stored resolution, a stored pixel counts for that in which it
        begins. Raises Invalid for finer than is stored.
        """
        base = self.samples_per_pixel
        if samples_per_pixel is None:
            samples_per_pixel = base * max(1, -(-len(self.pairs) // _PIXELS_DEFAULT))
        if not base <= samples_per_pixel <= SAMPLES_PER_PIXEL_MAX:
            raise Invalid(
                f"samples_per_pixel is {base} to {SAMPLES_PER_PIXEL_MAX} for this audio.", field="samples_per_pixel"
            )
        if samples_per_pixel == base or not len(self.pairs):
            return Waveform(self.sample_rate, samples_per_pixel, self.pairs)
        # Pixel i begins with the first stored one that begins at or after i times samples_per_pixel.
        count = ((len(self.pairs) - 1) * base) // samples_per_pixel + 1
        begins = -(-np.arange(count, dtype=np.int64) * samples_per_pixel // base)
        lowest = np.minimum.reduceat(self.pairs[:, 0], begins)
        highest = np.maximum.reduceat(self.pairs[:, 1], begins)
        return Waveform(self.sample_rate, samples_per_pixel, np.stack([lowest, highest], axis=1))


class Drawing:
    """Makes a waveform of samples as they come."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._samples_per_pixel = SAMPLES_PER_PIXEL
        self._done: list[NDArray[np.int16]] = []
        self._pixels = 0
        self._rest: NDArray[Any] | None = None
        self._channels = 1

    def add(self, samples: NDArray[Any]) -> None:
        """Samples of shape (channels, count), in one of libav's types, the same each time."""
        mixed = _mixed(samples)
        self._channels = samples.shape[0]
        if self._rest is not None and len(self._rest):
            mixed = np.concatenate([self._rest, mixed])
        whole = len(mixed) // SAMPLES_PER_PIXEL * SAMPLES_PER_PIXEL
        self._rest = mixed[whole:]
        self._draw(mixed[:whole].reshape(-1, SAMPLES_PER_PIXEL))

    def finish(self) -> Waveform:
        """The waveform of everything that was added."""
        if self._rest is not None and len(self._rest):
            self._draw(self._rest.reshape(1, -1))
            self._rest = None
        pairs = np.concatenate(self._done) if self._done else np.empty((0, 2), np.int16)
        drawn = Waveform(self._rate, SAMPLES_PER_PIXEL, pairs)
        while len(drawn.pairs) > PIXELS_MAX:
            drawn = drawn.at(drawn.samples_per_pixel * 2)
        return drawn

    def _draw(self, rows: NDArray[Any]) -> None:
        if len(rows):
            pairs = np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1)
            self._done.append(_sixteen_bits(pairs, self._channels))


def _mixed(samples: NDArray[Any]) -> NDArray[Any]:
    """The sum of all channels, in 16-bit units or as floats where it came as floats."""
    match samples.dtype.str[1:]:
        case "u1":
            samples = (samples.astype(np.int32) - 128) << 8
        case "i4":
            samples = samples >> 16
        case "f8":
            samples = samples.astype(np.float32)
    kind = np.float32 if samples.dtype.kind == "f" else np.int32
    # Channel by channel: over interleaved samples `sum` takes fifteen times as long.
    mixed: NDArray[Any] = samples[0].astype(kind)
    for channel in samples[1:]:
        np.add(mixed, channel, out=mixed, dtype=kind)
    return mixed


def _sixteen_bits(sums: NDArray[Any], channels: int) -> NDArray[np.int16]:
    """Sums of samples as their mean, rounded to zero as audiowaveform does."""
    mean = np.trunc(sums / channels * (32_767 if sums.dtype.kind == "f" else 1))
    return np.clip(np.nan_to_num(mean), -32_768, 32_767).astype(np.int16)
