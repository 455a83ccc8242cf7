"""Q-learning from a replay: IQL, VDN and QMIX, which differ in the mixer; SEQL.

IQL: Tan 1993; VDN: Sunehag et al. 2018, eq. 1; QMIX: Rashid et al. 2018, eq. 6; double Q: van Hasselt et al. 2016;
SEQL: SEAC paper (Christianos et al. 2020), section 5.2.

| symbol | shape | meaning |
|---|---|---|
| Q_i(o_i, .) | [B, T+1, N, A] | the agents' action values, the outputs of their networks |
| Q' | | the same of the target network |
| u'_i | [B, T+1, N] | the best legal actions, by Q (double Q) or by Q' |
| Q_tot(s, Q) | [B, T, V] | the mixer's value of the team, V = 1; without a mixer the agents' own values, V = N |
| y | [B, T, V] | lambda- or n-step returns of reward and Q'_tot(s', Q'(o', u')), cut where the episode ends |
| delta | [B, T, V] | TD errors Q_tot(s, Q(o, u)) - y, 0 where there is no step |

An update minimises the mean of delta^2 over the real steps of a draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch
from ..components.experience import EnvInfo
from ..components.generators import generator
from ..components.normalisation import RunningMeanStd
from ..components.replay import Drawn
from ..components.returns import lambda_returns, nstep
from ..components.updates.parallel import differentiate, in_background, shards
from ..controllers.basic_mac import BasicMAC
from ..controllers.outputs import Rows
from ..modules.agents.rnn import NetworkConfig
from ..modules.build import load_mixer, mixer_network
from ..modules.flat import FlatModule
from ..utils.errors import UserError
from .off_policy import OffPolicyLearner
from .q_config import QConfig, check_action_values, check_shared, mixer_class
from .value.reciprocity import Reciprocity, one_for_all
from .value.targets import ends, learned_steps

#: with fewer sequences, what two parts of a draw cost beside their networks is more than the second thread gains
_SEQUENCES = 128


@dataclass(frozen=True)
class Errors:
    """TD errors of B rows.

    | field | shape | meaning |
    |---|---|---|
    | delta | [B, T, V] | TD errors, 0 where ``mask`` is not set |
    | predicted, target | [B, T, V] | Q_tot(s, Q(o, u)) and y |
    | mask | [B, T, V] bool | what is learned from |
    | further | name -> [B, T, V] | losses beside delta^2 |
    """

    delta: Tensor
    predicted: Tensor
    target: Tensor
    mask: Tensor
    further: dict[str, Tensor]

    def sums(self) -> dict[str, Tensor]:
        """Sums over what is learned from, by the names of their means in logs."""
        found = {
            "td_error_abs": self.delta.abs(), "q_taken_mean": self.predicted[self.mask],
            "target_mean": self.target[self.mask], **self.further,
        }  # fmt: skip
        return {name: x.detach().sum() for name, x in found.items()}


class QLearner(OffPolicyLearner):
    """Q-learning of agents or, with a mixer, of a team."""

    Config = QConfig
    config: QConfig

    def __init__(
        self, config: QConfig, net: NetworkConfig, mac: BasicMAC, info: EnvInfo, *, common_reward: bool,
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, net, mac, info, common_reward=common_reward, device=device, seed=seed)
        self.common_reward = common_reward
        self.mixer = self._mixer(generator(seed, "init mixer"))
        self.reciprocity = Reciprocity.of(config, info, device)
        if self.reciprocity is not None and mac.n_networks == 1 and not mac.config.obs_agent_id:
            raise one_for_all("networks", "sharing=separate or obs_agent_id=True")
        self.learned = [mac.network.params]
        if self.mixer is not None:
            self.mixer.to(device)
            self.learned.append(self.mixer.params)
        self.optimise(*(x for x in self.learned if x.numel()))
        self.target_params = [self.target_copy(x) for x in self.learned]
        shape = (info.n_agents,) if self.mixer is None and not common_reward else ()
        self.return_stats = RunningMeanStd(shape, device) if config.standardise_returns else None

    def _mixer(self, source: torch.Generator) -> FlatModule | None:
        """The mixer that the configuration names."""
        name = self.config.mixer
        return None if name is None else mixer_network(mixer_class(name), name, self.info, self.config, source)

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse what values of actions cannot be learned from.

        Raises:
            UserError: naming the keys.
        """
        super().check(values, info)
        check_action_values(values, info, f"learner={values['learner']}")
        joint = values["mixer"] is not None and getattr(mixer_class(values["mixer"]), "joint", False)
        if joint != cls.joint:
            raise UserError(
                "mixer=qtran has losses of its own: use learner=qtran_learner (--config=qtran)."
                if joint
                else f"learner={values['learner']} learns the joint networks of mixer=qtran, not mixer="
                f"{values['mixer'] or 'null'}: use mixer=qtran, or learner=q_learner."
            )
        if cls.joint and values["pr_beta"]:
            raise UserError(
                "pr_beta mixes agents' action values in targets, and QTRAN's targets are of its joint network: use "
                "pr_beta=0, or qmix or vdn."
            )
        steps, n = values["replay_steps"], values["q_nstep"]
        if steps is not None and n is not None and n > steps:
            raise UserError(
                f"q_nstep={n} needs rows of as many steps, and replay_steps={steps} draws shorter ones: use "
                f"replay_steps={n} or more, or null for whole episodes."
            )
        if values["replay_sharing"] == "shared":
            check_shared(values, info)

    #: whether its mixer reads actions and features, not action values
    joint = False

    # -- drawing -----------------------------------------------------------------------------------------------

    def draw(self, t_env: int) -> Drawn:
        """Draw `batch_size` entries; with replay_sharing=shared an equal share of them are each agent's experience.

        Draws are independent of one another, so that the agents' experience is of different times.
        """
        drawn = super().draw(t_env)
        if self.config.replay_sharing == "own":
            return drawn
        rows = torch.arange(len(drawn.weight), device=drawn.weight.device)
        source = rows * self.info.n_agents // len(rows)
        return replace(drawn, batch=drawn.batch.seen_by_all(source))

    # -- an update -----------------------------------------------------------------------------------------------

    def update(self, batch: Batch, weight: Tensor) -> tuple[dict[str, float], Tensor]:
        """One update on a drawn batch; see :meth:`OffPolicyLearner.update`.

        Large draws are cut into two parts, of whole rows, whose gradients two threads work out.
        """
        mask, weight = self.mask(batch), weight.view(-1, 1, 1)
        count = mask.sum().clamp(min=1)
        cuts = self._cuts(batch)
        errors: list[Errors | None] = [None] * len(cuts)

        def objective(k: int, cut: slice, params: list[Tensor]) -> Tensor:
            part = batch if len(cuts) == 1 else batch.part(cut)
            errors[k] = found = self.errors(part, params, mask[cut])
            loss = (weight[cut] * self.error(found.delta)).sum() / count
            for value in found.further.values():
                loss = loss + (weight[cut] * value).sum() / count
            return loss

        if len(cuts) == 1:
            loss = objective(0, cuts[0], self.learned)
            norm = self.gradient_step(loss)
        else:
            shards_of = [lambda params, k=k, cut=cut: [objective(k, cut, params)] for k, cut in enumerate(cuts)]
            loss = differentiate(self.learned, shards_of)
            norm = self.step()
        found = {"loss": loss.item(), "grad_norm": norm}
        sums = [x.sums() for x in errors if x is not None]
        found |= {name: float(sum(x[name] for x in sums) / count) for name in sums[0]}
        absolute = torch.cat([x.delta.detach().abs().sum((1, 2)) for x in errors if x is not None])
        return found, absolute / mask.sum((1, 2)).clamp(min=1)

    def _cuts(self, batch: Batch) -> list[slice]:
        """The parts of a draw whose gradients are worked out in parallel: of recurrent networks that read many
        sequences; a running scale of returns is one of the whole draw."""
        n, agents = len(batch.filled), self.info.n_agents
        if not self.mac.recurrent or n * agents < _SEQUENCES or self.return_stats is not None:
            return [slice(0, n)]
        return shards(n, agents, True, batch.obs.device)

    def errors(self, batch: Batch, params: list[Tensor], mask: Tensor) -> Errors:
        """The TD errors of a batch, or of a part of one, and further losses.

        Args:
            batch: B rows.
            params: of networks and mixer, which are differentiated.
            mask: [B, T, V], see :meth:`mask`.
        """
        steps, rows = batch.actions.shape[1], self.mac.rows(batch)
        by_target = partial(self._target_outputs, rows)
        # beside the networks' own evaluation where each takes long
        with in_background(by_target) if self.mac.recurrent else nullcontext(by_target) as target_q:
            q, features = self.outputs(rows, params[0])
            target = self.targets(batch, q.detach(), target_q())
        predicted = self.team(params, q[:, :-1], features[:, :-1], batch.actions, batch.state[:, :steps], batch.filled)
        delta = torch.where(mask, predicted - target, 0.0)
        return Errors(delta, predicted, target, mask, self.further_losses(batch, params, q, features, predicted, mask))

    def error(self, delta: Tensor) -> Tensor:
        """What is minimised of TD errors ``delta`` [B, T, V], value less target; 0 at 0."""
        return delta.square()

    def outputs(self, batch: Batch | Rows, params: Tensor) -> tuple[Tensor, Tensor]:
        """The networks' action values [B, T+1, N, A] and, for joint networks, their features [B, T+1, N, F]."""
        q = self.mac.all_outputs(batch, params)
        return q, q

    @torch.no_grad()
    def _target_outputs(self, batch: Batch | Rows) -> tuple[Tensor, Tensor]:
        """:meth:`outputs` of the target network."""
        return self.outputs(batch, self.target_params[0])

    def team(
        self, params: list[Tensor], q: Tensor, features: Tensor, actions: Tensor, state: Tensor,
        there: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The values [B, L, V] of the actions [B, L, N] by ``params`` of networks and mixer: the prediction of the TD
        error, and the bootstrap of its target.

        Args:
            q: [B, L, N, A] of the networks.
            features: [B, L, N, F] what their heads read, where :meth:`outputs` gives it.
            state: [B, L, S].
            there: [B, L] bool, where values are asked for; those elsewhere mean nothing. None: everywhere.
        """
        taken = q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        if self.mixer is None:
            return taken
        if there is None or not params[1].numel() or bool(there.all()):
            return self.mixer(params[1], taken, state)
        at = there.flatten().nonzero().squeeze(1)
        found = self.mixer(params[1], taken.flatten(0, 1)[at], state.flatten(0, 1)[at])
        return found.new_zeros(there.numel(), 1).index_copy(0, at, found).view(*there.shape, 1)

    def further_losses(
        self, batch: Batch, params: list[Tensor], q: Tensor, features: Tensor, predicted: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses [B, T, V] beside delta^2, by name, 0 where ``mask`` is not set; arguments as of :meth:`team`."""
        return {}

    @torch.no_grad()
    def targets(self, batch: Batch, q: Tensor, by_target: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The targets y [B, T, V], of the networks' action values ``q`` [B, T+1, N, A].

        ``by_target``: :meth:`outputs` of the target network, where they are known.
        """
        c = self.config
        target_q, features = self._target_outputs(batch) if by_target is None else by_target
        greedy = (q if c.double_q else target_q).masked_fill(~batch.avail, -torch.inf).argmax(-1)
        if self.reciprocity is not None:
            target_q = self._mixed(self.reciprocity, batch, target_q)
        following = self.team(
            self.target_params, target_q[:, 1:], features[:, 1:], greedy[:, 1:], batch.state[:, 1:], batch.filled
        )
        if self.return_stats is not None:
            following = self.return_stats.denormalise(following)
        n_values = following.shape[-1]
        terminated, ended = ends(batch, n_values, c.add_value_last_step, by_agent=not self.common_reward)
        reward = batch.reward[..., :n_values]
        if c.td_lambda is not None:
            y = lambda_returns(reward, following, terminated, ended, c.gamma, c.td_lambda)
        else:
            filled = batch.filled.unsqueeze(-1).expand_as(reward)
            y = nstep(reward, following, terminated, ended, filled, c.gamma, c.q_nstep or 1)
        if self.return_stats is not None:
            real = y[batch.filled]
            self.return_stats.update(real if self.return_stats.mean.dim() else real.flatten())
            y = self.return_stats.normalise(y)
        return y

    def _mixed(self, partners: Reciprocity, batch: Batch, target_q: Tensor) -> Tensor:
        """The target network's action values ``target_q`` [B, T+1, N, A] with the other agents' share in each."""
        stats, found = self.return_stats, []
        source = torch.zeros_like(batch.filled[:, 0], dtype=torch.int64)
        for i in range(self.info.n_agents):
            seen = batch.seen_by_all(source + i)
            found.append(self._target_outputs(replace(seen, obs=partners.seen_from(batch.obs, i)))[0])
        own, across = (
            target_q.transpose(-1, -2),
            torch.stack(found, dim=2).movedim(-1, 2),
        )  # [B, T+1, A, N], [..., N, N]
        if stats is None or not stats.mean.dim():
            return partners.mixed(own, across, batch.obs.unsqueeze(2)).transpose(-1, -2)
        # each agent's values are on a scale of its own
        mixed = partners.mixed(stats.denormalise(own), stats.denormalise(across), batch.obs.unsqueeze(2))
        return stats.normalise(mixed).transpose(-1, -2)

    def mask(self, batch: Batch) -> Tensor:
        """[B, T, V] bool: what is learned from; see :func:`~.value.targets.learned_steps`."""
        return learned_steps(batch, self.info.n_agents if self.mixer is None else 1, not self.common_reward)

    # -- state -------------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ("policies", [K, P]) and, where it has parameters, ("mixer", [1, P])."""
        yield from super().parameters()
        if self.mixer is not None and self.mixer.params.numel():
            yield "mixer", self.mixer.params

    def load_weights(self, state: Mapping[str, Any]) -> list[str]:
        """Take the mixer's weights, and start the target networks from all weights."""
        unfit = load_mixer(self.mixer, state)
        return unfit + super().load_weights(state)

    def state_dict(self) -> dict[str, Any]:
        """The base class's, the mixer and the scale of returns."""
        stats = self.return_stats.state_dict() if self.return_stats is not None else {}
        mixer = {} if self.mixer is None else {"mixer": self.mixer.params.detach().clone()}
        return super().state_dict() | mixer | {"return_stats": stats}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        super().load_state_dict(state)
        if self.mixer is not None:
            self.mixer.params.data.copy_(state["mixer"])
        if self.return_stats is not None:
            self.return_stats.load_state_dict(state["return_stats"])
