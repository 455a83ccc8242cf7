"""Hysteretic Q-learning (Matignon et al. 2007, eq. 5): values rise at the full rate and fall at a lower one.

An agent that explores beside others sees good actions punished for what the others did. Where values fall slowly they
stay near the best that the team can do with an action, rather than near what its random partners make of it.
"""

from dataclasses import dataclass

import torch

from oamarl.learners.q_config import QConfig
from oamarl.learners.q_learner import QLearner
from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class HystereticConfig(QConfig):
    """What the learner reads: everything QConfig declares, and one key more."""

    hysteresis: float = key("Weight of the error where the target is below the value; 1: Q-learning.", low=0, high=1)


class HystereticLearner(QLearner):
    Config = HystereticConfig

    def error(self, delta):
        return torch.where(delta > 0, self.config.hysteresis, 1.0) * delta.square()
