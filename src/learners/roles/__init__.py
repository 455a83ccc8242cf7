"""ROMA: roles that emerge as agents learn."""
