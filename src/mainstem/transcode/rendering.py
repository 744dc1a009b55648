"""A whole job on a local file, without a server: to try it, to test what comes out, and to measure."""

import asyncio
from pathlib import Path

import msgspec

from mainstem.transcode import hls
from mainstem.transcode.audio import Loudness, Media, Rung, Segment
from mainstem.transcode.child import Broken, Done, Found, Message, Spec, Written
from mainstem.transcode.children import running
from mainstem.transcode.model import NotAudio, Order
from mainstem.transcode.plan import plan
from mainstem.transcode.run import AttemptFailed, Limits
from mainstem.transcode.sandbox import Allowance


class Rendering(msgspec.Struct, frozen=True):
    """What was made."""

    media: Media
    rungs: list[Rung]
    segments: list[list[Segment]]
    """By rung; number 0 is the initialisation section."""
    loudness: Loudness
    cover: str | None


def render(source: Path, order: Order, folder: Path, limits: Limits | None = None) -> Rendering:
    """Probe a file, plan, and run a child as a worker does. `folder` is made, and gets what players get: a folder for
    each rung with its segments and `index.m3u8`, beside them `master.m3u8`, `waveform.dat` and perhaps `cover`.

    Call it where no event loop runs. Raises NotAudio, AttemptFailed.
    """
    limits = limits or Limits()
    folder.mkdir(parents=True)
    allowance = Allowance(memory_bytes=limits.memory_bytes, cpu_s=int(limits.timeout_s), file_bytes=1 << 30)
    spec = Spec(source=str(source.absolute()), duration_max_s=limits.duration_max_s, allowance=allowance)
    (found,) = asyncio.run(_run(spec))
    if not isinstance(found, Found):
        raise NotAudio(found.message if isinstance(found, Broken) else "The probe found nothing.")
    rungs = plan(found.media, order)
    made = msgspec.structs.replace(
        spec,
        folder=str(folder.absolute()),
        rungs=rungs,
        target_lufs=order.loudness,
        disk_free_bytes_min=limits.disk_free_bytes_min,
    )
    told = asyncio.run(_run(made))
    done = told[-1]
    if not isinstance(done, Done):
        raise AttemptFailed(done.message if isinstance(done, Broken) else "The child ended early.")
    segments: list[list[Segment]] = [[] for _ in rungs]
    for message in told:
        if isinstance(message, Written):
            segments[message.rung].append(Segment(message.number, message.ticks, message.size))
    for rung, pieces in zip(rungs, segments, strict=True):
        (folder / rung.name / hls.INDEX).write_text(hls.media(rung, pieces, ended=True, event=False))
    variants = [(f"{rung.name}/{hls.INDEX}", rung, pieces) for rung, pieces in zip(rungs, segments, strict=True)]
    (folder / "master.m3u8").write_text(hls.master([variant for variant in variants if variant[1].in_master]))
    return Rendering(found.media, rungs, segments, done.loudness, done.cover)


async def _run(spec: Spec) -> list[Message]:
    async with running(spec) as child:
        told = [message async for messages in child.messages() for message in messages]
        if not told or not isinstance(told[-1], Found | Done | Broken):
            raise AttemptFailed(f"The child died ({await child.status()}): {child.said()}")
        return told
