"""Vectorised environments: slots in this process, in worker processes, or batched by the environment itself."""
