"""VMAS as an environment here: shapes of its scenarios, and episodes that depend on their seeds alone."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oamarl.envs.base import Arrays
from oamarl.envs.vector.make import make_vec
from oamarl.envs.vmas.draws import RowDraws, drawing, keys_of
from oamarl.envs.vmas.rows import Holders
from oamarl.envs.vmas.vmas import Vmas
from oamarl.main import main
from oamarl.utils.errors import UserError

from run_tools import assert_same_run, latest, train

ROOT = Path(__file__).resolve().parents[2]
needs_vmas = pytest.mark.skipif(
    not (importlib.util.find_spec("vmas") and importlib.util.find_spec("gym")), reason="needs the extra vmas"
)
#: resets of theirs go through worlds, or steps through agents, in Python
SLOW = ("pollock", "road_traffic", "sampling")

#: agents that start at 0, rewarded with their places; it is over once the first is beyond x = 0.02
LINE = """
import torch
from vmas.simulator.core import Agent, Sphere, World
from vmas.simulator.scenario import BaseScenario

class Line(BaseScenario):
    def make_world(self, batch_dim, device, **kwargs):
        self.end = kwargs.pop("end", 0.02)
        self.noise = kwargs.pop("noise", 0.0)
        world = World(batch_dim, device)
        for i in range(kwargs.pop("walkers", 1)):
            world.add_agent(Agent(name=f"walker_{i}", shape=Sphere(), u_noise=self.noise, collide=False))
        return world

    def reset_world_at(self, env_index=None):
        pass

    def observation(self, agent):
        return torch.cat([agent.state.pos, agent.state.vel], -1)

    def reward(self, agent):
        return agent.state.pos[:, :1]  # [B, 1], as the scenario 'wheel'

    def done(self):
        return self.world.agents[0].state.pos[:, 0] > self.end

    def info(self, agent):
        return {"x": agent.state.pos[:, 0]}
"""


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    (tmp_path / "line_scenario.py").write_text(LINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "line_scenario", raising=False)
    return "line_scenario:Line"


class Played:
    """Slots played with random legal actions that depend on each episode's seed alone."""

    def __init__(self, env: Any, seeds: list[int]) -> None:
        self.env, self.out, self.b = env, Arrays.allocate(env.info, len(seeds)), len(seeds)
        self.rngs = [np.random.default_rng(0)] * self.b
        self.start(list(range(self.b)), seeds)

    def start(self, slots: list[int], seeds: list[int]) -> None:
        for slot, seed in zip(slots, seeds, strict=True):
            self.rngs[slot] = np.random.default_rng(seed)
        self.env.reset(np.array(slots), np.array(seeds), self.out)

    def step(self, *waiting: int) -> None:
        active = ~(self.out.terminated | self.out.truncated)
        active[list(waiting)] = False
        info, actions = self.env.info, np.zeros((self.b, self.env.info.n_agents), np.int64)
        if info.continuous:
            actions = np.zeros((self.b, info.n_agents, info.n_actions), np.float32)
        for b in np.flatnonzero(active).tolist():
            drawn = self.rngs[b].random(self.out.avail.shape[1:])
            low, high = info.bounds() if info.continuous else (0.0, 1.0)
            actions[b] = low + (high - low) * drawn if info.continuous else (drawn * self.out.avail[b]).argmax(-1)
        self.env.step(actions, active, self.out)

    def row(self, slot: int) -> dict[str, np.ndarray]:
        return {name: np.array(value[slot]) for name, value in self.out.named().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def alike(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Equal but for the last digits, which on some processors depend on how many slots are computed together."""
    return all(np.allclose(a[name], b[name], rtol=1e-4, atol=1e-5) for name in a)


def scenarios() -> list[str]:
    if not importlib.util.find_spec("vmas"):
        return ["balance"]
    source = (Path(str(importlib.util.find_spec("vmas").origin)).parent / "scenarios").rglob("*.py")  # type: ignore[union-attr]
    return sorted(p.stem for p in source if p.stem != "__init__")


# -- scenarios --------------------------------------------------------------------------------------------------------


@needs_vmas
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in scenarios()])
def test_every_scenario_is_stepped(name: str) -> None:
    """Alternately discrete and continuous; the table of the documentation has its numbers."""
    env = Vmas(2, scenario=name, continuous_actions=len(name) % 2 == 0, max_steps=3)
    info, played = env.info, Played(env, [3, 4])
    out = played.out
    assert info.state_size == sum(info.obs_sizes)
    legal = np.arange(info.n_actions) < np.array(info.action_sizes)[:, None]
    seen = np.arange(info.obs_size) < np.array(info.obs_sizes)[:, None]
    for _ in range(3):
        assert (out.avail == legal).all()
        assert out.alive.all()
        assert np.isfinite(out.obs).all()
        assert not out.obs[:, ~seen].any()
        assert np.array_equal(out.state, np.stack([o[seen] for o in out.obs]))
        played.step()
    assert (out.terminated | out.truncated).all()
    assert np.isfinite(out.reward).all()
    if not info.continuous:
        sizes = ", ".join(str(x) for x in dict.fromkeys(info.obs_sizes))
        actions = ", ".join(str(x) for x in dict.fromkeys(info.action_sizes))
        row = f"| `{name}` | {info.n_agents} | {sizes} | {actions} |"
    else:
        row = f"| `{name}` | {info.n_agents} | {', '.join(str(x) for x in dict.fromkeys(info.obs_sizes))} |"
    assert row in (ROOT / "docs" / "vmas.md").read_text(encoding="utf-8")
    env.close()


@needs_vmas
@pytest.mark.parametrize(
    ("name", "continuous", "args"),
    [
        ("balance", False, {}), ("discovery", True, {}), ("navigation", True, {"n_agents": 3}),
        ("ball_passage", False, {}), ("simple_world_comm", True, {}), ("asym_joint", False, {}),
        ("ball_trajectory", False, {}),
    ],
)  # fmt: skip
def test_slots_are_their_seeds_wherever_and_whenever_they_are_played(
    name: str, continuous: bool, args: dict[str, Any]
) -> None:
    """The same episode in slot 0 of 1, and in a slot of 5 beside others that start, wait, and have played before."""
    alone = Played(Vmas(1, name, continuous, 12, **args), [11])
    many = Played(Vmas(5, name, continuous, 12, **args), [20, 21, 22, 23, 24])
    many.step()
    many.step()
    waiting = many.row(4)
    many.start([3, 1], [11, 12])
    assert alike(alone.row(0), many.row(3))
    for t in range(10):
        alone.step()
        many.step(4, *([3] if t == 4 else []))
        if t == 4:
            many.step(0, 1, 2, 4)
        assert alike(alone.row(0), many.row(3)), t
    assert same(waiting, many.row(4))
    many.step()
    assert not same(waiting, many.row(4))


@needs_vmas
@pytest.mark.parametrize("name", ["simple_speaker_listener", "football"])
def test_the_same_seeds_give_the_same_numbers_in_every_batch_of_one_size(name: str) -> None:
    first, second = (Played(Vmas(3, name, False, 20), [5, 6, 7]) for _ in range(2))
    for _ in range(4):
        first.step()
        second.step()
        assert all(same(first.row(b), second.row(b)) for b in range(3))


@needs_vmas
@pytest.mark.parametrize(
    ("name", "continuous"),
    [("simple_tag", True), ("simple_tag", False), ("simple_world_comm", False), ("diff_drive", False)],
)
def test_steps_are_vmas_own(name: str, continuous: bool) -> None:
    """From the same state, the same actions: the numbers of VMAS's environment, stepped by itself."""
    import vmas

    env = Vmas(3, name, continuous, 50)
    played = Played(env, [1, 2, 3])
    theirs = vmas.make_env(name, num_envs=3, continuous_actions=continuous, terminated_truncated=True)
    spaces = [theirs.get_agent_action_space(agent) for agent in theirs.agents]
    if not continuous:
        assert env.info.action_sizes == tuple(space.n for space in spaces)
    everyone = np.arange(3)
    with torch.inference_mode():
        Holders(theirs.scenario, 3).take(everyone, Holders(env._worlds.env.scenario, 3), everyone)
        rng = np.random.default_rng(0)
        for _ in range(5):
            shape = (3, env.info.n_agents)
            actions = rng.uniform(-1, 1, (*shape, 2)).astype(np.float32)
            if not continuous:
                actions = (rng.random(shape) * env.info.action_sizes).astype(np.int64)
            given = [torch.from_numpy(actions[:, i].reshape(3, -1)) for i in range(env.info.n_agents)]
            obs, reward, _, _, _ = theirs.step(given)
            env.step(actions, np.ones(3, bool), played.out)
            assert np.array_equal(torch.cat(obs, 1).numpy(), played.out.state)
            assert np.array_equal(torch.stack(reward, 1).numpy(), played.out.reward)


# -- by hand ----------------------------------------------------------------------------------------------------------


@needs_vmas
def test_ends_by_the_rules_and_by_the_clock(line: str) -> None:
    """Full force to the right: speeds 0.1, 0.175, 0.23125 and places a tenth of their sums (drag 0.25, mass 1)."""
    env = Vmas(2, scenario=line, continuous_actions=True, max_steps=2)
    out, both = Arrays.allocate(env.info, 2), np.ones(2, bool)
    assert env.info.metrics == ("x",)
    assert env.info.agent_types == ("walker",)
    assert env.info.action_low == ((-1.0, -1.0),)
    env.reset(np.arange(2), np.arange(2), out)
    right = np.array([[[1.0, 0.0]], [[0.5, 0.0]]], np.float32)
    env.step(right, both, out)
    np.testing.assert_allclose(out.obs[0, 0], [0.01, 0, 0.1, 0], atol=1e-7)
    np.testing.assert_allclose(out.reward, [[0.01], [0.005]], atol=1e-7)
    assert not (out.terminated | out.truncated).any()
    env.step(right, both, out)
    np.testing.assert_allclose(out.reward, [[0.0275], [0.01375]], atol=1e-7)
    assert out.terminated.tolist() == [True, False]
    assert out.truncated.tolist() == [False, True]
    assert out.agent_terminated.tolist() == [[True], [False]]
    np.testing.assert_allclose(out.metrics, [[0.0275], [0.01375]], atol=1e-7)
    env.reset(np.array([1]), np.array([9]), out)
    assert not out.obs[1].any()
    assert not out.truncated[1]
    assert out.terminated[0]
    env.step(right, np.array([False, True]), out)
    np.testing.assert_allclose(out.reward, [[0.0275], [0.005]], atol=1e-7)


@needs_vmas
def test_noise_of_forces_is_each_slots_own(line: str) -> None:
    one, two = (Played(Vmas(n, scenario=line, continuous_actions=True, end=9.0, noise=0.1), s) for n, s in
                ((1, [4]), (3, [2, 4, 4])))  # fmt: skip
    for _ in range(3):
        one.step()
        two.step()
    assert same(one.row(0), two.row(1))
    assert same(two.row(1), two.row(2))
    assert not same(two.row(0), two.row(1))


@needs_vmas
def test_torchs_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before, drawing_before, python = torch.get_rng_state(), torch.rand, np.random.get_state()[1]
    played = Played(Vmas(2, "discovery"), [1, 2])
    played.step()
    Played(Vmas(2, "ball_passage"), [1, 2]).step()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.rand is drawing_before
    assert "uniform_" not in vars(torch.Tensor)
    assert np.array_equal(np.random.get_state()[1], python)


@needs_vmas
def test_draws_of_a_row_depend_on_its_key_alone() -> None:
    from vmas.simulator.utils import ScenarioUtils

    def drawn(seeds: list[int]) -> list[np.ndarray]:
        draws = RowDraws(len(seeds))
        draws.begin(keys_of(np.array(seeds), np.zeros(len(seeds))))
        with drawing(draws, ScenarioUtils):
            n = len(seeds)
            found = [
                torch.rand(n, 3), torch.randn((n, 3)), torch.zeros(n, 2).uniform_(-2.0, 5.0),
                torch.randint(1, 4, (n, 1)), torch.randint(low=0, high=9, size=(n,)),
                torch.rand_like(torch.zeros(n, 2)), torch.zeros(n).normal_(3.0, 0.1), torch.empty(n, 4).uniform_(),
            ]  # fmt: skip
        assert not draws.odd
        return [x.numpy() for x in found]

    few, many = drawn([7, 3]), drawn([1, 3, 7, 7])
    for a, b in zip(few, many, strict=True):
        assert np.array_equal(a[0], b[2])
        assert np.array_equal(a[1], b[1])
        assert np.array_equal(b[2], b[3])
    large = drawn(list(range(20_000)))
    np.testing.assert_allclose(large[0].mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(large[0].var(), 1 / 12, atol=0.01)
    np.testing.assert_allclose([large[1].mean(), large[1].std()], [0, 1], atol=0.02)
    np.testing.assert_allclose([large[2].min(), large[2].max()], [-2, 5], atol=0.01)
    assert set(large[3].ravel().tolist()) == {1, 2, 3}
    np.testing.assert_allclose([large[6].mean(), large[6].std()], [3, 0.1], atol=0.01)


# -- as an environment of runs ----------------------------------------------------------------------------------------


@needs_vmas
@pytest.mark.parametrize("continuous", [False, True])
def test_backends_give_the_same_numbers(continuous: bool) -> None:
    args = {"scenario": "simple_spread", "continuous_actions": continuous, "max_steps": 4}
    native, serial = make_vec("vmas", args, 3), make_vec("vmas", args, 3, backend="serial")
    rng = np.random.default_rng(0)
    for vec in (native, serial):
        vec.reset(np.arange(3), np.array([5, 6, 7]))
    low, high = native.info.bounds() if continuous else (0, 1)
    for _ in range(4):
        draws = rng.random((3, 3, native.info.n_actions))
        actions = (low + (high - low) * draws).astype(np.float32) if continuous else draws.argmax(-1)
        for vec in (native, serial):
            vec.step(actions, np.ones(3, bool))
        for name, value in native.arrays.named().items():
            assert np.array_equal(value, serial.arrays.named()[name]), name
    assert native.arrays.truncated.all()
    native.close()
    serial.close()


def words(here: Path, *more: str) -> list[str]:
    return latest([
        "--config=mappo", "--env-config=vmas", "with", "env_args.scenario=balance", "env_args.max_steps=20",
        "use_cuda=False", "seed=5", "batch_size_run=4", "hidden_dim=8", "lr_schedule=constant", "test_nepisode=4",
        "log_interval=28", "checkpoint_interval=56", "test_interval=56", f"local_results_path={here}", *more,
    ])  # fmt: skip


@needs_vmas
@pytest.mark.parametrize("runner", [("runner=rollout", "rollout_length=7"), ("batch_size=8",)])
def test_a_resumed_run_is_the_same_run(runner: tuple[str, ...], tmp_path: Path) -> None:
    assert main(words(tmp_path / "long", "t_max=448", *runner)) == 0
    assert main(words(tmp_path / "cut", "t_max=224", *runner)) == 0
    (long,) = folders(tmp_path / "long")
    (cut,) = folders(tmp_path / "cut")
    assert main(words(tmp_path / "cut", "t_max=448", f"checkpoint_path={cut}", *runner)) == 0
    assert_same_run(long, folders(tmp_path / "cut")[-1])


def folders(results: Path) -> list[Path]:
    return sorted((p.parent for p in results.glob("sacred/*/*/*/run.json")), key=lambda p: int(p.name))


@needs_vmas
@pytest.mark.parametrize(("algorithm", "continuous"), [("mappo", False), ("mappo", True), ("oappo", False)])
def test_it_learns_in_seconds(algorithm: str, continuous: bool, line: str, tmp_path: Path) -> None:
    """A walker's return is the sum of its places: 0 at random, and 1.34 at full force to the right for ten steps."""
    run = train(
        tmp_path, algorithm, "vmas",
        {"scenario": line, "continuous_actions": continuous, "max_steps": 10, "end": 9.0, "walkers": 2},
        backend="auto", t_max=9600, batch_size_run=32, hidden_dim=16, lr=0.01, epochs=4, log_interval=1000,
        test_interval=10**6, test_nepisode=8, common_reward=True,
    )  # fmt: skip
    assert run.result["test_greedy_return_mean"] > 1.1


@needs_vmas
def test_pictures() -> None:
    env = Vmas(2, "simple_world_comm")
    Played(env, [1, 2]).step()
    picture = env.render(1)
    assert picture.dtype == np.uint8
    assert picture.shape == (640, 640, 3)
    colours = {tuple(c) for c in picture.reshape(-1, 3)[::3].tolist()}
    assert len(colours) > 5


# -- sentences --------------------------------------------------------------------------------------------------------


@needs_vmas
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"scenario": "balanse"}, r"scenario='balanse' is not a scenario of VMAS: use .*did you mean 'balance'\?"),
        ({"scenario": "no_module:Scenario"}, "cannot be imported: No module named 'no_module'"),
        ({"max_steps": 0}, "max_steps=0 is out of range: at least 1"),
        ({"n_agent": 3}, r"env_args.n_agent is not an argument of VMAS's scenario 'balance': .*mean 'n_agents'\?"),
        ({"n_agents": 0}, r"env_args.n_agents=0 is too few: VMAS.s scenario .balance. needs at least 1"),
        ({"n_agents": 1}, r"'balance' cannot be made with n_agents=1 \(AssertionError"),
        ({"n_agents": "three"}, r"cannot be made with n_agents='three' \(TypeError"),
        ({"device": "cuda:9"}, "device='cuda:9' is not there for torch .*: use cpu"),
        ({"device": "gpu"}, "device='gpu' is not there for torch"),
    ],
)
def test_mistakes_are_one_sentence(args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        make_vec("vmas", args, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["vmas", "gym"])
def test_a_missing_package_says_how_to_install_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "vmas"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    if package != "vmas" and not importlib.util.find_spec("vmas"):
        pytest.skip("needs vmas")
    with pytest.raises(UserError, match=rf"package '{package}', which is not installed: run `pip install -e '\.\[vmas"):
        make_vec("vmas", {}, 1)


@needs_vmas
def test_a_command_line_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config=mappo", "--env-config=vmas", "with", "env_args.scenario=navigaton"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "did you mean 'navigation'" in err
