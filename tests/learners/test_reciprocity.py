"""Policy reciprocity: who takes part, the mixture by hand, targets of each method by loops, and what it reduces to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oamarl.components.batch import Batch
from oamarl.components.experience import EnvInfo
from oamarl.components.normalisation import RunningMeanStd
from oamarl.learners.value.reciprocity import Reciprocity, ReciprocityConfig, without_partners
from oamarl.utils.errors import UserError

from learner_tools import double, make_batch, make_info, make_learner, through_a_file, with_garbage

CPU = torch.device("cpu")
OFF_POLICY: dict[str, Any] = {
    "batch_size": 4, "buffer_size": 20, "standardise_rewards": False, "updates_per_step": None,
}  # fmt: skip
SEPARATE = {"sharing": "separate", "critic_sharing": "separate", "obs_agent_id": False}
#: a method and what its agents' own values need
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mappo": ("mappo", SEPARATE),
    "mappo by ids": ("mappo", {}),
    "mappo of own observations": ("mappo", {**SEPARATE, "critic_agent_obs": True}),
    "ippo": ("ippo", {**SEPARATE, "obs_last_action": True}),
    "ippo with a memory": ("ippo", {**SEPARATE, "critic_use_rnn": True}),
    "happo": ("happo", {"critic_sharing": "separate"}),
    "oappo": ("oappo", {"critic_sharing": "separate"}),
    "oatrpo": ("oatrpo", {"critic_sharing": "separate"}),
    "iql": ("iql", OFF_POLICY),
    "iql of own rewards": ("iql", {**OFF_POLICY, **SEPARATE, "common_reward": False, "standardise_returns": True}),
    "qmix": ("qmix", {**OFF_POLICY, **SEPARATE}),
    "vdn with a memory": ("vdn", {**OFF_POLICY, "use_rnn": True, "obs_last_action": True}),
    "maddpg": ("maddpg", {**OFF_POLICY, **SEPARATE, "warmup_steps": 0, "replay_steps": None}),
    "matd3 of own observations": (
        "matd3", {**OFF_POLICY, **SEPARATE, "warmup_steps": 0, "replay_steps": None, "critic_type": "ac_critic"},
    ),
}  # fmt: skip


def config(beta: float = 0.5, eps: float | None = None, agents: int | None = None) -> ReciprocityConfig:
    return ReciprocityConfig(beta, eps, agents)


def learner_of(kind: str, info: EnvInfo | None = None, **more: Any) -> Any:
    method, needs = KINDS[kind]
    own = {**needs, **more}
    if method in ("happo", "oappo", "oatrpo"):
        own = {key: value for key, value in own.items() if key not in ("sharing", "obs_agent_id")}
    return make_learner(method, info or make_info(), **own)


def trained(kind: str, batches: int = 2, info: EnvInfo | None = None, **more: Any) -> Any:
    learner = learner_of(kind, info, **more)
    for k in range(batches):
        learner.train(make_batch(learner.mac, seed=k, common_reward=more.get("common_reward", True)), 10 * k)
    assert learner.updates == batches
    return learner


def numbers(learner: Any) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in learner.parameters()}


# -- who takes part -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [None, 0.0, 0.7])
@pytest.mark.parametrize("agents", [None, 1, 2, 9])
@pytest.mark.parametrize("ragged", [False, True])
def test_partners_by_brute_force(eps: float | None, agents: int | None, ragged: bool) -> None:
    info = make_info(4, ragged=ragged)
    if ragged:  # smaller observations of equal actions may be adjacent
        info = replace(info, obs_sizes=(5, 5, 2, 3), action_sizes=(4, 4, 4, 3))
    g = torch.Generator().manual_seed(3)
    obs = torch.rand(6, 7, 4, 5, generator=g)
    for i, size in enumerate(info.obs_sizes):
        obs[..., i, size:] = 0.0
    found = Reciprocity(config(eps=eps, agents=agents), info, CPU).partners(obs).expand(6, 7, 4, 4)
    for b in range(6):
        for t in range(7):
            for i in range(4):
                for j in range(4):
                    both = min(info.obs_sizes[i], info.obs_sizes[j])
                    near = 0 < (j - i) % 4 <= (agents or 4) and info.action_sizes[i] == info.action_sizes[j]
                    if eps is None:
                        near &= info.obs_sizes[i] == info.obs_sizes[j]
                    else:
                        near &= float((obs[b, t, i, :both] - obs[b, t, j, :both]).abs().max()) <= eps
                    assert bool(found[b, t, i, j]) == near, (b, t, i, j)


def test_the_mixture_by_hand() -> None:
    """Three agents at 0, 0.1 and 1: the first two are adjacent, the third is alone."""
    info = make_info(3)
    obs = torch.tensor([0.0, 0.1, 1.0]).view(1, 3, 1).expand(1, 3, 5)
    across = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    own = across.diagonal(dim1=1, dim2=2)
    found = Reciprocity(config(0.25, eps=0.2), info, CPU).mixed(own, across, obs)
    assert found.tolist() == [[0.75 * 1 + 0.25 * 2, 0.75 * 5 + 0.25 * 4, 9.0]]
    found = Reciprocity(config(0.25), info, CPU).mixed(own, across, obs)
    assert found.tolist() == [[0.75 * 1 + 0.25 * 2.5, 0.75 * 5 + 0.25 * 5, 0.75 * 9 + 0.25 * 7.5]]


# -- targets of each method -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [None, 1.0])
@pytest.mark.parametrize("kind", ["mappo", "mappo by ids", "mappo of own observations", "ippo", "oappo"])
def test_targets_of_critics_of_states_by_loops(kind: str, eps: float | None) -> None:
    """y_i = r + gamma V~_i of one-step targets, each critic asked by itself about each agent's input."""
    info = replace(make_info(), obs_sizes=(5, 3, 5)) if eps is not None and kind != "oappo" else make_info()
    learner = learner_of(
        kind, info, pr_beta=0.3, pr_eps=eps, gae_lambda=None, q_nstep=1, gamma=0.9, standardise_returns=False
    )
    batch = make_batch(learner.mac, dead=False)
    value, c = learner.value, learner.value.config
    found = value.targets(batch).returns
    n = info.n_agents
    for b in range(len(batch.filled)):
        for t in range(int(batch.filled[b].sum())):
            values = torch.zeros(n, n, dtype=torch.float32)
            for i in range(n):
                for j in range(n):
                    obs = batch.obs[b, t + 1].clone()
                    both = min(info.obs_sizes[i], info.obs_sizes[j])
                    obs[j] = torch.where(torch.arange(5) < both, batch.obs[b, t + 1, i], 0.0)
                    last = batch.last_actions[b, t + 1].clone()
                    last[j] = batch.last_actions[b, t + 1, i]
                    shared = value.inputs(obs, batch.state[b, t + 1], last)
                    values[i, j] = value._values(value.target, shared[None])[0, j].detach()
            for i in range(n):
                partners = [
                    j for j in range(n) if j != i and (
                        info.obs_sizes[i] == info.obs_sizes[j] if eps is None else
                        (batch.obs[b, t + 1, i] - batch.obs[b, t + 1, j]).abs()[
                            : min(info.obs_sizes[i], info.obs_sizes[j])].max() <= eps
                    )
                ]  # fmt: skip
                mixed = values[i, i]
                if partners:
                    mixed = 0.7 * mixed + 0.3 * values[i, partners].mean()
                y = batch.reward[b, t, i] + (0.0 if batch.terminated[b, t] else c.gamma * mixed)
                assert float(found[b, t, i]) == pytest.approx(float(y), abs=1e-5), (b, t, i)


@pytest.mark.parametrize("double_q", [True, False])
def test_targets_of_action_values_by_loops(double_q: bool) -> None:
    """The agent chooses the action; its value is what the agents' target networks give it on the same observation."""
    info = make_info()
    learner = learner_of("iql", info, pr_beta=0.3, double_q=double_q, td_lambda=None, gamma=0.9)
    learner.target_params[0].copy_(learner.target_params[0] + 0.3 * torch.randn(learner.target_params[0].shape))
    mac, batch = learner.mac, make_batch(learner.mac, dead=False)
    q = mac.all_outputs(batch)
    found = learner.targets(batch, q)
    for b in range(len(batch.filled)):
        for t in range(int(batch.filled[b].sum())):
            for i in range(3):
                each = []
                for j in range(3):
                    as_j = mac.with_extras(batch.obs[b, t + 1, i].expand(1, 3, -1), None)
                    each.append(mac.evaluate(as_j, learner.target_params[0])[0, j])
                chosen = (q[b, t + 1, i] if double_q else each[i]).masked_fill(~batch.avail[b, t + 1, i], -torch.inf)
                a = int(chosen.argmax())
                mixed = 0.7 * each[i][a] + 0.15 * sum(each[j][a] for j in range(3) if j != i)
                y = batch.reward[b, t, i] + (0.0 if batch.terminated[b, t] else 0.9 * mixed)
                assert float(found[b, t, i]) == pytest.approx(float(y), abs=1e-5), (b, t, i)


@pytest.mark.parametrize("eps", [None, 1.2])
def test_targets_of_deterministic_policies_by_loops(eps: float | None) -> None:
    """Agent j's twin critics are asked about agent i's observation and i's next action, one pair after another."""
    with double():
        info = replace(make_info(4), obs_sizes=(5, 3, 5, 2)) if eps is not None else make_info(4)
        learner = learner_of("matd3 of own observations", info, pr_beta=0.4, pr_eps=eps, q_nstep=1, gamma=0.9)
        with torch.no_grad():
            for copy in (learner.target_critic, learner.target_policy):
                copy.add_(0.3 * torch.randn_like(copy))
        batch = make_batch(learner.mac, dead=False)
        steps = learner.steps(batch)
        found, then = learner.targets(batch, steps, None), steps.then
        outputs = learner.outputs(batch, then, learner.target_policy)
        actions = learner.target_actions(outputs, then.avail, None)
        mixed = 0
        for s in range(len(steps.row)):
            for i in range(4):
                each = []
                for j in range(4):
                    obs, action = then.obs[s].clone(), actions[s].clone()
                    both = min(info.obs_sizes[i], info.obs_sizes[j])
                    obs[j] = torch.where(torch.arange(5) < both, then.obs[s, i], 0.0)
                    action[j] = actions[s, i]
                    seen = learner.critics.seen(obs[None], then.state[s][None])
                    twins = [learner.critics(learner.target_critic, seen, action[None], k)[0, j] for k in range(2)]
                    each.append(torch.minimum(*twins))
                near = learner.reciprocity.partners(then.obs[s])[i].nonzero().flatten().tolist()
                value = 0.6 * each[i] + 0.4 * sum(each[j] for j in near) / len(near) if near else each[i]
                want = steps.rewards[s, 0] + steps.discount[s, 0] * value
                torch.testing.assert_close(found[s, i], want, rtol=0, atol=1e-9)
                mixed += bool(near)
        assert mixed > len(steps.row) / 4


def test_targets_of_action_values_with_a_memory_by_loops() -> None:
    """Another agent's network reads the whole episode that the agent has seen, with the agent's last actions."""
    with double():
        info, n = make_info(), 3
        learner = learner_of("vdn with a memory", info, pr_beta=0.3, td_lambda=None, gamma=0.9, obs_last_action=True)
        learner.target_params[0].copy_(learner.target_params[0] + 0.3 * torch.randn_like(learner.target_params[0]))
        mac, batch = learner.mac, make_batch(learner.mac, dead=False)
        q, target = mac.all_outputs(batch), mac.all_outputs(batch, learner.target_params[0])
        found, value = learner.targets(batch, q), 0.7 * target
        for i in range(n):
            for j in (j for j in range(n) if j != i):
                obs, actions = batch.obs.clone(), batch.actions.clone()
                obs[:, :, j], actions[:, :, j] = batch.obs[:, :, i], batch.actions[:, :, i]
                seen = mac.all_outputs(replace(batch, obs=obs, actions=actions), learner.target_params[0])
                value[:, :, i] += 0.15 * seen[:, :, j]
        best = q.masked_fill(~batch.avail, -torch.inf).argmax(-1, keepdim=True)
        team = value.gather(-1, best)[:, 1:].sum(2)
        want = batch.reward[..., :1] + 0.9 * (~batch.terminated).unsqueeze(-1) * team
        torch.testing.assert_close(found[batch.filled], want[batch.filled], rtol=0, atol=1e-9)


def test_values_on_scales_of_their_own_are_mixed_as_returns() -> None:
    """Two agents whose values are 1 on scales of mean 0 and 100: each mixes returns, not scaled numbers."""
    info = make_info(2)
    learner = learner_of("iql of own rewards", info, pr_beta=0.5)
    learner.return_stats = stats = RunningMeanStd((2,), CPU)
    stats.update(torch.tensor([[-1.0, 99.0], [1.0, 101.0]]))
    batch = make_batch(learner.mac, dead=False, common_reward=False)
    slow = torch.ones_like(learner.mac.all_outputs(batch))
    learner._target_outputs = lambda seen: (slow, slow)
    scale = stats.denormalise(torch.ones(2))
    mixed = stats.denormalise(learner._mixed(learner.reciprocity, batch, slow).transpose(-1, -2))
    torch.testing.assert_close(mixed[0, 0, 0], scale.mean().expand(2))


# -- reductions -------------------------------------------------------------------------------------------------------


def same(found: Any, expected: Any, tol: float = 0.0) -> None:
    a, b = numbers(found), numbers(expected)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", KINDS)
def test_with_nobody_adjacent_it_is_the_base_method(kind: str) -> None:
    """Observations drawn at random are never equal. And with partners it is another method."""
    more = {"common_reward": False} if kind == "iql of own rewards" else {}
    base, alone, mixed = (
        trained(kind, **more, **pr) for pr in ({}, {"pr_beta": 0.5, "pr_eps": 1e-9}, {"pr_beta": 0.5})
    )
    same(alone, base, 1e-7)  # some processors round a product by where its rows lie in memory
    critic = "critic" if "critic" in numbers(base) else "policies"
    assert not torch.equal(numbers(mixed)[critic], numbers(base)[critic])


@pytest.mark.parametrize("kind", ["mappo", "iql", "qmix", "maddpg"])
def test_one_agent_is_the_base_method(kind: str) -> None:
    info = make_info(1)
    same(trained(kind, info=info, pr_beta=0.9), trained(kind, info=info))


def test_who_has_no_partner_is_told() -> None:
    ragged, one = make_info(2, ragged=True), make_info(1)
    mixed = {"pr_beta": 0.5, "pr_eps": None}
    assert without_partners({"pr_beta": 0.0}, one) == without_partners({}, one) == []
    assert "has one agent" in without_partners(mixed, one)[0]
    assert "no two agents have observations and actions of equal sizes" in without_partners(mixed, ragged)[0]
    assert without_partners(mixed, make_info(2)) == []
    alike = replace(ragged, action_sizes=(4, 4))
    assert without_partners({"pr_beta": 0.5, "pr_eps": 0.1}, alike) == []
    assert without_partners(mixed, alike) != []


@pytest.mark.parametrize("kind", [k for k in KINDS if "ids" not in k and k not in ("iql", "vdn with a memory")])
def test_equal_values_are_mixed_to_themselves(kind: str) -> None:
    """Critics that are copies of one another, on one observation for all: they all have one value."""
    more = {"common_reward": False} if kind == "iql of own rewards" else {}

    def made(beta: float) -> Any:
        learner = learner_of(kind, pr_beta=beta, **more)
        state = learner.mac.network.params.data
        state.copy_(state[:1].expand_as(state))
        for params in [x for name, x in learner.parameters() if name == "critic"]:
            params.data.copy_(params.data[:1].expand_as(params))
        if hasattr(learner, "_copies"):
            for params, copied in learner._copies:
                copied.copy_(params.detach())
        else:
            learner.value.target.params.data.copy_(learner.value.network.params.data)
        batch = make_batch(learner.mac, dead=False)
        learner.train(replace(batch, obs=batch.obs[:, :, :1].expand_as(batch.obs).clone()), 0)
        return learner

    same(made(0.5), made(0.0), 1e-5)


# -- everything else ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ippo", "ippo with a memory", "qmix", "maddpg"])
def test_padding_changes_nothing(kind: str) -> None:
    learners = [learner_of(kind, pr_beta=0.5, pr_eps=2.0) for _ in range(2)]
    batch = make_batch(learners[0].mac, dead=False)
    for learner, seen in zip(learners, (batch, with_garbage(batch, learners[0].mac)), strict=True):
        learner.train(seen, 0)
    same(*learners, tol=1e-6)


def segments(mac: Any, seed: int) -> Batch:
    """Rows cut out of longer episodes: one that ends inside, one that does not end."""
    batch = make_batch(mac, seed=seed, lengths=(6, 6), dead=False)
    ended = torch.zeros(2, 6, dtype=torch.bool)
    ended[0, 2] = True
    g = torch.Generator().manual_seed(seed + 50)
    none = torch.zeros_like(ended)
    begins = torch.zeros(2, 7, dtype=torch.bool)
    begins[0, 3] = True
    more = {"begins": begins} if "begins" in batch.named() else {}
    return replace(
        batch, terminated=none, truncated=ended, final_obs=torch.randn(1, 3, 5, generator=g),
        final_state=torch.randn(1, 4, generator=g), final_avail=torch.ones(1, 3, 4, dtype=torch.bool),
        final_index=torch.tensor([[0, 2]]), before=torch.zeros(2, 3, dtype=torch.int64), **more,
    )  # fmt: skip


def test_memories_of_all_critics_go_on_between_segments() -> None:
    """The second segment's targets follow from the memory after the first, also in a resumed learner."""
    learner = learner_of("ippo with a memory", pr_beta=0.5)
    learner.value.targets(segments(learner.mac, 0))
    state = through_a_file(learner.state_dict())
    again = learner_of("ippo with a memory", pr_beta=0.5, seed=2)
    again.load_state_dict(state)
    batch = segments(learner.mac, 1)
    found, expected = again.value.targets(batch), learner.value.targets(batch)
    assert torch.equal(found.returns, expected.returns)
    assert {f"target of {i}" for i in range(3)} < set(learner.value._hidden)
    fresh = learner_of("ippo with a memory", pr_beta=0.5)
    assert not torch.equal(fresh.value.targets(batch).returns, expected.returns)


def test_a_resumed_learner_goes_on_with_the_same_numbers() -> None:
    whole, half = trained("mappo", 3, pr_beta=0.5), trained("mappo", 2, pr_beta=0.5)
    again = learner_of("mappo", pr_beta=0.5, seed=9)
    again.mac.load_state_dict(through_a_file(half.mac.state_dict()))
    again.load_state_dict(through_a_file(half.state_dict()))
    again.train(make_batch(again.mac, seed=2), 20)
    same(again, whole)


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("mappo", {"obs_agent_id": False}, "critic_sharing=separate"),
        ("happo", {}, "critic_sharing=separate"),
        ("maddpg", {**OFF_POLICY, "replay_steps": None}, "critic_sharing=separate"),
        ("qmix", {**OFF_POLICY, "obs_agent_id": False}, "sharing=separate or obs_agent_id=True"),
        ("qtran", OFF_POLICY, "joint network"),
    ],
)
def test_one_critic_for_all_is_refused(method: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_learner(method, make_info(), pr_beta=0.5, **more)
    make_learner(method, make_info(), **more)
