"""Configuration of learners of action values, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..components.experience import EnvInfo
from ..modules import mixers
from ..modules.action_selectors import Multinomial, NoisyLogits, selector_class
from ..modules.continuous_selectors import Gaussian
from ..utils.errors import UserError
from ..utils.schema.keys import key
from ..utils.schema.registry import resolve
from .off_policy import OffPolicyConfig
from .value.reciprocity import ReciprocityConfig


@dataclass(frozen=True)
class MixerConfig:
    """Configuration of what joins the agents' action values."""

    mixer: str | None = key(
        "What joins the agents' action values to the team's: vdn (their sum), qmix (a monotonic network drawn from the "
        "state), qtran (with its learner), or `package.module:Class`; null: every agent learns its own (IQL)."
    )
    mixing_embed_dim: int = key(
        "mixer=qmix: width of the mixing network; mixer=qtran: of the joint networks' hidden layers.",
        low=1, high=65536, only={"mixer": ("qmix", "qtran")},
    )  # fmt: skip
    hypernet_layers: int = key(
        "mixer=qmix: layers of the networks that draw the mixing network's weights, 1 or 2.",
        low=1, high=2, only={"mixer": ("qmix",)},
    )  # fmt: skip
    hypernet_embed: int = key(
        "mixer=qmix: width of these networks' hidden layer, with hypernet_layers=2.",
        low=1, high=65536, only={"mixer": ("qmix",), "hypernet_layers": (2,)},
    )  # fmt: skip
    state_scale: float = key(
        "mixer=qmix: what states are divided by before these networks read them, where their numbers are large.",
        above=0, high=1e6, only={"mixer": ("qmix",)},
    )  # fmt: skip


@dataclass(frozen=True)
class QConfig(MixerConfig, OffPolicyConfig, ReciprocityConfig):
    """Configuration of Q-learning."""

    double_q: bool = key(
        "The network chooses the action of a target and the target network values it (double Q-learning); otherwise "
        "the target network does both."
    )
    td_lambda: float | None = key("lambda of lambda-returns as targets; null: q_nstep.", low=0, high=1)
    q_nstep: int | None = key("n of n-step targets, where td_lambda is null; null: one step.", low=1)
    add_value_last_step: bool = key("Bootstrap from the last observation where an episode was truncated.")
    standardise_returns: bool = key("Networks predict targets on a running scale: mean 0 and deviation 1.")
    replay_sharing: str = key(
        "own: an agent learns from its own experience; shared: all agents learn from one draw of equal shares of all "
        "agents' experience (SEQL; shares differ by one entry where batch_size is no multiple of the agents).",
        choices=("own", "shared"),
    )

    def __post_init__(self) -> None:
        if self.td_lambda is not None and self.q_nstep is not None:
            raise UserError(
                f"td_lambda={self.td_lambda:g} makes targets of lambda-returns and q_nstep={self.q_nstep} of n steps: "
                "set one of them to null."
            )


def mixer_class(name: str) -> Any:
    """Return the class that the key ``mixer`` names.

    Raises:
        UserError: there is none.
    """
    return resolve(mixers.__name__, mixers.REGISTRY, name, "mixer")


def check_action_values(values: Mapping[str, Any], info: EnvInfo, who: str) -> None:
    """Refuse a configuration in which no values of actions can be learned.

    Args:
        values: the configuration.
        info: the environment's sizes.
        who: the method, the beginning of a sentence.

    Raises:
        UserError: continuous actions, actions that are drawn from outputs as if they were a policy's, or a value of
            the team where the team has no common reward.
    """
    if info.continuous:
        raise UserError(
            f"{who} learns a value for each action, and the actions of '{info.name}' are vectors of numbers (Box): use "
            "a method of policies, such as mappo, happo, oappo or maddpg."
        )
    selector = selector_class(values["action_selector"], info.continuous)
    if selector in (Multinomial, Gaussian, NoisyLogits):
        name = values["action_selector"] or "null (multinomial)"
        raise UserError(
            f"{who} learns values of actions, which are no policy to draw from as action_selector={name} does: use "
            "action_selector=epsilon_greedy."
        )
    if values["mixer"] is not None and not values["common_reward"]:
        raise UserError(
            f"mixer={values['mixer']} makes one value of the team, which needs one reward: use common_reward=True, or "
            "mixer=null (--config=iql) for agents with rewards of their own."
        )


def check_shared(values: Mapping[str, Any], info: EnvInfo) -> None:
    """Refuse shared experience where agents could not learn from one another's, or do so already.

    Raises:
        UserError: naming the keys.
    """
    if values["mixer"] is not None:
        raise UserError(
            "replay_sharing=shared lets an agent learn from single agents' experience, and "
            f"mixer={values['mixer']} from that of the whole team: use mixer=null or replay_sharing=own."
        )
    if values["sharing"] != "separate":
        raise UserError(
            f"replay_sharing=shared is for agents with networks of their own (sharing=separate); with sharing="
            f"{values['sharing']} a network learns from the experience of all its agents already."
        )
    if values["obs_agent_id"]:
        raise UserError(
            "replay_sharing=shared is refused with obs_agent_id=True: the id would tell an agent that the experience "
            "is another's; use obs_agent_id=False."
        )
    if values["batch_size"] < info.n_agents:
        raise UserError(
            f"batch_size={values['batch_size']} is less than the {info.n_agents} agents of '{info.name}', each of "
            "which has a share of a draw under replay_sharing=shared: use a batch_size of at least that."
        )
    if not info.agents_match().all():
        raise UserError(
            f"replay_sharing=shared needs agents with equal observations and actions; those of '{info.name}' differ: "
            "use replay_sharing=own."
        )
