"""`python -m mainstem` is the `mainstem` command."""

import sys

from mainstem.cli import main

sys.exit(main())
