"""The list of maps, of the shape that SMAC's has."""


def get_smac_map_registry():
    return {name: {"n_agents": 3, "n_enemies": 3, "limit": 8} for name in ("3m", "3s5z_vs_3s6z", "MMM2")}
