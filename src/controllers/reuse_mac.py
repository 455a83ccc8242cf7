"""The reuse-mapping controller: measures how far the agents' policies are apart on the runner's batch, and
maps learners to sources (off-agent paper, section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components.reuse import adaptive_row, check_groups, check_matrix, draw_permutation, fixed_mapping, is_permutation
from ..components.roles import parts_of
from ..components.updates.samples import Samples
from ..envs.base import EnvInfo
from ..modules.agents.rnn import Network, NetworkConfig
from ..utils.errors import UserError
from ..utils.schema.keys import key, read
from .basic_mac import BasicMAC, MACConfig
from .reuse_adaptive import ADAPTIVE, Bound, RoleMeasure, adaptive_bound, adaptive_roles, episode_variance
from .reuse_distances import (
    Distances,
    Measured,
    OnSources,
    chunks,
    for_all_agents,
    kl,
    kl_bias_chi_square,
    measure,
    on_sources,
)


@dataclass(frozen=True)
class ReuseConfig(MACConfig):
    """Configuration of the reuse mapping, beside the controller's own keys."""

    reuse_scheme: str = key(
        "Who may learn from whom: adaptive_roles (shares by bias and variance, the agents' roles compared), "
        "adaptive_bound (the policies compared), adaptive_kl (eq. 9), none (HAPPO/HATRPO), all, groups or matrix.",
        choices=(*ADAPTIVE, "none", "all", "groups", "matrix"),
    )
    reuse_mode: str = key(
        "How the mapping is used: weights of the sources' objectives, frequency of drawn samples, or sample "
        "(one permutation per iteration).",
        choices=("weights", "frequency", "sample"),
    )
    reuse_factor: str | None = key(
        "The sequential factor: own (product over slots already updated, the source's own left out) or bound "
        "(Proposition 1; reuse_mode=sample only); null is bound in sample and own otherwise.",
        choices=("own", "bound"),
    )
    reuse_sigma: float = key(
        "sigma: largest policy distance (KL, nats) at which experience is reused.", low=0,
        only={"reuse_scheme": ("adaptive_kl",)},
    )  # fmt: skip
    reuse_lambda: float | str = key(
        "lambda: share of own experience; `uniform` (schemes all and groups) gives every member the same share.",
        choices=("uniform",), low=0, high=1, only={"reuse_scheme": ("adaptive_kl", "all", "groups")},
    )  # fmt: skip
    reuse_kl_reduction: str = key(
        "How the distance is reduced over steps: mean, max (Condition 1 as the paper has it) or p95.",
        choices=("mean", "max", "p95"),
    )
    reuse_kl_samples: int = key(
        "Steps on which the distance is estimated (whole sequences when recurrent); a sampled max grows with it.", low=1
    )
    reuse_groups: list[list[int]] | None = key("Groups of agents that share experience (reuse_scheme=groups).", low=0)
    reuse_matrix: list[list[float]] | None = key("Rows of shares, learner by source (reuse_scheme=matrix).")
    reuse_max_rows: int = key(
        "Most rows (steps of a source) in one network call, of which there may be two at a time: bounds memory with "
        "many agents.",
        low=1,
    )


@dataclass(frozen=True)
class ReuseMapping:
    """One iteration's mapping: D, b, c and M [N, N] (learner rows, source columns; :class:`Distances` says what D, b
    and c are), what they were measured on, in mode `sample` the permutation and its largest |M' - M|, and what a rule
    that sets itself made the rows of."""

    distances: np.ndarray
    bias: np.ndarray
    chi_square: np.ndarray
    matrix: np.ndarray
    measured: Measured
    permutation: np.ndarray | None = None
    deviation: float = 0.0
    bound: Bound | None = None

    def sources(self, learner: int) -> list[int]:
        """Return the sources that a learner uses in this iteration."""
        if self.permutation is not None:
            return [int(self.permutation[learner])]
        return np.flatnonzero(self.matrix[learner] > 0).tolist()


class ReuseMAC(BasicMAC):
    """Separate policies without agent id, and the mapping between them.

    Raises:
        UserError: shared networks, agent ids, or a scheme that does not fit the agents.
    """

    Config = ReuseConfig
    config: ReuseConfig

    def __init__(
        self, config: ReuseConfig, agent: type[Network], net: NetworkConfig, info: EnvInfo, generator: torch.Generator
    ) -> None:
        self.check_reuse(config, info)
        super().__init__(config, agent, net, info, generator)
        self.match = info.agents_match()
        self.factor = config.reuse_factor or ("bound" if config.reuse_mode == "sample" else "own")
        fixed = config.reuse_scheme not in ADAPTIVE
        roles = config.reuse_scheme == "adaptive_roles" and info.n_agents > 1
        self.roles = RoleMeasure(self, self.match, config.reuse_max_rows) if roles else None
        self.fixed = (
            fixed_mapping(
                config.reuse_scheme, self.match, config.reuse_lambda, config.reuse_groups, config.reuse_matrix
            )
            if fixed
            else None
        )

    @classmethod
    def check(cls, values: Mapping[str, Any], info: EnvInfo) -> None:
        """Refuse contradictions between the reuse keys and the agents before anything starts."""
        super().check(values, info)
        cls.check_reuse(read(cls.Config, values), info)

    @staticmethod
    def check_reuse(config: ReuseConfig, info: EnvInfo) -> None:
        """The same, on the keys as read.

        Raises:
            UserError: naming the key.
        """
        n = info.n_agents
        if config.reuse_factor == "bound" and config.reuse_mode != "sample":
            raise UserError(
                f"reuse_factor=bound belongs to reuse_mode=sample: "
                f"with reuse_mode={config.reuse_mode} use reuse_factor=own."
            )
        if config.reuse_lambda == "uniform" and config.reuse_scheme not in ("all", "groups"):
            raise UserError(
                f"reuse_lambda=uniform is for reuse_scheme all or groups; "
                f"with {config.reuse_scheme} give a number in [0, 1]."
            )
        for name, given in (("groups", config.reuse_groups), ("matrix", config.reuse_matrix)):
            if given is not None and config.reuse_scheme != name:
                raise UserError(
                    f"reuse_{name} is set, but reuse_scheme={config.reuse_scheme}: use reuse_scheme={name}."
                )
        if config.reuse_scheme == "groups":
            check_groups(config.reuse_groups, n)
        if config.reuse_scheme in ("all", "groups", "matrix"):
            m = fixed_mapping(
                config.reuse_scheme, info.agents_match(), config.reuse_lambda, config.reuse_groups, config.reuse_matrix
            )
        if config.reuse_mode != "sample":
            return
        if config.reuse_scheme == "matrix":
            m = check_matrix(config.reuse_matrix, n)
            if not (np.diag(m) > 0).all() and not is_permutation(m):
                raise UserError(
                    "reuse_mode=sample needs a reuse_matrix with a positive diagonal, "
                    "or one that is itself a permutation."
                )
        elif config.reuse_lambda == 0 and config.reuse_scheme in ("adaptive_kl", "all", "groups"):
            raise UserError(
                "reuse_mode=sample needs reuse_lambda above 0: every agent must be able to use its own experience."
            )

    # -- distances -----------------------------------------------------------------------------------------

    def kl_entries(self, samples: Samples, episode_limit: int, generator: torch.Generator) -> Tensor:
        """Draw the entries that distances are measured on: one set for every pair; all for the variance of episodes."""
        if self.config.reuse_scheme == "adaptive_bound":
            return samples.entries
        wanted = self.config.reuse_kl_samples
        if self.recurrent:
            wanted = math.ceil(wanted / episode_limit)
        n = samples.n_entries
        if wanted >= n:
            return samples.entries
        return torch.randperm(n, generator=generator)[:wanted].sort().values.to(samples.choice)

    def measured(self, samples: Samples, entries: Tensor) -> Measured:
        """Take the policies as they are for those that acted, on ``entries`` [m] of ``samples``."""
        return measure(self, samples, entries)

    def on_sources(self, params: Tensor, measured: Measured, sources: list[int]) -> Iterator[OnSources]:
        """The policy ``params`` [P] on the measured steps of ``sources``, in pieces of at most `reuse_max_rows`."""
        return on_sources(self, params, measured, sources, self.config.reuse_max_rows)

    def distances(self, measured: Measured) -> Distances:
        """D, b and c of every learner and source, from one evaluation of each learner on its sources' steps."""
        n = self.info.n_agents
        found = torch.full((3, n, n), math.inf, dtype=torch.float64, device=self.device)

        def row(i: int) -> None:
            others = [j for j in range(n) if j != i and self.match[i, j]]
            pairs = self.on_sources(self.network.params[self.index[i]], measured, others)
            for pair in pairs:
                found[:, i, pair.sources] = kl_bias_chi_square(pair, self.config.reuse_kl_reduction)

        for_all_agents(n, row)
        for figure in found:
            figure.fill_diagonal_(0.0)
        return Distances(*found.cpu().numpy())

    def chunks(self, sources: list[int], rows_each: int) -> list[list[int]]:
        """Cut ``sources`` so that one network call has at most `reuse_max_rows` rows (at least one source)."""
        return chunks(sources, rows_each, self.config.reuse_max_rows)

    def condition(self, params: Tensor, measured: Measured, sources: list[int]) -> Tensor:
        """[J] float64 distances D of ``params`` [P] to the ACTING policies of ``sources`` (Condition 1)."""
        reduction = self.config.reuse_kl_reduction
        return torch.cat([kl(pair, reduction) for pair in self.on_sources(params, measured, sources)])

    # -- the mapping -----------------------------------------------------------------------------------------

    def row(self, distances: np.ndarray, learner: int, barred: list[int] | None = None) -> np.ndarray:
        """Row ``learner`` of the adaptive mapping, with some sources barred."""
        assert not isinstance(self.config.reuse_lambda, str)
        return adaptive_row(
            distances[learner], learner, self.config.reuse_sigma, self.config.reuse_lambda, barred or ()
        )

    def violators(self, mapping: ReuseMapping, learner: int, candidate: Tensor) -> list[int]:
        """Return the other sources of a learner that its ``candidate`` parameters [P] would be farther than sigma from
        (Condition 1)."""
        others = [j for j in mapping.sources(learner) if j != learner]
        if not others:
            return []
        found = self.condition(candidate, mapping.measured, others)
        # `not <=` so that NaN is a violation
        return [j for j, d in zip(others, found.tolist(), strict=True) if not d <= self.config.reuse_sigma]

    def without(self, mapping: ReuseMapping, learner: int, barred: list[int]) -> ReuseMapping:
        """Return the mapping with a learner's row rebuilt over its sources but those ``barred``."""
        matrix, bound = mapping.matrix.copy(), mapping.bound
        matrix[learner] = self.row(mapping.distances, learner, barred) if bound is None else bound.row(learner, barred)
        return replace(mapping, matrix=matrix)

    def bound(self, samples: Samples, measured: Measured, distances: Distances) -> Bound | None:
        """Bias and variance of all pairs under a scheme that sets itself; the roles' evidence takes the batch in."""
        if self.roles is not None:
            self.roles.add(samples)
            return adaptive_roles(samples, distances, self.roles.evidence)
        if self.config.reuse_scheme == "adaptive_bound":
            return adaptive_bound(measured, distances, self.episode_variances(measured))
        return None

    def episode_variances(self, measured: Measured) -> np.ndarray:
        """[N, N] variance of each learner's surrogate on each source's episodes; infinite between different spaces."""
        n, (part, n_parts) = self.info.n_agents, parts_of(measured.samples.episode)
        found = torch.full((n, n), math.inf, dtype=torch.float64, device=self.device)

        def row(i: int) -> None:
            sources = [j for j in range(n) if j == i or self.match[i, j]]
            for pair in self.on_sources(self.network.params[self.index[i]], measured, sources):
                found[i, pair.sources] = episode_variance(pair, part, n_parts)

        for_all_agents(n, row)
        return found.cpu().numpy()

    def _alone(self, samples: Samples) -> ReuseMapping:
        """The mapping of agents that learn from themselves, where nothing can be measured."""
        n = self.info.n_agents
        far, own = np.where(np.eye(n, dtype=bool), 0.0, np.inf), np.eye(n)
        nothing = Measured(samples, samples.log_prob.new_zeros(0, n, 0))
        permutation = np.arange(n) if self.config.reuse_mode == "sample" else None
        return ReuseMapping(far, far, far, own, nothing, permutation, 0.0)

    def reuse_state(self) -> dict[str, Any]:
        """What the mapping remembers of earlier iterations."""
        return {} if self.roles is None else {"roles": self.roles.evidence.state_dict()}

    def load_reuse_state(self, state: Mapping[str, Any]) -> None:
        """Take that back; without it (an earlier run under another scheme) nothing is known yet."""
        if self.roles is not None and "roles" in state:
            self.roles.evidence.load_state_dict(state["roles"], self.device)

    def mapping(
        self, samples: Samples, episode_limit: int, kl_generator: torch.Generator, map_generator: torch.Generator
    ) -> ReuseMapping:
        """Measure D, b and c on the batch and build M, once per iteration, from the policies that acted.

        What is measured is what agents can learn from each other; where that is nothing, each learns from itself.
        """
        samples = samples.shared()
        if not samples.n_entries:
            return self._alone(samples)
        entries = self.kl_entries(samples, episode_limit, kl_generator)
        measured = self.measured(samples, entries)
        d = self.distances(measured)
        bound = self.bound(samples, measured, d)
        if self.fixed is not None:
            m = self.fixed
        elif bound is not None:
            m = np.stack([bound.row(i) for i in range(self.info.n_agents)])
        else:
            m = np.stack([self.row(d.kl, i) for i in range(self.info.n_agents)])
        mapping = ReuseMapping(d.kl, d.bias, d.chi_square, m, measured, bound=bound)
        if self.config.reuse_mode != "sample":
            return mapping
        uniform = float(torch.rand((), generator=map_generator, dtype=torch.float64))
        e, deviation = draw_permutation(m, uniform)
        return replace(mapping, permutation=e, deviation=deviation)
