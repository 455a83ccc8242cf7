"""Configuration of MADDPG and MATD3, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...components.experience import EnvInfo
from ...modules.action_selectors import selector_class
from ...modules.continuous_selectors import WARMUP_DOC
from ...utils.errors import UserError
from ...utils.schema.keys import key
from ..off_policy import OffPolicyConfig
from ..value.reciprocity import ReciprocityConfig


@dataclass(frozen=True)
class ActionCriticConfig:
    """Configuration of critics of joint actions."""

    critic: str = key("The critic's network: v (built-in), or `package.module:Class`, an nn.Module of one output.")
    critic_type: str = key(
        "Critic input: cv_critic (global state; of MADDPG all agents' actions too) or ac_critic (the agent's own "
        "observation; of MADDPG its own action too: independent DDPG).",
        choices=("cv_critic", "ac_critic"),
    )
    critic_sharing: str = key(
        "One critic for all agents, one each, or one for each group of agents that share a policy network (policies).",
        choices=("shared", "separate", "policies"),
    )
    obs_individual_obs: bool = key("cv_critic also sees all agents' observations.")
    critic_lr: float | None = key("Learning rate of the critic; null takes lr.", above=0, high=1e6)
    twin_critic: bool = key("Two critics, the lower of whose values makes the targets (TD3).")

    def __post_init__(self) -> None:
        if self.critic_type == "ac_critic" and self.obs_individual_obs:
            raise UserError("obs_individual_obs=True adds to the state: critic_type=ac_critic has none, use cv_critic.")


@dataclass(frozen=True)
class MADDPGConfig(ActionCriticConfig, OffPolicyConfig, ReciprocityConfig):
    """Configuration of MADDPG and MATD3."""

    q_nstep: int | None = key("n of n-step targets; null: one step.", low=1)
    add_value_last_step: bool = key("Bootstrap from the last observation where an episode was truncated.")
    standardise_returns: bool = key("Critics predict targets on a running scale: mean 0 and deviation 1.")
    target_interval_unit: str = key(
        "What target_update_interval_or_tau counts above 1: updates, or episodes (EPyMARL's MADDPG).",
        choices=("updates", "episodes"),
    )
    policy_delay: int = key("Updates of the critics to each update of policies and target networks (TD3).", low=1)
    target_noise: float = key(
        "Deviation of the noise on the continuous actions of targets, of which -1 and 1 are the bounds (TD3); 0: none.",
        low=0, actions="continuous",
    )  # fmt: skip
    target_noise_clip: float = key("Largest noise on the actions of targets.", above=0, actions="continuous")
    other_actions: str = key(
        "What the other agents do where a policy is improved: as in the replay (Lowe et al. 2017, eq. 6), or by their "
        "policies as they are (policies; EPyMARL).",
        choices=("replay", "policies"),
    )
    gumbel: str = key(
        "Gradient of sampled discrete actions: st (straight-through Gumbel-softmax) or gst (gapped straight-through, "
        "Fan et al. 2022).",
        choices=("st", "gst"), actions="discrete",
    )  # fmt: skip
    gumbel_temperature: float = key("Temperature of the softmax that the gradient is of.", above=0, actions="discrete")
    gumbel_gap: float = key(
        "gumbel=gst: how far the other actions' logits are kept below the sampled one's.",
        low=0, actions="discrete", only={"gumbel": ("gst",)},
    )  # fmt: skip
    reg: float = key(
        "Weight of the mean square of what policies put out (logits; of continuous actions what tanh is taken of).",
        low=0,
    )
    warmup_steps: int = key(WARMUP_DOC, low=0)


def check(values: Mapping[str, Any], info: EnvInfo, who: str) -> None:
    """Refuse actions that the learner's policies do not put out.

    Args:
        values: the configuration.
        info: the environment's sizes.
        who: the method, the beginning of a sentence.

    Raises:
        UserError: continuous actions that are drawn with deviations, which deterministic policies do not have.
    """
    name = values["action_selector"]
    if info.continuous and not getattr(selector_class(name, True), "deterministic", False):
        raise UserError(
            f"{who} learns deterministic policies, which put out no deviations as action_selector="
            f"{'null (gaussian)' if name is None else name} reads them: use action_selector=noisy."
        )
