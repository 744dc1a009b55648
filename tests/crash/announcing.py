"""A process that changes rows and announces each change, as workers beside the server do, until it is killed."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from sqlalchemy import insert

from mainstem.clock import system_clock
from mainstem.events import Announcement, announce
from mainstem.identity import tables
from mainstem.storage import SqliteRecords
from mainstem.work import Queue

TOPIC = "mainstem.listings"


async def change(path: Path, run: str) -> None:
    async with SqliteRecords(path) as records:
        queue = Queue(records, system_clock)
        for number in count():
            name = f"{run}-{number:06d}"
            async with records.begin() as tx:
                await tx.execute(insert(tables.accounts).values(name=name, is_admin=False, created_us=0))
                await announce(tx, queue, Announcement(TOPIC, "listing.created", {"name": name}, name, system_clock()))
            await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(change(Path(sys.argv[1]), sys.argv[2]))
