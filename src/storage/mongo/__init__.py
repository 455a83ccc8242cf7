"""Runs in MongoDB: the connection, the document of a run, its delivery during the run, and fetching it back."""
