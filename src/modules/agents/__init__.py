"""Networks of agents' policies."""
