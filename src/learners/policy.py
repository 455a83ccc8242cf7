"""What the policy learners share: configuration, weighted rows of experience, and the two objectives on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..components.batch import Batch, Samples
from ..components.config import key
from ..components.distributions import MaskedCategorical
from ..components.errors import UserError
from ..components.generators import generator
from ..components.schedules import scheduled
from ..components.surrogate import approx_kl, clipped_surrogate, factor_of
from ..controllers.basic_mac import BasicMAC
from ..envs.base import EnvInfo
from ..modules.network import NetworkConfig
from .value import Targets, ValueConfig, ValueLearner


@dataclass(frozen=True)
class LearnerConfig(ValueConfig):
    """What every on-policy learner reads."""

    epochs: int = key("Passes over each batch by the policies (trust-region learners: by the critic alone).", low=1)
    lr_schedule: str = key("Learning rates: constant, or linear to zero at t_max.", choices=("constant", "linear"))
    t_max: int = key("Environment steps to train for.", low=1)


@dataclass(frozen=True)
class ClipConfig(LearnerConfig):
    """What learners with PPO's clipped objective read."""

    eps_clip: float = key("Clipping range epsilon of the probability ratio.", above=0)
    entropy_coef: float = key("Weight of the entropy bonus.", low=0)
    entropy_schedule: str = key(
        "Entropy weight: constant, or linear to entropy_coef_final.", choices=("constant", "linear")
    )
    entropy_coef_final: float = key("Entropy weight at t_max under entropy_schedule=linear.", low=0)


@dataclass(frozen=True)
class TrustRegionConfig(LearnerConfig):
    """What learners with a natural-gradient step read."""

    kl_threshold: float = key("delta: radius of the trust region (mean KL, nats).", above=0)
    cg_iters: int = key("Iterations of conjugate gradient.", low=1)
    cg_damping: float = key("Damping added to the Fisher matrix.", low=0)
    line_search_steps: int = key("Halvings tried by the backtracking line search.", low=1)


class PolicyLearner:
    """What every on-policy learner is made of: the controller, the value function, streams, and its state.

    Args:
        config: what the learner reads.
        net: the architecture (of the critic too).
        mac: the policies, on ``device`` already.
        info: the environment's sizes.
        common_reward: whether all agents have the same reward.
        joint: one value function for the joint advantage.
        device: where everything lives.
        seed: the run's seed.
    """

    config: LearnerConfig

    def __init__(
        self,
        config: LearnerConfig,
        net: NetworkConfig,
        mac: BasicMAC,
        info: EnvInfo,
        *,
        common_reward: bool,
        joint: bool,
        device: torch.device,
        seed: int,
    ) -> None:
        self.config, self.mac, self.info, self.device = config, mac, info, device
        self.value = ValueLearner(
            config, net, info, common_reward=common_reward, joint=joint, epochs=config.epochs, device=device,
            generator=generator(seed, "init critic"), minibatch_generator=generator(seed, "critic minibatches"),
        )  # fmt: skip
        self.generators = {name: generator(seed, name) for name in ("minibatches", "order", "mapping", "kl", "draws")}
        self.optimisers: list[torch.optim.Adam] = []
        self.updates = 0
        self.processed = 0

    def samples(self, batch: Batch) -> tuple[Samples, Targets]:
        """Fix the advantages and lay the batch out for the policies."""
        targets = self.value.targets(batch)
        return Samples.make(batch, self.mac.inputs(batch), targets.advantage, self.mac.recurrent), targets

    def lr_scale(self, t_env: int) -> float:
        """The share of the learning rates that the schedule leaves at ``t_env``; set into every optimiser."""
        scale = scheduled(self.config.lr_schedule, 1.0, 0.0, t_env, self.config.t_max)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.config.lr * scale
        return scale

    def order(self) -> list[int]:
        """A random order of the agents (Algorithm 1, line 6)."""
        return torch.randperm(self.info.n_agents, generator=self.generators["order"]).tolist()

    def adam(self, parameters: list[Tensor]) -> torch.optim.Adam:
        """An optimiser of policy parameters."""
        return torch.optim.Adam(parameters, lr=self.config.lr, eps=self.config.optim_eps)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on with the same numbers."""
        return {
            "value": self.value.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "updates": self.updates,
            "processed": self.processed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back; the controller's parameters are loaded by its own method."""
        self.value.load_state_dict(state["value"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name, saved in state["generators"].items():
            self.generators[name].set_state(saved)
        self.updates, self.processed = state["updates"], state["processed"]


# -- rows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Experience of any sources, for one learner: L rows (recurrent: of T steps).

    ``weight`` [L] is the row's share of the objective: a sum over rows of weight times objective per step is the
    mean over the sources' valid steps that the method asks for. ``target`` [L, *T] is factor times advantage.
    """

    inputs: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    valid: Tensor
    target: Tensor
    weight: Tensor
    source: Tensor

    @classmethod
    def gather(cls, samples: Samples, target: Tensor, entry: Tensor, source: Tensor, weight: Tensor) -> Rows:
        """Take the rows (entry[l], source[l]); feed-forward rows that are not valid are left out at once.

        Args:
            target: [E, N, *T] factor times advantage.
            entry, source, weight: [L].
        """
        if samples.valid.dim() == 2:
            keep = samples.valid[entry, source].nonzero().squeeze(1)
            entry, source, weight = entry[keep], source[keep], weight[keep]
        at = (entry, source)
        return cls(
            samples.inputs[at], samples.avail[at], samples.actions[at], samples.log_prob[at], samples.valid[at],
            target[at], weight, source,
        )  # fmt: skip

    def per_step(self, x: Tensor) -> Tensor:
        """[L, *T]: x times the row's weight on valid steps, 0 elsewhere."""
        weight = self.weight if x.dim() == 1 else self.weight.unsqueeze(-1)
        return torch.where(self.valid, x * weight, 0.0)


def log_ratios(mac: BasicMAC, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """log r = log pi_theta(a_j|o_j) - log mu_j(a_j|o_j) [L, *T], 0 where not valid, and the policy's entropy there."""
    policy = mac.policy(theta, rows.inputs, rows.avail)
    # masked before it is exponentiated: an illegal padded action must not become an infinite ratio
    return torch.where(rows.valid, policy.log_prob(rows.actions) - rows.log_prob, 0.0), policy.entropy()


def targets_with_factor(
    samples: Samples, updated: Tensor, sources: Sequence[int], own_slot: bool, factor_clip: float | None = None
) -> tuple[Tensor, dict[str, float]]:
    """X = F^(j) A for each source j in use (HATRPO paper, eq. 9; OAPO paper, eq. 6-8).

    Args:
        updated: [E, N, *T] log-ratios of the slots already updated, 0 elsewhere.
        sources: which columns are needed.
        own_slot: leave slot j out of F^(j) (`reuse_factor: own`).
        factor_clip: clip the factor to [1/c, c].

    Returns:
        X [E, N, *T] (0 for other sources), and the factor's range.
    """
    x = torch.zeros_like(samples.advantage)
    low, high, clipped, total = 1.0, 1.0, 0.0, 0.0
    for j in sources:
        factor = factor_of(updated, j if own_slot else None)
        valid = samples.valid[:, j]
        if factor_clip is not None:
            raw, factor = factor, factor.clamp(1.0 / factor_clip, factor_clip)
            clipped += float(((raw != factor) & valid).sum())
        total += float(valid.sum())
        x[:, j] = factor * samples.advantage[:, j]
        if valid.any():
            low, high = min(low, float(factor[valid].min())), max(high, float(factor[valid].max()))
    stats = {"factor_min": low, "factor_max": high}
    if factor_clip is not None:
        stats["factor_clip_frac"] = clipped / max(total, 1.0)
    return x, stats


def merged_ranges(ranges: list[dict[str, float]]) -> dict[str, float]:
    """The factor's range over all learners, and the mean share clipped."""
    found = {
        "factor_min": min(r["factor_min"] for r in ranges),
        "factor_max": max(r["factor_max"] for r in ranges),
    }
    if "factor_clip_frac" in ranges[0]:
        found["factor_clip_frac"] = sum(r["factor_clip_frac"] for r in ranges) / len(ranges)
    return found


class ClipStats:
    """Running sums of what PPO-like updates log; per source where asked (all tensors stay on the device)."""

    def __init__(self, eps_clip: float, n_sources: int, device: torch.device) -> None:
        self.eps_clip = eps_clip
        self.sums = torch.zeros(6, n_sources, device=device, dtype=torch.float64)
        self.largest = torch.zeros(n_sources, device=device)

    def add(self, log_ratio: Tensor, entropy: Tensor, valid: Tensor, source: Tensor) -> None:
        """Take in rows [L, *T] of sources [L]."""
        log_ratio, entropy = log_ratio.detach(), entropy.detach()
        ratio = log_ratio.exp()
        clipped = ((ratio - 1.0).abs() > self.eps_clip).float()
        parts = (torch.ones_like(ratio), approx_kl(log_ratio), clipped, entropy, ratio, ratio**2)
        rows = torch.stack([torch.where(valid, p, 0.0) for p in parts])
        rows = rows.flatten(2).sum(-1) if rows.dim() > 2 else rows
        self.sums.index_add_(1, source, rows.double())
        top = torch.where(valid, ratio, 0.0)
        top = top.amax(-1) if top.dim() > 1 else top
        self.largest.scatter_reduce_(0, source, top, "amax")

    def scalars(self) -> dict[str, float]:
        """Means over everything taken in."""
        n, kl, clipped, entropy, ratio, _ = self.sums.sum(1).tolist()
        n = max(n, 1.0)
        return {
            "approx_kl": kl / n, "clip_frac": clipped / n, "entropy": entropy / n, "ratio_mean": ratio / n,
            "ratio_max": float(self.largest.max()),
        }  # fmt: skip

    def per_source(self) -> dict[str, Tensor]:
        """[N] each: clip fraction and effective sample size share (sum r)^2 / (n sum r^2); NaN for unused sources."""
        n, _, clipped, _, ratio, square = self.sums
        return {"clip_frac": clipped / n, "ess": ratio**2 / (n * square), "ratio_mean": ratio / n}

    @property
    def count(self) -> int:
        """Valid steps taken in."""
        return int(self.sums[0].sum())


def clipped_loss(
    mac: BasicMAC, theta: Tensor, rows: Rows, eps_clip: float, entropy_coef: float, stats: ClipStats
) -> Tensor:
    """- sum_l w_l ( min(r X, clip(r) X) + c H ): PPO's objective on weighted rows (HATRPO eq. 11, OAPO eq. 8)."""
    log_ratio, entropy = log_ratios(mac, theta, rows)
    stats.add(log_ratio, entropy, rows.valid, rows.source)
    objective = clipped_surrogate(log_ratio.exp(), rows.target, eps_clip) + entropy_coef * entropy
    return -rows.per_step(objective).sum()


def trust_region_objectives(
    mac: BasicMAC, theta: Tensor, chunks: Sequence[Rows]
) -> tuple[list[Callable[[Tensor], Tensor]], list[Callable[[Tensor], Tensor]]]:
    """The two functions of flat parameters that a trust-region step needs, on weighted rows.

    surrogate(theta') = sum_l w_l r_l X_l (HATRPO eq. 9, OAPO eq. 7 without its constant);
    kl(theta') = sum_l w_l KL(pi_theta || pi_theta') / sum_l w_l, exact, on the same rows.

    Args:
        theta: [P] the learner's old parameters.
        chunks: the rows, in pieces of bounded size.

    Returns:
        each function as the parts that it is the sum of, one for each piece.
    """
    with torch.no_grad():
        old = [mac.policy(theta, rows.inputs, rows.avail) for rows in chunks]
        total = max(sum(float(rows.per_step(torch.ones_like(rows.target)).sum()) for rows in chunks), 1e-12)

    def surrogate(rows: Rows, candidate: Tensor) -> Tensor:
        return rows.per_step(log_ratios(mac, candidate, rows)[0].exp() * rows.target).sum()

    def kl(rows: Rows, before: MaskedCategorical, candidate: Tensor) -> Tensor:
        return rows.per_step(before.kl(mac.policy(candidate, rows.inputs, rows.avail))).sum() / total

    return (
        [partial(surrogate, rows) for rows in chunks],
        [partial(kl, rows, before) for rows, before in zip(chunks, old, strict=True)],
    )


def refuse_for_sequential(values: Mapping[str, Any], info: EnvInfo, method: str) -> None:
    """What the sequential and off-agent methods cannot do, each refused in one sentence.

    Raises:
        UserError: individual rewards, shared networks, agent ids, or an agent-specific critic.
    """
    if not values["common_reward"]:
        raise UserError(
            f"{method} needs common_reward=True: its joint advantage has no meaning for individual rewards."
        )
    sharing = values["sharing"]
    if info.n_agents > 1 and (sharing == "shared" or (isinstance(sharing, list) and len(set(sharing)) < len(sharing))):
        raise UserError(
            f"{method} updates agents one after another: sharing={sharing} is refused, use sharing=separate."
        )
    if values["obs_agent_id"]:
        raise UserError(f"{method} has separate networks without agent ids: use obs_agent_id=False.")
    if values["critic_agent_obs"] or values["critic_type"] != "cv_critic" or values["critic_sharing"] != "shared":
        raise UserError(
            f"{method} has one joint critic: use critic_type=cv_critic, critic_sharing=shared, critic_agent_obs=False."
        )
