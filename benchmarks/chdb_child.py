"""chDB, the engine of ClickHouse in a process of its own, in its own environment because it brings pandas.

    python chdb_child.py FOLDER NDJSON    load the events, then run each line of SQL that comes in

Every answer is one line of JSON: {"seconds": ..., "rows": [...]}. The first tells how long the loading took.
"""

import json
import sys
import time

from chdb import session  # type: ignore[import-not-found]  # lives in an environment of its own

TABLE = """
create table events (ts DateTime64(6, 'UTC'), event_type LowCardinality(String), data JSON, metadata JSON)
engine = MergeTree order by (event_type, ts)
"""
LOAD = """
insert into events select parseDateTime64BestEffort(timestamp, 6, 'UTC'), event_type, data, metadata
from file('{path}', JSONEachRow, 'timestamp String, event_type String, data JSON, metadata JSON')
"""


def main(folder: str, events: str) -> None:
    engine = session.Session(folder)
    begin = time.perf_counter()
    engine.query(TABLE)
    engine.query(LOAD.format(path=events))
    engine.query("optimize table events final")
    answer(time.perf_counter() - begin, [])
    for statement in sys.stdin:
        begin = time.perf_counter()
        said = engine.query(statement, "JSONCompactEachRow").bytes().decode()
        answer(time.perf_counter() - begin, [json.loads(line) for line in said.splitlines()])


def answer(seconds: float, rows: list[object]) -> None:
    print(json.dumps({"seconds": seconds, "rows": rows}), flush=True)


main(sys.argv[1], sys.argv[2])
