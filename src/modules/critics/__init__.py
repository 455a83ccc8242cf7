"""Networks of critics."""
