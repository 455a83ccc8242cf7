"""Slots on other machines: the `ray` backend."""
