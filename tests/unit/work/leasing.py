"""A process that takes tasks from a queue until none is left, and tells which it has done."""

import asyncio
import json
import sys
from pathlib import Path

from mainstem.clock import system_clock
from mainstem.storage import SqliteRecords
from mainstem.work import Queue


async def work(path: Path) -> list[str]:
    done: list[str] = []
    async with SqliteRecords(path) as records:
        queue = Queue(records, system_clock)
        while await queue.depth("bake"):
            tasks = await queue.lease(["bake"], lease_s=60, count=7)
            for place, task in enumerate(tasks):
                async with queue.begin() as tx:
                    if place == 3:
                        await queue.release(tx, task)
                    else:
                        await queue.finish(tx, task)
                        done.append(task.key)
    return done


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"done": asyncio.run(work(Path(sys.argv[1])))}))
