"""Synthetic batches, and learners with the values of the shipped YAMLs, for the tests of the learners."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oamarl import controllers, learners, modules
from oamarl.components.batch import Batch
from oamarl.components.generators import generator
from oamarl.components.updates.samples import Samples
from oamarl.envs.base import EnvInfo
from oamarl.modules import critics
from oamarl.modules.options import network_config
from oamarl.utils.schema import yamls
from oamarl.utils.schema.keys import read
from oamarl.utils.schema.registry import resolve

CONFIG = Path(yamls.__file__).resolve().parents[2] / "config"

#: one name per shipped learner and critic
ALGORITHMS = ("ippo", "mappo", "happo", "hatrpo", "oappo", "oatrpo", "ia2c", "seac", "snac")


@contextmanager
def double() -> Iterator[None]:
    """Everything built inside is float64, so that two ways to one number agree to the last digits that matter."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def make_info(n_agents: int = 3, *, n_actions: int = 4, limit: int = 6, ragged: bool = False) -> EnvInfo:
    """Sizes of a small environment; ``ragged``: the last agent's own spaces are smaller than the padded ones."""
    obs_sizes, action_sizes = [5] * n_agents, [n_actions] * n_agents
    if ragged:
        obs_sizes[-1], action_sizes[-1] = 3, n_actions - 1
    return EnvInfo(
        name="synthetic", n_agents=n_agents, obs_size=5, state_size=4, n_actions=n_actions, episode_limit=limit,
        obs_sizes=tuple(obs_sizes), action_sizes=tuple(action_sizes),
    )  # fmt: skip


def _yaml(algorithm: str) -> dict[str, Any]:
    """The values of a shipped YAML and of those that it is based on."""
    own = yamls.load(CONFIG / "algs" / f"{algorithm}.yaml", algorithm)
    base = own.pop("base", None)
    return own if base is None else _yaml(base) | own


def values(algorithm: str, **overrides: Any) -> dict[str, Any]:
    """default.yaml < the algorithm's YAML < small networks with distinct policies < ``overrides``."""
    merged = yamls.load(CONFIG / "default.yaml", "default.yaml")
    merged |= _yaml(algorithm)
    unknown = set(overrides) - set(merged)
    assert not unknown, f"no such key: {unknown}"
    # heads of gain 1: at the shipped 0.01 all policies are uniform, and everything that tells them apart vanishes
    merged |= {"hidden_dim": 8, "head_gain": 1.0, "t_max": 1000, "epochs": 2}
    # eq. 9 where a test does not say otherwise: its rows can be worked out by hand
    merged |= {"reuse_scheme": "adaptive_kl", "reuse_sigma": 1.0}
    merged["runner"] = "parallel"  # batches of make_batch are whole episodes
    return merged | overrides


def make_learner(algorithm: str, info: EnvInfo, *, seed: int = 1, **overrides: Any) -> Any:
    """The learner of a shipped YAML as a run would build it; its controller is ``learner.mac``."""
    v = values(algorithm, **overrides)
    learner = resolve(learners.__name__, learners.REGISTRY, v["learner"], "learner")
    mac_class = resolve(controllers.__name__, controllers.REGISTRY, v["mac"], "mac")
    agent = resolve(modules.__name__, modules.REGISTRY, v["agent"], "agent")
    learner.check(v, info)
    critic = resolve(critics.__name__, critics.REGISTRY, v["critic"], "critic")
    net, critic_net = read(network_config(agent), v), read(network_config(critic), v)
    mac = mac_class(read(mac_class.Config, v), agent, net, info, generator(seed, "init policies"))
    mac.select_by(v)
    return learner(
        read(learner.Config, v), critic_net, mac, info,
        common_reward=v["common_reward"], device=torch.device("cpu"), seed=seed,
    )  # fmt: skip


def make_batch(
    mac: Any,
    *,
    seed: int = 0,
    lengths: Sequence[int] = (6, 4, 1, 5),
    dead: bool = True,
    never: int | None = None,
    common_reward: bool = True,
) -> Batch:
    """Whole episodes of random observations and rewards, played by ``mac``: its log-probabilities are the acting ones.

    Episodes end by termination, truncation and both in turn; padding is zeros, as runners leave it.

    Args:
        lengths: steps of each episode.
        dead: agent 0 leaves episode 0 after two steps, the last agent sits out a step of episode 1, and the
            middle one all of the last episode.
        never: an agent that is dead throughout.
    """
    info, g = mac.info, torch.Generator().manual_seed(seed)
    b, t, n = len(lengths), max(lengths), info.n_agents
    filled = torch.arange(t) < torch.tensor(lengths).unsqueeze(1)
    shown = torch.arange(t + 1) <= torch.tensor(lengths).unsqueeze(1)
    alive = filled.unsqueeze(-1).repeat(1, 1, n)
    agent_terminated = torch.zeros(b, t, n, dtype=torch.bool)
    if dead:
        alive[0, 2:, 0] = False
        agent_terminated[0, 1:, 0] = filled[0, 1:]
        alive[1:2, 1:2, -1] = False
        alive[-1, :, n // 2] = False
    if never is not None:
        alive[..., never] = False
    obs = torch.randn(b, t + 1, n, info.obs_size, generator=g)
    avail = torch.rand(b, t + 1, n, info.n_actions, generator=g) < 0.7
    avail[..., :2] = True
    for i, (obs_size, action_size) in enumerate(zip(info.obs_sizes, info.action_sizes, strict=True)):
        obs[..., i, obs_size:] = 0.0
        avail[..., i, action_size:] = False
    avail[:, :t][filled.unsqueeze(-1) & ~alive] = torch.arange(info.n_actions) == 0
    obs, avail = obs * shown[..., None, None], avail & shown[..., None, None]
    actions = torch.zeros(b, t, n, dtype=torch.int64)
    log_prob = torch.zeros(b, t, n)
    last, hidden = torch.full((b, n), -1), mac.initial_hidden(b)
    for step in range(t):
        uniform = torch.rand(b, n, mac.selector.width(info.n_actions), generator=g)
        last, log_prob[:, step], hidden = mac.act(obs[:, step], avail[:, step], last, hidden, uniform)
        actions[:, step] = last
    reward = torch.randn(b, t, 1 if common_reward else n, generator=g).expand(b, t, n)
    rows, ends = torch.arange(b), torch.tensor(lengths) - 1
    terminated, truncated = torch.zeros(b, t, dtype=torch.bool), torch.zeros(b, t, dtype=torch.bool)
    terminated[rows, ends], truncated[rows, ends] = rows % 3 != 1, rows % 3 != 0
    return Batch(
        obs=obs,
        state=torch.randn(b, t + 1, info.state_size, generator=g) * shown.unsqueeze(-1),
        avail=avail,
        actions=actions * filled.unsqueeze(-1),
        log_prob=log_prob * filled.unsqueeze(-1),
        reward=reward * filled.unsqueeze(-1),
        terminated=terminated, truncated=truncated, agent_terminated=agent_terminated, filled=filled, alive=alive,
        final_obs=obs[:0, 0], final_state=torch.zeros(0, info.state_size), final_avail=avail[:0, 0],
        final_index=torch.zeros(0, 2, dtype=torch.int64),
    )  # fmt: skip


def with_garbage(batch: Batch, mac: Any, seed: int = 0) -> Batch:
    """The same experience, with other content wherever nothing may be read.

    That is whatever lies after an episode's last observation, and the actions, probabilities and masks of dead
    agents (their observations too, where the policies keep no memory of them).
    """
    g = torch.Generator().manual_seed(1000 + seed)
    t = batch.actions.shape[1]
    lengths = batch.filled.sum(1, keepdim=True)
    padding = ~batch.filled
    beyond = torch.arange(t + 1) > lengths
    idle = batch.filled.unsqueeze(-1) & ~batch.alive
    content = {name: x.clone() for name, x in batch.named().items()}

    def spoil(name: str, where: Tensor) -> None:
        x = content[name]
        if x.dtype == torch.bool:
            other = torch.rand(x.shape, generator=g) < 0.5
        elif x.dtype == torch.int64:
            other = torch.randint(mac.info.n_actions, x.shape, generator=g)
        else:
            other = 100.0 * torch.randn(x.shape, generator=g)
        content[name] = torch.where(where.view(*where.shape, *[1] * (x.dim() - where.dim())), other, x)

    for name in ("obs", "state", "avail"):
        spoil(name, beyond)
    for name in ("actions", "log_prob", "reward", "terminated", "truncated", "agent_terminated", "alive"):
        spoil(name, padding)
    for name in ("actions", "log_prob"):
        spoil(name, idle)
    later = torch.cat([idle, torch.zeros_like(idle[:, :1])], dim=1)
    spoil("avail", later)
    if not mac.recurrent:
        spoil("obs", later)
    return Batch(**content)


def permuted(batch: Batch, perm: Sequence[int]) -> Batch:
    """The batch with its agents renamed: agent k is what agent perm[k] was."""
    index = list(perm)
    per_agent = {"obs": 2, "avail": 2, "actions": 2, "log_prob": 2, "reward": 2, "agent_terminated": 2, "alive": 2,
                 "final_obs": 1, "final_avail": 1}  # fmt: skip
    moved = {name: getattr(batch, name).index_select(dim, torch.tensor(index)) for name, dim in per_agent.items()}
    return replace(batch, **moved)


def samples_of(learner: Any, batch: Batch) -> Samples:
    """The learner's samples of a batch, leaving its normalisers as they are."""
    saved = {
        name: dict(stats.state_dict())
        for name in ("return_stats", "reward_stats")
        if (stats := getattr(learner.value, name)) is not None
    }
    samples, _ = learner.samples(batch)
    for name, state in saved.items():
        getattr(learner.value, name).load_state_dict(state)
    return samples


def policy_on(mac: Any, params: Tensor, samples: Samples, j: int) -> Any:
    """The policy ``params`` [P] on agent j's experience: a distribution over [S]; uniform where nothing is computed."""
    rows = samples.rows(samples.entries, torch.full_like(samples.entries, j))
    policy = mac.policy(
        params, samples.inputs[rows.at], samples.avail[rows.at], rows.packing, rows.hidden, twice=True
    )  # fmt: skip
    found = torch.zeros_like(samples.avail[:, j], dtype=params.dtype).index_put((rows.step,), policy.params)
    return mac.distribution_from(found, samples.avail[:, j])


def set_policies(mac: Any, agent_params: Tensor) -> None:
    """Give the controller these parameters [K, P] (leaves keep pointing at them)."""
    mac.load_state_dict({"theta": agent_params})


def constant_policy(mac: Any, agent: int, logits: Sequence[float]) -> None:
    """Make an agent's policy the same everywhere, with these logits."""
    with torch.no_grad():
        layers = mac.network.layers(mac.network.params.data[mac.index[agent]])
        layers["head.w"].zero_()
        layers["head.b"].copy_(torch.tensor(logits))


def critic_reads_first_input(learner: Any) -> None:
    """Make the critic (activation=relu) return its first input, where that is not negative."""
    for network in (learner.value.network, learner.value.target):
        with torch.no_grad():
            network.params.zero_()
            for k in range(network.n_networks):
                layers = network.layers(network.params.data[k])
                for name in ("fc1.w", "fc2.w", "head.w"):
                    layers[name][0, 0] = 1.0


def fix_order(learner: Any, order: Sequence[int]) -> None:
    """Let the agents be updated in this order."""
    learner.order = lambda: list(order)


def parameters(learner: Any) -> dict[str, Tensor]:
    """Copies of all that is learned: policies, critic, its target network."""
    return {
        "policies": learner.mac.network.params.detach().clone(),
        "critic": learner.value.network.params.detach().clone(),
        "target": learner.value.target.params.detach().clone(),
    }


def assert_same(found: Any, expected: Any, tol: float = 1e-6) -> None:
    """Both learners learned the same, to ``tol`` (0: bit for bit)."""
    a, b = parameters(found), parameters(expected)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tol, msg=lambda m, name=name: f"{name}: {m}")


def assert_same_scalars(found: Mapping[str, float], expected: Mapping[str, float], tol: float = 1e-6) -> None:
    """The keys of ``expected`` that ``found`` has too hold the same numbers."""
    common = [k for k in expected if k in found]
    assert len(common) > 5
    for k in common:
        assert abs(found[k] - expected[k]) <= tol * max(1.0, abs(expected[k])), (k, found[k], expected[k])


def through_a_file(state: Any) -> Any:
    """What a checkpoint gives back: a copy that shares nothing."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def one_step(net: Any, x: Tensor, hidden: Tensor, params: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One time step of networks ``params`` [K, P] (all of ``net``) on their own rows x [K, L, I], as controllers do."""
    return net.step(net.layers(net.params if params is None else params), x, hidden)
