"""The rules that set themselves: a learner's row of the reuse mapping from bias and variance, without sigma and lambda.

Both minimise a bound of the squared error of a learner's gradient, sum_j M_j^2 v_j + (sum_j M_j b_j)^2 over the rows M:

| `reuse_scheme` | variance v_ij of source j's gradient | bias b_ij |
|---|---|---|
| adaptive_bound | of the mean of r A, over whole episodes | expected total variation of the policies |
| adaptive_roles | 1 + chi-square, by the steps that each has | disagreement of the agents' roles (components.roles) |

With `adaptive_bound` agents whose policies are equal learn from each other whatever their roles are. `adaptive_roles`
compares what own and others' experience say of the learner's policy itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..components.packing import Packing
from ..components.reuse import bias_limit, bound_row
from ..components.roles import RoleEvidence, difference, narrowed, parts_of, sums_by_part, whitening
from ..components.updates.samples import Samples
from .basic_mac import BasicMAC
from .reuse_distances import Distances, Measured, OnSources, chunks, for_all_agents

#: Schemes whose mapping follows from the policies and the batch.
ADAPTIVE = ("adaptive_kl", "adaptive_bound", "adaptive_roles")

#: Sources with less than this part of own experience's share are not worth the rows that they cost.
LEAST = 0.01


@dataclass(frozen=True)
class Bound:
    """What a row is made of: bias b and variance v [N, N], learner by source; infinite where a source is barred.

    ``roles`` [N, N]: the ratios F of role disagreement, where they are measured.
    """

    bias: np.ndarray
    variance: np.ndarray
    roles: np.ndarray | None = None

    def row(self, learner: int, barred: Sequence[int] = ()) -> np.ndarray:
        """Row M[learner, .] with some sources barred, and without those whose share is next to nothing."""
        bias = self.bias[learner].copy()
        bias[list(barred)] = np.inf
        row = bound_row(bias, self.variance[learner])
        few = row < LEAST * row[learner]
        if not few.any():
            return row
        bias[few] = np.inf
        return bound_row(bias, self.variance[learner])

    def limits(self, matrix: np.ndarray) -> np.ndarray:
        """[N]: the bias beyond which a learner would use a source no more, by the mapping ``matrix``."""
        rows = zip(self.bias, self.variance, matrix, strict=True)
        return np.array([bias_limit(b, v, row) for b, v, row in rows])


def episode_variance(pair: OnSources, part: Tensor, n_parts: int) -> Tensor:
    """[J] variance of the mean of z = r A over each source's valid steps, as whole episodes vary:
    sum_e (sum of z - mean z in e)^2 / n^2, with A in units of its standard deviation.

    Args:
        part: [S] the episode of each measured step.
    """
    samples, rows = pair.measured.samples, pair.rows
    valid = samples.valid[rows.at]
    log_ratio = pair.policy.log_prob(samples.actions[rows.at]) - samples.log_prob[rows.at]
    z = torch.where(valid, log_ratio, 0.0).exp() * samples.advantage[rows.at]
    z, where = pair.by_source(z), pair.valid
    count = where.sum(1, keepdim=True).clamp(min=1)
    centred = torch.where(where, z - torch.where(where, z, 0.0).sum(1, keepdim=True) / count, 0.0).double()
    sums = centred.new_zeros(len(z), n_parts).index_add_(1, part, centred)
    return sums.square().sum(1) / (count.squeeze(1).double() * spread(samples)).square()


def spread(samples: Samples) -> float:
    """The standard deviation of the advantages at decisions; 1 where they do not vary, or are not numbers."""
    advantage = samples.advantage[samples.valid]
    found = float(advantage.double().std(unbiased=False)) if len(advantage) else 0.0
    return found if 0.0 < found < float("inf") else 1.0


def adaptive_bound(measured: Measured, distances: Distances, variance: np.ndarray) -> Bound:
    """b: total variation; v: the larger of the episodes' ``variance`` [N, N] and (1 + c) / n."""
    least = relative_cost(measured.samples, distances) / np.maximum(steps_of(measured.samples), 1.0)
    return Bound(distances.bias, np.maximum(variance, least))


def adaptive_roles(samples: Samples, distances: Distances, evidence: RoleEvidence) -> Bound:
    """b^2: the squared bias of the evidence; v: (1 + c_ij) n_i / n_j, so that own experience has 1."""
    n = steps_of(samples)
    variance = relative_cost(samples, distances) * np.maximum(n, 1.0)[:, None] / np.maximum(n, 1.0)
    bias = np.sqrt(evidence.squared_bias(variance))
    bias[~np.isfinite(distances.kl)] = np.inf
    return Bound(bias, variance, evidence.ratios())


def steps_of(samples: Samples) -> np.ndarray:
    """[N] valid steps of each agent."""
    return samples.valid.sum(0).cpu().numpy().astype(float)


def relative_cost(samples: Samples, distances: Distances) -> np.ndarray:
    """[N, N] 1 + c: what importance weights multiply a source's variance by; infinite for a source without steps."""
    cost = 1.0 + np.maximum(distances.chi_square, 0.0)
    cost[:, steps_of(samples) == 0] = np.inf
    np.fill_diagonal(cost, 1.0)
    return cost


@dataclass(frozen=True)
class Decisions:
    """The L decisions of some sources, source by source: what every learner that is compared with them reads.

    | field | shape | meaning |
    |---|---|---|
    | inputs, packing | [R, I] | the rows that networks read, and how they are sequences |
    | chosen | [L] int64 | the decisions among them; None: all, in their order |
    | step, agent | [L] int64 | where the decisions are among the samples |
    | avail, actions, log_prob | [L, ...] | as in the samples |
    | weight | [L] | the advantage, as a share of the source's mean |
    """

    inputs: Tensor
    packing: Packing | None
    chosen: Tensor | None
    step: Tensor
    agent: Tensor
    avail: Tensor
    actions: Tensor
    log_prob: Tensor
    weight: Tensor

    @classmethod
    def of(cls, samples: Samples, sources: list[int], scale: float) -> Decisions:
        """Gather the decisions of ``sources``, with advantages in units of ``scale``."""
        entries, agents = samples.entries, torch.tensor(sources, device=samples.choice)
        rows = samples.rows(entries.repeat(len(sources)), agents.repeat_interleave(len(entries)))
        valid = samples.valid[rows.at].nonzero().squeeze(1)
        if rows.packing is not None:
            valid = valid[rows.agent[valid].argsort(stable=True)]
        at = rows.step[valid], rows.agent[valid]
        # rows by themselves are read only where there is a decision
        alone = rows.packing is None
        inputs, chosen = samples.inputs[at if alone else rows.at], None if alone else valid
        avail, actions, log_prob = samples.avail[at], samples.actions[at], samples.log_prob[at]
        weight = samples.advantage[at] / (scale * samples.counts()[at[1]])
        return cls(inputs, rows.packing, chosen, *at, avail, actions, log_prob, weight)


class RoleMeasure:
    """Measures role disagreement on a batch, by the gradient of each policy's last layer.

    Args:
        mac: the policies.
        match: [N, N] bool, which agents have the same spaces: others are not compared.
        max_rows: most rows in one network call.
    """

    def __init__(self, mac: BasicMAC, match: np.ndarray, max_rows: int) -> None:
        self.mac, self.max_rows = mac, max_rows
        n = len(match)
        self.sources = [[j for j in range(n) if j == i or match[i, j]] for i in range(n)]
        self.evidence = RoleEvidence(n)

    @torch.no_grad()
    def add(self, samples: Samples) -> None:
        """Take a batch into the evidence: the gradients' differences of every learner and source on it."""
        n, (part, n_parts) = len(self.sources), parts_of(samples.episode)
        advantage = samples.advantage[samples.valid]
        # on its own scale, or iterations of large advantages would outweigh the others
        scale = float(advantage.std(unbiased=False)) if len(advantage) else 0.0
        if n_parts < 2 or not 0.0 < scale < float("inf"):
            return
        cuts = {tuple(sources): chunks(sources, samples.n_steps, self.max_rows) for sources in self.sources}
        # what fits into one network call is gathered once for all learners
        whole = {key: Decisions.of(samples, cut[0], scale) for key, cut in cuts.items() if len(cut) == 1}
        found: list[tuple[Tensor, Tensor] | None] = [None] * n

        def learner(i: int) -> None:
            key = tuple(self.sources[i])
            pieces = [whole[key]] if key in whole else (Decisions.of(samples, some, scale) for some in cuts[key])
            found[i] = self._differences(i, pieces, part, n_parts)

        for_all_agents(n, learner)
        differences, noise = zip(*(x for x in found if x is not None), strict=True)
        self.evidence.add(torch.stack(differences), torch.stack(noise))

    def _differences(self, i: int, pieces: Iterable[Decisions], part: Tensor, n_parts: int) -> tuple[Tensor, Tensor]:
        """Learner i's delta [N, K] and V [N]: 0 for sources that it is not compared with."""
        n, read = len(self.sources), [(*self.gradient(i, piece), part[piece.step], piece.agent) for piece in pieces]
        features, scores, where, agent = (torch.cat(x) if len(x) > 1 else x[0] for x in zip(*read, strict=True))
        features = features @ whitening(features)
        each = torch.bincount(agent, minlength=n).tolist()
        by_source = zip(features.split(each), scores.split(each), where.split(each), strict=True)
        shares = [sums_by_part(*x, n_parts) if len(x[0]) else None for x in by_source]
        own = shares[i]
        delta, noise = features.new_zeros(n, features.shape[1] * scores.shape[1]), features.new_zeros(n)
        for j, other in enumerate(shares):
            # an agent without a decision in the batch says nothing, of others or to others
            if j != i and own is not None and other is not None:
                delta[j], noise[j] = difference(own, other)
        return delta, noise

    def gradient(self, i: int, taken: Decisions) -> tuple[Tensor, Tensor]:
        """The gradient of mean r A log pi of learner i's last layer, as factors of its parts: what the layer reads at
        each decision [L, F] (1 added), and the scores times r A, as shares of the source's mean [L, P]."""
        params = self.mac.network.params[self.mac.index[i]]
        outputs, features = self.mac.network.with_features(params, taken.inputs, taken.packing)
        if taken.chosen is not None:
            outputs, features = outputs[taken.chosen], features[taken.chosen]
        policy, features = self.mac.distribution(outputs, taken.avail), narrowed(features)
        ratio = (policy.log_prob(taken.actions) - taken.log_prob).exp()
        scores = policy.score(taken.actions) * (ratio * taken.weight).unsqueeze(1)
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1), scores
