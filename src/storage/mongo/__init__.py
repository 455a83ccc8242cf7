"""Runs in MongoDB: the connection, the document of a run, its delivery while the run goes, and fetching it back."""
