"""`python -m tests.soak --minutes 10`: mixed load over all doors, then a look at everything that must be true."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from soak.soaking import main  # what tests share is beside this folder, as pytest has it

if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    sys.exit(main(options.parse_args().minutes * 60))
