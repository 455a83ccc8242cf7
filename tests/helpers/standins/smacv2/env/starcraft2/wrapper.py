"""A stand-in for SMACv2's wrapper: distributions inside one another with generators that nobody seeds."""

import random

import numpy as np
from numpy.random import default_rng
from smac.env import StarCraft2Env


class Inner:
    def __init__(self):
        self.rng = default_rng()

    def generate(self):
        return self.rng.random()


class Outer:
    def __init__(self):
        self.rng = default_rng()
        self.one, self.other = Inner(), Inner()

    def generate(self):
        return self.rng.random() + 2 * self.one.generate() + 4 * self.other.generate() + 8 * random.random()


class StarCraftCapabilityEnvWrapper:
    def __init__(self, **kwargs):
        config = kwargs.pop("capability_config")
        self.n_units, self.n_enemies = config["n_units"], config["n_enemies"]
        config["team_gen"]["env_key"] = "team_gen"  # as SMACv2 does
        self.env_key_to_distribution_map = {"team_gen": Outer(), "start_positions": Inner()}
        names = ("map_name", "seed", "continuing_episode", "replay_dir", "replay_prefix")
        self.given = kwargs
        self.env = StarCraft2Env(**{k: kwargs[k] for k in names})

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self):
        self.drawn_here = [d.generate() for d in self.env_key_to_distribution_map.values()]
        self.env.reset()
        self.env.drawn = float(np.sum(self.drawn_here))

    def step(self, actions):
        return self.env.step(actions)

    def get_env_info(self):
        return self.env.get_env_info()

    def close(self):
        return self.env.close()
