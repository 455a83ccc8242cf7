"""Agents on a line who must meet."""
