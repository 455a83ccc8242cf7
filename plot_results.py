"""A signpost for those who type EPyMARL's `python plot_results.py`."""

import sys

print("EPyMARL's plot_results.py is `oamarl plot FOLDER` here, which reads its runs too.", file=sys.stderr)
sys.exit(2)
