"""`python -m tests.crash --kills 1000`: the crash tests' kills, as many as you have the patience for."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash import transcoding
from crash.killing import main  # what tests share is beside this folder, as pytest has it

if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=1_000)
    options.add_argument("--transcodes", type=int, default=0, help="kill transcoding so often, and nothing else")
    options.add_argument("--seed", type=int, default=20_240_315)
    chosen = options.parse_args()
    if chosen.transcodes:
        transcoding.main(chosen.transcodes, chosen.seed)
    else:
        main(chosen.kills, chosen.seed)
