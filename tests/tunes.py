"""A tune to send: a short melody of our own over soft chords, made from nothing but numbers."""

import io
import wave

import numpy as np
from numpy.typing import NDArray

RATE = 44_100

_BEAT_S = 0.4
_MELODY = (76, 74, 72, 74, 76, 79, 76, 72, 69, 72, 74, 76, 74, 72, 69, 67)
_CHORDS = ((48, 55, 64), (45, 52, 60), (41, 48, 57), (43, 50, 59))


def tune(seconds: float, rate: int = RATE, channels: int = 2) -> bytes:
    """A WAV file of 16 bits a sample that lasts exactly so long."""
    count = round(seconds * rate)
    sound = np.zeros(count)
    for beat in range(int(seconds / _BEAT_S) + 1):
        _add(sound, rate, beat * _BEAT_S, _note(_MELODY[beat % len(_MELODY)], 0.9, rate) * 0.32)
        if beat % 4 == 0:
            for pitch in _CHORDS[beat // 4 % len(_CHORDS)]:
                _add(sound, rate, beat * _BEAT_S, _note(pitch, 2.4, rate) * 0.13)
    # The second voice comes a little later, which makes it wide.
    voices = [np.roll(sound, channel * rate // 90) for channel in range(channels)]
    samples = np.clip(np.stack(voices, axis=1) * 32_767, -32_768, 32_767).astype("<i2")
    return wav(samples, rate)


def wav(samples: NDArray[np.int16], rate: int = RATE) -> bytes:
    """Samples of shape (count, channels) as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(samples.shape[1])
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes(samples.tobytes())
    return file.getvalue()


def _note(pitch: int, seconds: float, rate: int) -> NDArray[np.float64]:
    """A plucked string of this MIDI pitch."""
    time = np.arange(round(seconds * rate)) / rate
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    overtones = sum(np.sin(2 * np.pi * frequency * n * time) * np.exp(-time * (2 + n)) / n**1.6 for n in range(1, 7))
    envelope: NDArray[np.float64] = np.minimum(time / 0.008, 1) * np.minimum((seconds - time) / 0.05, 1)
    return np.asarray(overtones * envelope)


def _add(sound: NDArray[np.float64], rate: int, at_s: float, note: NDArray[np.float64]) -> None:
    start = round(at_s * rate)
    end = min(start + len(note), len(sound))
    if start < end:
        sound[start:end] += note[: end - start]
