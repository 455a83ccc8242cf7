"""SMAX as an environment here, against JaxMARL's own steps and against what SMAC promises."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oamarl.envs.base import Arrays
from oamarl.envs.smax.maps import MAPS, MISSING, UNITS, find_map, smax_map
from oamarl.envs.smax.smax import Smax
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

STOP = 4


jaxmarl = pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("jaxmarl")), reason="needs the extra smax"
)


class Played:
    """Slots played with random legal actions that depend on each episode's seed alone."""

    def __init__(self, env: Any, seeds: list[int]) -> None:
        self.env, self.out, self.b = env, Arrays.allocate(env.info, len(seeds)), len(seeds)
        self.start(list(range(self.b)), seeds, [np.random.default_rng(0)] * self.b)

    def start(self, slots: list[int], seeds: list[int], rngs: list[np.random.Generator] | None = None) -> None:
        self.rngs = rngs if rngs is not None else self.rngs
        for slot, seed in zip(slots, seeds, strict=True):
            self.rngs[slot] = np.random.default_rng(seed)
        self.env.reset(np.array(slots), np.array(seeds), self.out)

    def step(self, active: np.ndarray | None = None) -> np.ndarray:
        shape = self.out.avail.shape[1:]
        draws = np.stack([rng.random(shape) for rng in self.rngs])
        actions = (draws * self.out.avail).argmax(-1)
        self.env.step(actions, np.ones(self.b, bool) if active is None else active, self.out)
        return actions

    def row(self, slot: int) -> dict[str, np.ndarray]:
        return {name: np.array(value[slot]) for name, value in self.out.named().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


# -- maps -----------------------------------------------------------------------------------------------------------


@jaxmarl
def test_maps_are_jaxmarls_own():
    from oamarl.envs.smax.jax_start import load

    table = load("cpu")[0].smax_env.MAP_NAME_TO_SCENARIO
    assert set(table) <= set(MAPS)
    for name, scenario in table.items():
        ours = find_map(name)
        assert (len(ours.allies), len(ours.enemies)) == (scenario.num_allies, scenario.num_enemies)
        assert ours.drawn == scenario.smacv2_position_generation == scenario.smacv2_unit_type_generation
        assert [*ours.allies, *ours.enemies] == np.asarray(scenario.unit_types).tolist()


def test_corridor_and_limits_are_smacs():
    corridor = find_map("corridor")
    assert [UNITS[u] for u in corridor.allies] == ["zealot"] * 6
    assert [UNITS[u] for u in corridor.enemies] == ["zergling"] * 24
    limits = {name: find_map(name).limit for name in ("3m", "3s5z_vs_3s6z", "27m_vs_30m", "corridor", "smacv2_5_units")}
    assert limits == {"3m": 60, "3s5z_vs_3s6z": 170, "27m_vs_30m": 180, "corridor": 400, "smacv2_5_units": 200}


@pytest.mark.parametrize("name", MISSING)
def test_maps_that_cannot_be_say_why(name: str):
    with pytest.raises(UserError, match=f"map_name='{name}' cannot be played in smax, which has no .*nearest map is"):
        find_map(name)
    assert MISSING[name][1] in MAPS


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mmm2", "has no healing medivacs: the nearest map is '10m_vs_11m', and --env-config=sc2 has 'MMM2' where"),
        (
            "protoss_5_vs_5",
            "a map of SMACv2, .* nearest map is 'smacv2_5_units', and --env-config=sc2v2 has 'protoss_5_vs",
        ),
        ("Zerg_20_vs_23", "the nearest map is 'smacv2_20_units'"),
        ("10gen_terran_epo", "the nearest map is 'smacv2_5_units'"),
        ("3S5Z", r"is not a map of smax: use .*; did you mean '3s5z'\?$"),
        ("MMM3", r"did you mean '10m_vs_11m'\?$"),
        ("qqqq", r"is not a map of smax: use .* or smacv2_20_units$"),
    ],
)
def test_maps_of_others_name_their_kin(name: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        find_map(name)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("3s5z_vs_3s6z", "3s5z_vs_3s6z"), ("MMM2", "10m_vs_11m"), ("8m_vs_9m", "8m_vs_9m"), ("corridor", "corridor"),
        ("3s5zvs3s6z", "3s5z_vs_3s6z"), ("mmm", "10m_vs_11m"), ("protoss_5_vs_5", "smacv2_5_units"), ("qqqq", "3m"),
        ("terran_10_vs_11", "smacv2_10_units"), ("zerg_20_vs_23", "smacv2_20_units"), ("10gen_zerg", "smacv2_5_units"),
    ],
)  # fmt: skip
def test_the_nearest_map(asked: str, near: str):
    assert smax_map(asked) == near


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"map_name": "3s5z_vs_3s7z"}, "did you mean '3s5z_vs_3s6z'"),
        ({"time_limit": 0}, "at least 1 is allowed"),
        ({"attack_mode": "closet"}, "did you mean 'closest'"),
        ({"allies": {"marine": 2}}, "set env_args.enemies as well"),
        ({"allies": {"marin": 2}, "enemies": {"marine": 2}}, "did you mean 'marine'"),
        ({"allies": {"marine": -1}, "enemies": {"marine": 2}}, "0 or more is allowed"),
        ({"allies": {}, "enemies": {"marine": 2}}, "has no units"),
        ({"allies": {"marine": 99}, "enemies": {"marine": 2}}, "more than 100 units"),
    ],
)
def test_mistakes_are_one_sentence(args: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        Smax(1, **args)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UserError, match=r"package 'jax', which is not installed: run `pip install -e '\.\[smax\]'`"):
        make_vec("smax", {}, 1)


@jaxmarl
def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="did you mean 'cpu'"):
        Smax(1, device="cpus")


@jaxmarl
def test_programs_are_kept_in_a_folder_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from oamarl.envs.smax.jax_start import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "oamarl" / "jax"


@jaxmarl
def test_jaxmarl_is_whole_after_its_smax_alone_was_imported():
    from oamarl.envs.smax.jax_start import load

    load("cpu")
    assert "jaxmarl" not in sys.modules or hasattr(sys.modules["jaxmarl"], "make")


# -- the rules against JaxMARL's own ----------------------------------------------------------------------------------


@jaxmarl
@pytest.mark.parametrize("firmness", [1.0, 0.3])
def test_the_push_is_jaxmarls(firmness: float):
    from oamarl.envs.smax.jax_start import load

    smax = load("cpu")[0]
    import jax

    from oamarl.envs.smax.push import push

    env = smax.SMAX(num_allies=8, num_enemies=9)
    _, state = env.reset(jax.random.PRNGKey(0))
    rng, pushed = np.random.default_rng(1), 0
    for _ in range(50):
        places = (rng.random((17, 2)) * rng.choice([1.0, 4.0, 32.0])).astype(np.float32)
        places[3] = places[7]
        alive, kinds = rng.random(17) < 0.8, rng.integers(0, 6, 17).astype(np.uint8)
        state = state.replace(unit_positions=places, unit_alive=alive, unit_types=kinds)
        theirs = np.asarray(env._push_units_away(state, firmness).unit_positions)
        ours = np.asarray(push(places, alive, env.unit_type_radiuses[kinds], firmness))
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
        assert np.array_equal(ours[~alive], places[~alive])
        pushed += int((np.abs(ours - places) > 0.1).any(1).sum())
    assert pushed > 100


@jaxmarl
@pytest.mark.slow
def test_whole_episodes_are_jaxmarls():
    """Against its own class, step by step: the same keys, the same numbers but for rounding."""
    from oamarl.envs.smax.jax_start import load

    smax = load("cpu")[0]
    import jax
    import jax.numpy as jnp

    theirs = smax.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario("3m"), max_steps=10**6)
    names = theirs.agents
    seeds = [5, 6, 7, 8]
    keys = jax.vmap(jax.random.PRNGKey)(np.array(seeds))
    seen, state = jax.jit(jax.vmap(theirs.reset))(keys)

    @jax.jit
    @jax.vmap
    def step(key: Any, state: Any, actions: Any) -> Any:
        key, step_key = jax.random.split(key)
        seen, state, reward, done, _ = theirs.step_env(step_key, state, dict(zip(names, actions, strict=True)))
        return key, seen, state, reward["ally_0"], done["__all__"], theirs.get_avail_actions(state)

    ours = Played(Smax(4, "3m"), seeds)
    np.testing.assert_allclose(ours.out.obs, np.stack([seen[n] for n in names], 1), atol=1e-5)
    over = np.zeros(4, bool)
    for _ in range(40):
        actions = ours.step(~over)
        keys, seen, state, reward, done, legal = step(keys, state, jnp.asarray(actions))
        go = ~over
        np.testing.assert_allclose(ours.out.obs[go], np.stack([seen[n] for n in names], 1)[go], atol=1e-4)
        np.testing.assert_allclose(ours.out.reward[go, 0], 10 * np.asarray(reward)[go], atol=1e-4)
        assert np.array_equal(ours.out.avail[go], np.stack([legal[n] for n in names], 1)[go].astype(bool))
        raw = np.asarray(seen["world_state"])[go].copy()
        units, full = raw[:, :60].reshape(-1, 6, 10), [0.61, 1.07, 1.87, 0.86, 0.5, 0.59]
        units[..., 1:3] /= 32
        units[..., 3] = np.clip(units[..., 3] / full[0], 0, 1)
        np.testing.assert_allclose(ours.out.state[go], raw, atol=1e-4)
        over |= np.asarray(done)
        assert np.array_equal(ours.out.terminated[go], np.asarray(done)[go])
        over |= ours.out.truncated
    assert over.any()


# -- what an environment promises --------------------------------------------------------------------------------------


@jaxmarl
def test_a_won_battle_is_worth_20():
    env = Smax(8, "3m", enemy_shoots=False)
    out = Arrays.allocate(env.info, 8)
    env.reset(np.arange(8), np.arange(8), out)
    total, active = np.zeros(8), np.ones(8, bool)
    while active.any():
        # attack what is in range, else go towards the enemies (action 1: to larger x)
        attack = out.avail[..., 5:]
        env.step(np.where(attack.any(-1), 5 + attack.argmax(-1), np.where(out.alive, 1, STOP)), active, out)
        total[active] += out.reward[active, 0]
        assert (out.reward == out.reward[:, :1]).all()
        active &= ~(out.terminated | out.truncated)
    won = out.metrics[:, 0] == 1
    assert won.any()
    assert np.array_equal(won, out.terminated)
    np.testing.assert_allclose(total[won], 20.0, atol=1e-3)
    assert (total[~won] < 10.01).all()


@jaxmarl
def test_limits_cut_and_defeats_end():
    """Agents that stand still lose; a limit that comes first is a truncation."""
    lost, cut = Smax(4, "3m", reward_sparse=True), Smax(4, "3m", time_limit=5, reward_sparse=True)
    for env, defeat in ((lost, True), (cut, False)):
        out, stop = Arrays.allocate(env.info, 4), np.full((4, 3), STOP)
        env.reset(np.arange(4), np.arange(4), out)
        active, steps = np.ones(4, bool), np.zeros(4, int)
        while active.any():
            env.step(stop, active, out)
            steps += active
            over = out.terminated | out.truncated
            assert (out.reward[active & ~over] == 0).all()
            active &= ~over
        assert (out.terminated == defeat).all()
        assert (out.truncated != defeat).all()
        assert (out.metrics == 0).all()
        assert (out.reward == (-1 if defeat else 0)).all()
        assert (steps == 5).all() if not defeat else (steps < 60).all()
        if defeat:
            assert not out.alive.any()
            assert out.agent_terminated.all()
            assert (out.avail.sum(-1) == 1).all()
            assert out.avail[..., STOP].all()
    assert lost.info.episode_limit == 60


@jaxmarl
def test_slots_are_their_seeds_wherever_and_whenever_they_are_played():
    """The same episode in slot 0 of 1, in slot 33 of 40 beside others that start and wait, and after another one."""
    alone = Played(Smax(1, "3m"), [11])
    many = Played(Smax(40, "3m"), list(range(100, 140)))
    for _ in range(3):
        many.step()
    waiting = many.row(5)
    many.start([33, 2], [11, 12])
    assert same(alone.row(0), many.row(33))
    others = np.arange(40) % 3 == 0
    others[[33, 5]] = True, False
    for _ in range(60):
        alone.step()
        many.step(others)
        assert same(alone.row(0), many.row(33))
        if alone.out.terminated[0] or alone.out.truncated[0]:
            break
    else:
        raise AssertionError("the episode did not end")
    assert same(waiting, many.row(5))
    first = many.row(33)
    many.start([33], [11])
    assert not same(first, many.row(33))


@jaxmarl
def test_a_picture_shows_both_teams():
    env = Played(Smax(2, "3m"), [1, 2]).env
    picture = env.render(1)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    colours = {tuple(c) for c in picture.reshape(-1, 3)[::7].tolist()}
    assert {(31, 90, 180), (190, 55, 45)} <= colours


@jaxmarl
@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        {"map_name": "corridor"},
        {"map_name": "smacv2_5_units"},
        {
            "map_name": "mine",
            "allies": {"marine": 2, "marauder": 1},
            "enemies": {"zergling": 2},
            "attack_mode": "random",
            "see_enemy_actions": False,
            "walls_cause_death": False,
        },
    ],
    ids=lambda a: a["map_name"],
)
def test_other_maps_play(args: dict[str, Any]):
    played = Played(Smax(4, **args), [1, 2, 3, 4])
    i, out = played.env.info, played.out
    assert i.name == args["map_name"]
    for _ in range(12):
        played.step(~(out.terminated | out.truncated))
        assert np.isfinite(out.obs).all()
        assert out.state.min() >= 0
        assert out.state.max() <= 1 + 1e-6
        assert (out.avail.sum(-1)[~out.alive] == 1).all()
        assert (out.avail.sum(-1)[out.alive] >= 5).all()


@jaxmarl
@pytest.mark.slow
def test_training_and_testing_work_from_the_command_line(program: Any, tmp_path: Path):
    words = (
        "--config=oappo", "--env-config=smax", "with", "t_max=400", "batch_size_run=4", "test_nepisode=4", "seed=1",
        "test_interval=200", f"local_results_path={tmp_path}", "log_interval=100", "hidden_dim=16",
    )  # fmt: skip
    done = program(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    [metrics] = tmp_path.rglob("metrics.json")
    assert "test_battle_won_mean" in json.loads(metrics.read_text())
