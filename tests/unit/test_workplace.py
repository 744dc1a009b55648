import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE_S

_ENGINES = ("duckdb", "pyarrow", "numpy", "starlette")
_LOOK = f"""
import asyncio, sys
import mainstem.worker as worker
from mainstem.settings import Settings
from mainstem.storage import SqliteRecords, Layout

async def look(data):
    layout = Layout(data)
    layout.make()
    await SqliteRecords(layout.records).migrate()
    async with worker.open_workplace(Settings(data=data)):
        print(*(name for name in {_ENGINES} if name in sys.modules))

from pathlib import Path
asyncio.run(look(Path(sys.argv[1])))
"""


def test_a_process_beside_the_server_carries_no_engine_of_the_log(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _LOOK, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE_S
    )

    assert (run.stdout.split(), run.returncode) == ([], 0), run.stderr
