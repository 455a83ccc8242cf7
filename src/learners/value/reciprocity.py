"""Policy reciprocity: the other agents' target critics have a share in the value that an agent bootstraps from.

Policy reciprocity paper (arXiv 2304.05632), section IV, deep PR. Its text gives no equation, no definition of adjacent
inputs and no constants: what follows is this package's reading of it, and every choice is a key.

    V~_i(x_i) = (1 - beta) V'_i(x_i) + beta mean_{j in N_i} V'_j(x_i)        V'_i(x_i) where N_i is empty

| symbol | meaning |
|---|---|
| V'_j | agent j's critic in targets: its target network, if it has one; action values of the next action alike |
| x_i | what agent i's critic reads at the moment that is bootstrapped from |
| N_i | the next `pr_agents` agents after i, in a circle, whose inputs are adjacent to i's |
| beta | `pr_beta`; with 0 nothing of this is computed |

With `pr_eps: null` agents whose spaces are of one size are adjacent. Otherwise those are whose actions are of one size
and whose observations have no shared number that differs by more than `pr_eps`; shared are the first numbers, as many
as both have, and a critic reads only these of another agent's observation, the others as 0.

Critics of the state all have one input: then V'_j(x_i) is V'_j(x_j), and nothing further is evaluated. Otherwise each
critic is evaluated on the inputs of all N agents: N^2 evaluations beside N, of targets alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...components.experience import EnvInfo
from ...modules.critics.v import CriticInputs
from ...utils.errors import UserError
from ...utils.schema.keys import key


@dataclass(frozen=True)
class ReciprocityConfig:
    """Configuration of policy reciprocity."""

    pr_beta: float = key(
        "Policy reciprocity: the other agents' share in the value that an agent bootstraps from (of tables: the weight "
        "of the consensus term at the first visit, spread over the partners); 0: none.",
        low=0, high=1,
    )  # fmt: skip
    pr_eps: float | None = key(
        "pr_beta: an agent takes part in the values of those from whose observations no number of its own, as networks "
        "read them, differs by more; null: of all those whose spaces are of its size. Of tables: the L1 distance of "
        "adjacent states' shared coordinates; null: as suits the environment.",
        low=0,
    )
    pr_agents: int | None = key("pr_beta: how many other agents take part, the next ones by number; null: all.", low=1)


class Reciprocity:
    """Who takes part in whose bootstrap values, and the mixture.

    Args:
        config: what it reads.
        info: the environment's sizes.
        device: where values are.
    """

    def __init__(self, config: ReciprocityConfig, info: EnvInfo, device: torch.device) -> None:
        self.beta, self.eps = config.pr_beta, config.pr_eps
        n = info.n_agents
        sizes, actions = np.asarray(info.obs_sizes), np.asarray(info.action_sizes)
        after = (np.arange(n) - np.arange(n)[:, None]) % n
        near = (after > 0) & (after <= (n if config.pr_agents is None else config.pr_agents))
        near &= info.agents_match() if self.eps is None else actions[:, None] == actions
        #: [N, N] bool: the second agent may take part in the first one's values
        self.near = torch.from_numpy(near).to(device)
        shared = np.arange(info.obs_size) < np.minimum(sizes[:, None], sizes)[..., None]
        #: [N, N, O] of 1 and 0: the numbers that two agents share
        self.shared = torch.from_numpy(shared.astype(np.float32)).to(device)

    @classmethod
    def of(cls, config: object, info: EnvInfo, device: torch.device) -> Reciprocity | None:
        """What a learner's configuration asks for, None without it."""
        asked = isinstance(config, ReciprocityConfig) and config.pr_beta > 0 and info.n_agents > 1
        return cls(config, info, device) if asked else None  # type: ignore[arg-type]

    def partners(self, obs: Tensor) -> Tensor:
        """N_i as [..., N, N] bool, where agents observe ``obs`` [..., N, O]."""
        if self.eps is None:
            return self.near
        apart = ((obs.unsqueeze(-2) - obs.unsqueeze(-3)).abs() * self.shared).amax(-1)
        return self.near & (apart <= self.eps)

    def mixed(self, own: Tensor, across: Tensor, obs: Tensor) -> Tensor:
        """The values V~ [..., N].

        Args:
            own: V'_i(x_i) [..., N].
            across: V'_j(x_i) [..., N, N], i before j.
            obs: [..., N, O], by which N_i is found.
        """
        share = self.partners(obs).to(own.dtype)
        count = share.sum(-1)
        mean = (across * share).sum(-1) / count.clamp(min=1.0)
        return torch.where(count > 0, (1.0 - self.beta) * own + self.beta * mean, own)

    def seen_from(self, obs: Tensor, i: int) -> Tensor:
        """What all agents' critics read of agent i's observation among ``obs`` [..., N, O]: [..., N, O]."""
        return obs[..., i : i + 1, :] * self.shared[i]

    def following(
        self, own: Tensor, obs: Tensor, inputs: CriticInputs, final: CriticInputs,
        evaluate: Callable[[str, CriticInputs, CriticInputs], Tensor],
    ) -> Tensor:  # fmt: skip
        """The values V~ [B, T, N] of what follows each step, by critics of states.

        Args:
            own: V'_i(x_i) [B, T, N].
            obs: [B, T, N, O] after each step.
            inputs: the critics' own, [B, T+1, ...]; of their parts that are an agent's own observations come first.
            final: those of the final observations of episodes that end inside a row, [K, ...].
            evaluate: gives the values [B, T, N] of all critics of other such inputs, given a name for them.
        """
        if inputs.own.shape[-1]:
            views = ((self._inputs_from(inputs, i), self._inputs_from(final, i)) for i in range(own.shape[-1]))
            across = torch.stack([evaluate(f"target of {i}", *view) for i, view in enumerate(views)], dim=-2)
        else:  # all see the same
            across = own.unsqueeze(-2).expand(*own.shape, own.shape[-1])
        return self.mixed(own, across, obs)

    def _inputs_from(self, inputs: CriticInputs, i: int) -> CriticInputs:
        """What all agents' critics read in place of agent i's."""
        own, size = inputs.own[..., i : i + 1, :], self.shared.shape[-1]
        further = own[..., size:].expand(*inputs.own.shape[:-1], -1)
        return replace(inputs, own=torch.cat([own[..., :size] * self.shared[i], further], dim=-1))


def without_partners(values: Mapping[str, Any], info: EnvInfo) -> list[str]:
    """Return a sentence where `pr_beta` is set and no agent can have a partner, whatever is observed."""
    beta, eps = values.get("pr_beta") or 0.0, values.get("pr_eps")
    if not beta:
        return []
    if info.n_agents == 1:
        why = f"{info.why_alone()} (gymma's env_args.copies=2 makes two that learn the task side by side)"
    elif not Reciprocity(ReciprocityConfig(beta, eps, None), info, torch.device("cpu")).near.any():
        same = "actions" if eps is not None else "observations and actions"
        why = f"no two agents have {same} of equal sizes"
        why += "" if eps is not None else " (pr_eps compares observations of unlike sizes, too)"
    else:
        return []
    return [f"pr_beta={beta:g} has no effect in '{info.name}': {why}."]


def one_for_all(which: str, remedy: str) -> UserError:
    """The refusal of policy reciprocity where nothing tells the agents' values apart."""
    return UserError(
        f"pr_beta mixes the values of the agents' own {which}, and here one serves all agents alike: use {remedy}, or "
        "pr_beta=0."
    )
