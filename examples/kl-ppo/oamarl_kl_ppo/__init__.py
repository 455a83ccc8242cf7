"""MAPPO with a KL penalty."""
