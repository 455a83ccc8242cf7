"""``python -m oamarl``: the same program as ``python src/main.py``."""

import sys

from .main import main

# spawned workers import this file again under another name and must not start a second run
if __name__ == "__main__":
    sys.exit(main())
