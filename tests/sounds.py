"""Sound to upload: real files of many formats, the same each time."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foreign import ffmpeg

_ENCODERS = {
    "aiff": (),
    "alac.m4a": ("-c:a", "alac"),
    "caf": (),
    "flac": (),
    "float.wav": ("-c:a", "pcm_f32le"),
    "m4a": ("-c:a", "aac", "-b:a", "128k"),
    "mka": ("-c:a", "libvorbis"),
    "mp3": ("-c:a", "libmp3lame", "-b:a", "128k"),
    "ogg": ("-c:a", "libvorbis"),
    "opus": ("-c:a", "libopus"),
    "ts": ("-c:a", "aac"),
    "u8.wav": ("-c:a", "pcm_u8"),
    "w64": (),
    "webm": ("-c:a", "libopus"),
}


def samples(rate: int, channels: int, seconds: float, bits: int = 16) -> NDArray[np.int32]:
    """A chord with noise, of shape (count, channels), a tone of its own in each channel."""
    count = max(1, round(rate * seconds))
    time_s = np.arange(count) / rate
    noise = np.random.default_rng(count).standard_normal((count, channels))
    sound = 0.08 * noise + np.stack(
        [0.2 * np.sin(2 * np.pi * 220 * (1 + channel) * time_s) for channel in range(channels)], axis=1
    )
    top = 2 ** (bits - 1) - 1
    rounded: NDArray[np.int32] = np.clip(np.round(sound * top), -top - 1, top).astype(np.int32)
    return rounded


def wav(path: Path, rate: int = 44_100, channels: int = 2, seconds: float = 2.0, bits: int = 16) -> Path:
    """A WAV file with 16 or 24 bits a sample."""
    sound = samples(rate, channels, seconds, bits)
    if bits == 16:
        content = sound.astype("<i2").tobytes()
    else:
        content = sound.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(content)
    return path


def encoded(source: Path, kind: str) -> Path:
    """The same sound in another format: `mp3`, `m4a`, `float.wav`; beside its source."""
    path = source.with_name(f"{source.stem}.{kind}")
    ffmpeg("-v", "error", "-i", source, *_ENCODERS[kind], path)
    return path
