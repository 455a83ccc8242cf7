"""The keys of tabular Q-learning with and without policy reciprocity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..envs.base import EnvInfo
from ..envs.build import factory
from ..utils.errors import UserError, one_of
from ..utils.schema.keys import key


@dataclass(frozen=True)
class TabularConfig:
    """Configuration of tabular Q-learning (:mod:`oamarl.tabular.tables`).

    With k visits of a state and action by the agent before this one: alpha_t = lr / (k + 1)^lr_power and
    beta_t = pr_beta / (k + 1)^pr_beta_power. QD-learning (Kar, Moura and Poor, 2013) converges with
    1/2 < lr_power <= 1 and 0 < pr_beta_power < lr_power: the agents agree faster than they learn. Other powers are
    allowed, for the paper's experiments and for constant step sizes.
    """

    gamma: float = key("Discount factor.", low=0, high=1)
    lr: float = key("Tables: step size alpha of the first visit of a state and action.", above=0, high=1)
    lr_power: float = key("Tables: alpha falls with this power of the visits; 0: constant.", low=0, high=1)
    pr_beta: float = key(
        "Policy reciprocity: weight of the other agents' values; of tables: of the first visit, spread evenly over the "
        "partners. 0: independent learners.",
        low=0,
        high=1,
    )
    pr_beta_power: float = key("Tables: the weight pr_beta falls with this power of the visits; 0: constant.", low=0,
                               high=1)  # fmt: skip
    pr_kappa: float = key(
        "Tables: share of all adjacent states in another agent's value, beside those that agree in everything which "
        "both agents see; 0: those alone.",
        low=0,
        high=1,
    )
    pr_eps: int | None = key(
        "Adjacency level: states are adjacent whose shared coordinates differ by this or less in all (L1); null: as "
        "suits the environment (digital, navigation: 1; blocker, landmarks: 0).",
        low=0,
    )
    pr_agents: int | None = key(
        "Partners of each agent, the next ones in cyclic order; null: all others, as the paper has it.", low=0
    )
    exploration: str = key("Tables: how training acts.", choices=("epsilon_greedy", "boltzmann"))
    temperature: float = key(
        "Temperature of Boltzmann policies exp(Q / temperature): of exploration=boltzmann, and of the policies whose "
        "distance is logged as policy_mse.",
        above=0,
    )
    epsilon_start: float = key("Epsilon-greedy: share of random actions at the beginning.", low=0, high=1)
    epsilon_finish: float = key("Epsilon-greedy: share of random actions from epsilon_anneal_time on.", low=0, high=1)
    epsilon_anneal_time: int = key("Environment steps over which epsilon goes linearly to epsilon_finish.", low=1)
    evaluation_epsilon: float = key("Share of random actions in sampled tests and evaluations.", low=0, high=1)
    reward_scalarisation: str = key("How agents' rewards make the common one.", choices=("sum", "mean"))
    seed: int = key("Seed of everything random in the run; null draws one.", low=0)
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse an environment without countable observations, and steps that leave the range of the rewards.

        Raises:
            UserError: which, and what is allowed.
        """
        check_finite(values)
        if values["lr"] + values["pr_beta"] > 1:
            raise UserError(
                f"lr={values['lr']:g} and pr_beta={values['pr_beta']:g} are together more than 1: a table's new value "
                "would not lie between the old one, the target and the partners' values."
            )


def check_finite(values: Mapping[str, Any]) -> None:
    """Refuse an environment whose observations cannot be counted.

    Raises:
        UserError: naming the environments that can be used.
    """
    if not getattr(factory(values["env"]), "finite", False):
        from ..envs import REGISTRY

        known = [name for name, target in REGISTRY.items() if target.startswith(".tabular:")]
        raise UserError(
            f"'{values['name']}' learns tables, and the observations of '{values['env']}' cannot be counted: use "
            f"--env-config={one_of(known)}."
        )
