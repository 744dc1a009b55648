"""Run the benchmark: `python -m benchmarks [--quick | --full] [--only P3,P8] [--curves]`."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import curves, machine, report
from benchmarks.catalogue import lists
from benchmarks.disk_size import compression
from benchmarks.downloads import downloads
from benchmarks.ingest import MAINSTEM, columns, many_streams, one_stream, single_events
from benchmarks.latency import acknowledgement
from benchmarks.liveness import checking
from benchmarks.memory import resident
from benchmarks.pulls import pulls
from benchmarks.pushes import pushes
from benchmarks.queries import aggregates, pages
from benchmarks.restart import restarts
from benchmarks.software import Missing
from benchmarks.stage import DEFAULT, FULL, QUICK, Scale, Stage
from benchmarks.table import Row, absent, terminal
from benchmarks.tails import tails
from benchmarks.transcoding import first_segment, four_rungs, one_rung, serving

# In the order in which they run: load first, then questions beside all that is stored; restarts last, with all of it.
PROMISES: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "P1": many_streams,
    "P2": one_stream,
    "P3": single_events,
    "P4": columns,
    "P5": pushes,
    "P6": acknowledgement,
    "P8": aggregates,
    "P7": pages,
    "P14": tails,
    "P15": downloads,
    "P13": resident,
    "P12": restarts,
    "P11": compression,
    "P9": pulls,
    "M1": one_rung,
    "M2": four_rungs,
    "M3": first_segment,
    "M4": serving,
    "L1": checking,
    "C1": lists,
}
QUICK_PROMISES = ("P8", "P1", "P3")


def main() -> int:
    options = _options()
    # Ended from outside we still stop what we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="mainstem-bench-", dir=options.folder))
    begin = time.monotonic()
    conditions = report.Conditions(machine.describe(folder), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    try:
        _probe(conditions, "before", folder)
        with Stage(_scale(options), folder) as stage:
            if options.curves:
                return curves.run(stage, conditions)
            rows, whole = _measure(stage, _chosen(options), conditions, begin + 60 * options.minutes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{terminal(rows)}\n")
    print("\n".join(conditions.lines()))
    if not options.quick:
        for path in report.keep(PROMISES, _chosen(options), rows, conditions, time.monotonic() - begin):
            print(f"Written to {path}.")
    return 0 if whole else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main ratios in under two minutes; writes no file")
    parser.add_argument("--full", action="store_true", help="P12 with 100 million events stored")
    parser.add_argument(
        "--only", metavar="P1,P2", help="only these promises; writes the files of whole suites: P, M, or L and C"
    )
    parser.add_argument("--curves", action="store_true", help="how figures grow with events, streams, connections")
    parser.add_argument("--minutes", type=float, default=60, help="begin no further promise after so long")
    parser.add_argument("--folder", type=Path, help="where to put the data; default: the temporary folder")
    return parser.parse_args()


def _scale(options: argparse.Namespace) -> Scale:
    return QUICK if options.quick else FULL if options.full else DEFAULT


def _chosen(options: argparse.Namespace) -> Sequence[str]:
    if options.only is None:
        return QUICK_PROMISES if options.quick else list(PROMISES)
    wanted = options.only.upper().split(",")
    if unknown := set(wanted) - set(PROMISES):
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(sorted(PROMISES))}.")
    return [promise for promise in PROMISES if promise in wanted]


def _probe(conditions: report.Conditions, when: str, folder: Path) -> None:
    conditions.probes.append((when, machine.noise(), machine.disk(folder)))


def _measure(
    stage: Stage, promises: Sequence[str], conditions: report.Conditions, until: float
) -> tuple[list[Row], bool]:
    """All rows in the order of the promises' numbers, and whether nothing broke; what breaks costs its own rows."""
    rows, whole = list[Row](), True
    for promise in promises:
        print(f"{datetime.now(UTC):%H:%M:%S} {promise} …", file=sys.stderr, flush=True)
        if time.monotonic() > until:
            rows.append(absent(promise, "all of it", MAINSTEM, "the time given was over"))
            continue
        try:
            for row in PROMISES[promise](stage):
                rows.append(row)
                print("         " + "  ".join(filter(None, map(str, msgspec.structs.astuple(row)))), file=sys.stderr)
        except Missing as reason:
            rows.append(absent(promise, "all of it", MAINSTEM, reason))
        except Exception as error:  # the other promises are still worth their time
            traceback.print_exc()
            rows.append(absent(promise, "all of it", MAINSTEM, repr(error)))
            whole = False
        _probe(conditions, f"after {promise}", stage.folder)
    return sorted(rows, key=lambda row: ("PMLC".index(row.promise[0]), int(row.promise[1:]))), whole


if __name__ == "__main__":
    sys.exit(main())
