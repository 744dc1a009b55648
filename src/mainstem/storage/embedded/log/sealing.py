"""From a full write-ahead file to segments."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mainstem.storage.columns import Chunk
from mainstem.storage.embedded.log import segments
from mainstem.storage.embedded.log.catalog import Catalog, Extent, Run, Segment, Standing
from mainstem.storage.embedded.log.dedupe import RunFile, write_run
from mainstem.storage.embedded.log.layout import Layout
from mainstem.storage.embedded.log.tail import Generation
from mainstem.storage.ports import Path


class Sealed(NamedTuple):
    segments: list[tuple[Segment, list[Extent]]]
    run: RunFile | None


def seal(
    layout: Layout,
    catalog: Catalog,
    generation: Generation,
    dropped: set[int],
    hot: Sequence[Path],
    notes_expire_us: int,
) -> Sealed:
    """Write a generation's events, ids and notes to where they stay, without those of dropped topics.

    On return its write-ahead file is needed no more. May be repeated after a crash or an OSError.
    """
    sealed: list[tuple[Segment, list[Extent]]] = []
    standings: list[Standing] = []
    for chunks in segments.unbroken(generation.chunks):
        rows = segments.table(chunks)
        if dropped:
            rows = rows.filter(pc.invert(pc.is_in(rows.column("topic"), pa.array(sorted(dropped), pa.int64()))))
        if rows.num_rows:
            segment, extents = segments.write(layout.segments, rows, hot)
            sealed.append((segment, extents))
            standings += _standings(chunks, extents)
    run: Run | None = None
    if generation.ids:
        run = write_run(layout.dedupe, generation.ids, generation.first_seq, generation.next_seq)
    catalog.add_sealed(sealed, standings, generation.notes.values(), notes_expire_us, run, next_seq=generation.next_seq)
    return Sealed(sealed, None if run is None else RunFile(layout.dedupe, run))


def _standings(chunks: Sequence[Chunk], extents: Sequence[Extent]) -> list[Standing]:
    last_ts: dict[int, int] = {}
    for chunk in chunks:
        if chunk.only_topic is not None:
            last_ts[chunk.only_topic] = int(chunk.ts_us[-1])
        else:
            last_ts.update(zip(chunk.topics.tolist(), chunk.ts_us.tolist(), strict=True))
    return [Standing(extent.topic, extent.next_idx, 0, last_ts[extent.topic], extent.max_arrived) for extent in extents]
