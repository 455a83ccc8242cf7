"""DVM: MADDPG whose agents are distilled into one student from time to time, and then learn as copies of it.

Distillation and value matching (Wadhwania et al. 2019). Between distillations the agents learn by MADDPG with networks
of their own. A distillation is `distill_updates` steps on draws of the replay:

    policies:  minimise the mean over agents i of  KL( mu_i(.|o_i) || mu(.|o_i) )        of continuous actions
                                                   |mu_i(o_i) - mu(o_i)|^2
    critics:   minimise the mean over agents i of  ( Q_i(s, a) - Q(s, a) )^2

with mu and Q the student, which starts where the last distillation left it. Afterwards all policies and critics, and
their target networks, are the student.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...components.batch import Batch
from ...components.experience import EnvInfo
from ...components.updates.descent import clip_rows
from ...components.updates.optimisers import Adam
from ...controllers.basic_mac import BasicMAC
from ...modules.agents.rnn import NetworkConfig
from ...utils.errors import UserError
from ...utils.schema.keys import key
from .maddpg import MADDPGConfig, MADDPGLearner
from .steps import Steps


@dataclass(frozen=True)
class DVMConfig(MADDPGConfig):
    """Configuration of DVM."""

    distill_interval: int = key("Environment steps between distillations of all agents into one student (DVM).", low=1)
    distill_updates: int = key("Steps of gradient descent of one distillation.", low=1)


class DVMLearner(MADDPGLearner):
    """MADDPG with distillation and value matching."""

    Config = DVMConfig
    config: DVMConfig

    def __init__(
        self, config: DVMConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        #: the student's policy [1, P] and critics [C, P], one network of each kind
        self.student = [self.policy.detach()[:1].clone(), self.critic.detach()[:: self.critics.n_networks].clone()]
        self._distilled_at = 0

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse agents that cannot be copies of one another, or that are already.

        Raises:
            UserError: naming the keys.
        """
        super().check(values, info)
        if values["sharing"] != "separate" or values["critic_sharing"] == "shared" or values["obs_agent_id"]:
            raise UserError(
                "DVM distils networks of the agents' own into one: use sharing=separate critic_sharing=separate "
                "obs_agent_id=False."
            )
        if not info.agents_match().all():
            raise UserError(
                f"DVM makes all agents copies of one, and those of '{info.name}' differ in observations or actions: "
                "use maddpg_ns."
            )

    def train(self, batch: Batch, t_env: int) -> tuple[dict[str, float], dict[str, Any]]:
        """MADDPG's, and a distillation where one is due."""
        found, arrays = super().train(batch, t_env)
        if self.updates and t_env - self._distilled_at >= self.config.distill_interval:
            self._distilled_at = t_env
            found |= self.distil()
        return found, arrays

    def distil(self) -> dict[str, float]:
        """Fit the student to all agents and set them to it; returns the last draw's losses."""
        c, student = self.config, [x.clone().requires_grad_() for x in self.student]
        rates = c.lr, c.critic_lr or c.lr
        optimisers = [Adam([x], lr=lr, eps=c.optim_eps) for x, lr in zip(student, rates, strict=True)]
        losses = []
        for _ in range(c.distill_updates):
            drawn = self.prepared(self.draw(self._t_env).batch)
            steps = self.steps(drawn)
            losses = [self._policy_distance(drawn, steps, student[0]), self._critic_distance(steps, student[1])]
            for loss, params, optimiser in zip(losses, student, optimisers, strict=True):
                optimiser.zero_grad()
                loss.backward()
                assert params.grad is not None
                clip_rows(params.grad, c.grad_norm_clip)
                optimiser.step()
        self.student = [x.detach() for x in student]
        self._spread()
        return {"distill_policy_loss": losses[0].item(), "distill_critic_loss": losses[1].item()}

    def _spread(self) -> None:
        """Make all agents, and their target networks, the student."""
        policy, critic = self.student
        with torch.no_grad():
            for mine in (self.policy, self.target_policy):
                mine.copy_(policy.expand_as(mine))
            for mine in (self.critic, self.target_critic):
                mine.copy_(critic.repeat_interleave(self.critics.n_networks, 0))

    def _policy_distance(self, batch: Batch, steps: Steps, student: Tensor) -> Tensor:
        """The mean distance of the student's policy to the agents' on their own decisions."""
        view, n = steps.now, self.info.n_agents
        with torch.no_grad():
            teacher = self.outputs(batch, view, self.policy)
        learned = self.outputs(batch, view, student.expand(n, -1))
        if self.info.continuous:
            apart = torch.where(view.avail, torch.tanh(teacher) - torch.tanh(learned), 0.0).square().sum(-1)
        else:
            apart = self.mac.distribution(teacher, view.avail).kl(self.mac.distribution(learned, view.avail))
        return torch.where(steps.valid, apart, 0.0).sum() / steps.valid.sum().clamp(min=1)

    def _critic_distance(self, steps: Steps, student: Tensor) -> Tensor:
        """The mean squared difference of the student's values to those of the agents' critics, of the steps taken."""
        seen = self.critics.seen(steps.now.obs, steps.now.state)
        taken, k = self.taken(steps.actions, steps.now.avail), self.critics.n_networks
        of_all = student.repeat_interleave(k, 0)
        total, count = torch.zeros((), device=taken.device), steps.mask.sum().clamp(min=1)
        for twin in range(self.critics.twins):
            with torch.no_grad():
                goal = self.critics(self.critic, seen, taken, twin)
            apart = self.critics(of_all, seen, taken, twin) - goal
            total = total + torch.where(steps.mask, apart, 0.0).square().sum() / count
        return total

    # -- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """MADDPG's, the student, and when the last distillation was."""
        policy, critic = (x.clone() for x in self.student)
        return super().state_dict() | {"student": [policy, critic], "distilled_at": self._distilled_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        self.student = [x.to(self.device) for x in state["student"]]
        self._distilled_at = state["distilled_at"]
