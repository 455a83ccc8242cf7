"""Side-by-side measurements against other frameworks; the program is ``benchmarks/compare.py``."""
