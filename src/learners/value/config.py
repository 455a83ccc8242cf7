"""Configuration of value functions, and of the epochs of their regression."""

from __future__ import annotations

from dataclasses import dataclass

from ...utils.errors import UserError
from ...utils.schema.keys import key
from .reciprocity import ReciprocityConfig

REWARDS_DOC = "Rewards are put on a running scale before targets are made (standardise_rewards_mean says how)."
REWARDS_MEAN_DOC = (
    "standardise_rewards: subtract the running mean and divide by the deviation, as EPyMARL does (which changes the "
    "optimum where episodes differ in length); False: divide by the running root mean square alone."
)


@dataclass(frozen=True)
class CriticConfig:
    """Configuration of every value function."""

    gamma: float = key("Discount factor.", low=0, high=1)
    gae_lambda: float | None = key("lambda of GAE; null with q_nstep for n-step targets.", low=0, high=1)
    q_nstep: int | None = key("n of n-step value targets; null with gae_lambda for GAE.", low=1)
    add_value_last_step: bool = key("Bootstrap from the last observation where an episode was truncated.")
    standardise_returns: bool = key(
        "Value normalisation: the critic predicts returns on a running scale, and advantages that are not normalised "
        "themselves are on that scale too (as in EPyMARL)."
    )
    standardise_rewards: bool = key(REWARDS_DOC)
    standardise_rewards_mean: bool = key(REWARDS_MEAN_DOC, only={"standardise_rewards": (True,)})
    normalise_advantage: bool = key("Advantages get mean 0 and deviation 1 over the batch's real steps.")
    critic: str = key(
        "The critic's network: v (built-in), dcg (a coordination graph, of PAC), or `package.module:Class`, an "
        "nn.Module of one output (of COMA and PAC: one for each action)."
    )
    critic_use_rnn: bool = key("The built-in critic carries a GRU over the episode; otherwise it is feed-forward.")
    critic_type: str = key(
        "Critic input: cv_critic (global state) or ac_critic (the agent's own observation).",
        choices=("cv_critic", "ac_critic"),
    )
    critic_sharing: str = key(
        "One critic for all agents, one each, or one for each group of agents that share a policy network (policies).",
        choices=("shared", "separate", "policies"),
    )
    critic_agent_obs: bool = key("cv_critic also sees the agent's own observation (agent-specific state).")
    obs_individual_obs: bool = key("cv_critic also sees all agents' observations.")
    critic_lr: float | None = key("Learning rate of the critic; null takes lr.", above=0, high=1e6)
    value_loss: str = key("Regression loss of the critic.", choices=("mse", "huber"))
    huber_delta: float = key("Where the Huber loss turns linear (on the critic's own scale).", above=0)
    target_update_interval_or_tau: float = key(
        "Targets come from the critic's target network: up to 1 the soft update's share (1: no target network), above "
        "1 the number of updates between copies.",
        above=0,
        high=1e9,
    )
    grad_norm_clip: float = key("Largest L2 norm of each network's gradient.", above=0)
    lr: float = key("Learning rate (Adam).", above=0, high=1e6)
    optim_eps: float = key("Epsilon of Adam.", above=0, high=1e6)
    obs_agent_id: bool = key("Append the agent's one-hot id to policy (and critic) inputs.")
    obs_last_action: bool = key("Append the last action, one-hot, to policy (and critic) inputs.")

    def __post_init__(self) -> None:
        if (self.gae_lambda is None) == (self.q_nstep is None):
            both = "both are set" if self.q_nstep else "neither is set"
            raise UserError(
                f"q_nstep selects n-step returns and gae_lambda GAE: {both}; set one and leave the other null."
            )
        for name in ("critic_agent_obs", "obs_individual_obs"):
            if self.critic_type == "ac_critic" and getattr(self, name):
                raise UserError(f"{name}=True adds to the state: critic_type=ac_critic has none, use cv_critic.")


@dataclass(frozen=True)
class ValueConfig(CriticConfig, ReciprocityConfig):
    """Configuration of a value function with several epochs a batch."""

    critic_epochs: int | None = key("Epochs of the critic; null takes epochs.", low=1)
    num_minibatches: int = key("Minibatches per epoch, of policies and critic.", low=1)
    value_clip: float | None = key("Clip the critic's change per iteration to this much (null: off).", above=0)


@dataclass(frozen=True)
class EpochConfig:
    """Epochs and mini-batches of one batch, by default one of each; keys as in :class:`ValueConfig`."""

    epochs: int = 1
    num_minibatches: int = 1
    value_clip: float | None = None
