"""A signpost for those who type EPyMARL's `python search.py`."""

import sys

print("EPyMARL's search.py is `oamarl sweep FILE.yaml` here, of a file with `search:`.", file=sys.stderr)
sys.exit(2)
