"""The sound that is transcoded: five minutes of stereo that are as hard to encode as music, the same each time."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 44_100
CHANNELS = 2
_BAR_S = 2
_NOTES_HZ = (55.0, 110.0, 164.8, 220.0, 277.2, 329.6, 440.0, 554.4, 659.3, 880.0, 1318.5)
_PARTIALS = 6


def make(path: Path, seconds: int, seed: int = 1) -> Path:
    """A WAV file of 16 bits: struck chords with partials, wide in the stereo picture, and noise that beats time."""
    chance = np.random.default_rng(seed)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(CHANNELS)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(0, seconds, _BAR_S):
            file.writeframes(_bar(chance).tobytes())
    return path


def _bar(chance: np.random.Generator) -> NDArray[np.int16]:
    time_s = np.arange(RATE * _BAR_S) / RATE
    sound = np.zeros((len(time_s), CHANNELS))
    for note_hz in chance.choice(_NOTES_HZ, 4, replace=False):
        begins_s, left = chance.choice([0, 0.5, 1.0]), chance.random()
        struck = np.where(time_s >= begins_s, np.exp(-3 * (time_s - begins_s)), 0)
        for partial in range(1, _PARTIALS + 1):
            voice = struck**partial * np.sin(2 * np.pi * note_hz * partial * time_s) / partial
            sound += voice[:, None] * np.array([left, 1 - left])
    beat = np.exp(-30 * (time_s % 0.25))[:, None] * chance.standard_normal((len(time_s), CHANNELS))
    return (np.clip(0.18 * sound + 0.06 * beat, -1, 1) * 32_767).astype("<i2")
