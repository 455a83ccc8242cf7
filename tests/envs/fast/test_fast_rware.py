"""The quick warehouse beside RWARE's own: equal in everything that can be seen, in play of many kinds."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rware")
import gymnasium
from rware.warehouse import Action, Direction, ImageLayer, ObservationType, RewardType, Warehouse

from oamarl.envs.fast import rware as quick_rware
from oamarl.envs.fast import rware_moves as quick_rware_moves
from oamarl.envs.fast.rware import quicken

PLAIN = {
    "shelf_columns": 3, "column_height": 3, "shelf_rows": 1, "n_agents": 4, "msg_bits": 0, "sensor_range": 1,
    "request_queue_size": 4, "max_inactivity_steps": None, "max_steps": 25, "reward_type": RewardType.INDIVIDUAL,
}  # fmt: skip
#: so full that swaps, rings, queues and ties come by themselves
CROWD = {**PLAIN, "layout": "......\n.x.x..\n..gg..\n.x..x.\n......", "n_agents": 14, "request_queue_size": 2}
HALL = {**PLAIN, "layout": "\n".join(["." * 12] * 5 + [".....xx...gg"] + ["." * 12] * 4), "request_queue_size": 1}
LAYERS = [ImageLayer.SHELVES, ImageLayer.REQUESTS, ImageLayer.AGENTS, ImageLayer.AGENT_LOAD, ImageLayer.GOALS,
          ImageLayer.ACCESSIBLE]  # fmt: skip
SQUARE = {"layout": "\n".join([".x.x.", "x.x..", "..g..", "xx.xx", "g...."]), "n_agents": 3}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "one agent": {**PLAIN, "n_agents": 1, "request_queue_size": 0},
    "sees two cells": {**PLAIN, "sensor_range": 2, "reward_type": RewardType.GLOBAL},
    "sees nothing": {**PLAIN, "sensor_range": 0},
    "sees five cells": {**PLAIN, "sensor_range": 5, "n_agents": 7, "shelf_rows": 2, "shelf_columns": 5},
    "two stages": {**PLAIN, "reward_type": RewardType.TWO_STAGE, "normalised_coordinates": True},
    "messages": {**PLAIN, "msg_bits": 3, "n_agents": 5},
    "impatient": {**PLAIN, "max_inactivity_steps": 9, "max_steps": None},
    "endless": {**PLAIN, "max_steps": 0},
    "line": {**PLAIN, "layout": "..x.g..x", "n_agents": 4, "request_queue_size": 1},
    "crowd": CROWD,
    "crowd of all": {**CROWD, "n_agents": 28, "reward_type": RewardType.GLOBAL},
    "crowd with messages": {**CROWD, "msg_bits": 1, "sensor_range": 2},
    "hall": {**HALL, "n_agents": 19},
    "dict": {**PLAIN, "observation_type": ObservationType.DICT, "msg_bits": 2},
    "dict of scaled": {**PLAIN, "observation_type": ObservationType.DICT, "normalised_coordinates": True},
    "image": {**PLAIN, "observation_type": ObservationType.IMAGE},
    "image of layers": {**PLAIN, **SQUARE, "observation_type": ObservationType.IMAGE,
                        "image_observation_layers": [*LAYERS, ImageLayer.AGENT_DIRECTION]},
    "image to the north": {**PLAIN, "observation_type": ObservationType.IMAGE, "image_observation_directional": False},
    "image and numbers": {**PLAIN, "observation_type": ObservationType.IMAGE_DICT},
}  # fmt: skip


def pair(**kwargs: Any) -> tuple[Warehouse, Warehouse]:
    """Return the stock warehouse and a quick one."""
    stock, quick = Warehouse(**kwargs), Warehouse(**kwargs)
    assert quicken(quick)
    stock.seed(7), quick.seed(7)
    return stock, quick


def bits(value: Any) -> Any:
    """Return a value with all types and bits, to be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.flags.writeable, value.tobytes()
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [bits(inner) for inner in value]
    return type(value), repr(value)


def state(env: Any) -> dict[str, Any]:
    """Return all that can be read of a game."""
    place = ("id", "x", "y", "prev_x", "prev_y")
    return {
        "agents": [[getattr(a, k) for k in (*place, "dir", "req_action", "canceled_action", "has_delivered")]
                   + [a.carrying_shelf and a.carrying_shelf.id, a.message.tobytes()] for a in env.agents],
        "shelves": [[getattr(s, k) for k in place] for s in getattr(env, "shelfs", [])],
        "queue": [s.id for s in env.request_queue],
        "grid": bits(env.grid),
        "counts": (env._cur_steps, env._cur_inactive_steps),
        "random": env.np_random.bit_generator.state,
        "own": all(a.carrying_shelf is None or env.shelfs[a.carrying_shelf.id - 1] is a.carrying_shelf
                   for a in env.agents),
        "image": bits(env.global_image),
    }  # fmt: skip


def assert_alike(stock: Any, quick: Any) -> None:
    assert state(stock) == state(quick)


def same_answer(stock: Any, quick: Any, ask: Callable[[Any], Any]) -> Any:
    """Ask both, compare what they answer or raise and what it made of them, and return the stock's answer."""
    return same_answers(stock, quick, ask)[0]


def same_answers(stock: Any, quick: Any, ask: Callable[[Any], Any]) -> list[Any]:
    answers: list[Any] = []
    for env in (stock, quick):
        try:
            answers.append(ask(env))
        except Exception as exc:  # whatever the stock raises
            answers.append(("raised", type(exc), str(exc)))
    assert bits(answers[0]) == bits(answers[1])
    assert_alike(stock, quick)
    return answers


Policy = Callable[[Any, random.Random], list[int]]


def stroll(env: Any, draw: random.Random) -> list[int]:
    return [draw.choice((0, 1, 1, 1, 2, 3, 4)) for _ in env.agents]


def push(env: Any, draw: random.Random) -> list[int]:
    return [1 if draw.random() < 0.8 else draw.choice((0, 2, 3, 4)) for _ in env.agents]


def whirl(env: Any, draw: random.Random) -> list[int]:
    """Go round in squares of four cells; some do as they like."""
    ways = ((Direction.RIGHT, Direction.UP), (Direction.DOWN, Direction.LEFT))
    actions = []
    for agent in env.agents:
        right = agent.dir == ways[int(agent.x) % 2][int(agent.y) % 2]
        actions.append(draw.choice((0, 1, 1, 2, 4)) if draw.random() < 0.2 else 1 if right else 2)
    return actions


def _ways(env: Any, agent: Any) -> dict[tuple[int, int], Direction]:
    """Return the first heading of a shortest way to each cell that this agent, loaded or not, can get to."""
    height, width = env.grid_size
    first: dict[tuple[int, int], Any] = {(int(agent.x), int(agent.y)): None}
    todo = deque(first)
    while todo:
        x, y = todo.popleft()
        for heading, (a, b) in zip(Direction, ((x, y - 1), (x, y + 1), (x - 1, y), (x + 1, y)), strict=True):
            inside = 0 <= a < width and 0 <= b < height
            if inside and (a, b) not in first and not (agent.carrying_shelf and env.grid[1, b, a]):
                first[a, b] = first[x, y] or heading
                todo.append((a, b))
    return first


def carry(env: Any, draw: random.Random) -> list[int]:
    """Fetch what is requested, bring it to a goal, and put it down elsewhere; with some slips."""
    wanted = {(s.x, s.y) for s in env.request_queue}
    free = {(x, y) for y, x in np.argwhere((env.highways == 0) & (env.grid[1] == 0)).tolist()}
    actions = []
    for agent in env.agents:
        shelf = agent.carrying_shelf
        ends = wanted if shelf is None else set(env.goals) if shelf in env.request_queue else free
        ways = _ways(env, agent)
        heading = next((h for cell, h in ways.items() if cell in ends), draw.choice(list(Direction)))
        if draw.random() < 0.1:
            actions.append(draw.randrange(5))
        elif heading is None:
            actions.append(4)
        else:
            actions.append(1 if heading == agent.dir else draw.choice((2, 3)))
    return actions


def messages(env: Any, moves: list[int], draw: random.Random) -> list[Any]:
    if not env.msg_bits:
        return moves
    return [[move, *(draw.randrange(2) for _ in range(env.msg_bits))] for move in moves]


def play(stock: Any, quick: Any, policy: Policy, steps: int, seed: int) -> Counter[str]:
    """Play on both: to ends and beyond, with new games in the middle, seeded or not. Returns what happened."""
    draw, seen = random.Random(seed), Counter[str]()
    kept: list[Any] = []
    same_answer(stock, quick, lambda env: env.reset(seed=seed))
    for _ in range(steps):
        actions = messages(stock, policy(stock, draw), draw)
        kept.append(same_answers(stock, quick, lambda env: env.step(copy.deepcopy(actions))))  # noqa: B023
        answer = kept[-1][0]
        seen["delivered"] += sum(answer[1]) > 0
        seen["ended"] += answer[2]
        seen["failed"] += [a.req_action for a in stock.agents] != [Action(np.ravel(a)[0]) for a in actions]
        if (answer[2] and draw.random() < 0.8) or draw.random() < 0.005:
            again = draw.choice((None, draw.randrange(99)))
            same_answer(stock, quick, lambda env: env.reset(seed=again))  # noqa: B023
    assert all(bits(of_stock) == bits(of_quick) for of_stock, of_quick in kept)  # what was given out, much later
    return seen


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_plays_as_the_stock_does(name: str) -> None:
    stock, quick = pair(**CONFIGURATIONS[name])
    happened = Counter[str]()
    for seed, policy in enumerate((stroll, push, whirl, carry)):
        happened += play(stock, quick, policy, 50, seed)
    if name not in ("one agent", "line"):
        assert happened["failed"] > 5
    if stock.max_steps or stock.max_inactivity_steps:
        assert happened["ended"] > 2


@pytest.mark.parametrize("reward", [*RewardType, None])
def test_deliveries_are_rewarded_and_requested_anew_as_the_stock_does(reward: RewardType) -> None:
    stock, quick = pair(**{**PLAIN, "n_agents": 5, "reward_type": reward, "max_steps": 150, "max_inactivity_steps": 99})
    delivered = play(stock, quick, carry, 400, 3)["delivered"]
    assert delivered > 9 if reward else delivered == 0


def test_a_shelf_for_which_no_other_can_be_requested_ends_alike() -> None:
    """All shelves are requested: the stock raises when one is delivered."""
    stock, quick = pair(**{**PLAIN, "layout": "x..g", "n_agents": 1, "request_queue_size": 1})
    same_answer(stock, quick, lambda env: env.reset(seed=1))
    raised = 0
    for _ in range(60):
        actions = carry(stock, random.Random(0))
        raised += same_answer(stock, quick, lambda env: env.step(actions))[0] == "raised"  # noqa: B023
    assert raised


def from_all_sides(seed: int) -> None:
    """Put two to eight agents, some behind others, around a free cell, and let all go there at once."""
    draw = random.Random(seed)
    spots = [
        (2 + k * dx, 2 + k * dy, facing)
        for k in (1, 2)
        for (dx, dy), facing in zip(((0, 1), (0, -1), (1, 0), (-1, 0)), Direction, strict=True)
    ]
    chosen = draw.sample(spots, draw.randint(2, 8))
    stock, quick = pair(**{**PLAIN, "layout": "g....\n" + "....x\n" * 4, "n_agents": len(chosen)})
    same_answer(stock, quick, lambda env: env.reset(seed=seed))
    for env in (stock, quick):
        for agent, spot in zip(env.agents, chosen, strict=True):
            agent.x, agent.y, agent.dir = spot
        env._recalc_grid()
    same_answer(stock, quick, lambda env: env.step([1] * len(chosen)))


def test_rare_meetings_are_among_those_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings, swaps, ties in both orders of networkx: each comes up, and is settled as the stock does."""
    if quick_rware_moves._chain_of() is not quick_rware_moves._longest_chain:
        pytest.skip("this networkx breaks the ties itself")
    met: Counter[str] = Counter()
    rings, order = quick_rware_moves._rings, quick_rware_moves._order

    def counting_rings(ahead: Any) -> Any:
        found = rings(ahead)
        met["ring"] += bool(found)
        met["swap"] += any(i != j and ahead.get(j) == i for i, j in ahead.items())
        met["behind a ring"] += bool(found) and any(j in found and i not in found for i, j in ahead.items())
        return found

    def counting_order(edges: Any, behind: Any, part: Any) -> Any:
        met["small part" if 2 * len(part) < len({n for e in edges for n in e}) else "large part"] += 1
        met["several forks"] += sum(len(v) > 1 for k, v in behind.items() if k in part) > 1
        return order(edges, behind, part)

    monkeypatch.setattr(quick_rware_moves, "_rings", counting_rings)
    monkeypatch.setattr(quick_rware_moves, "_order", counting_order)
    for kwargs, n in ((CROWD, 22), (HALL, 90)):
        stock, quick = pair(**{**kwargs, "n_agents": n, "max_steps": None})
        play(stock, quick, push, 70, n)
        play(stock, quick, whirl, 50, n)
    assert min(met[k] for k in ("ring", "swap", "behind a ring", "small part")) > 9, met
    assert met["several forks"] > 2
    for seed in range(60):
        from_all_sides(seed)
    assert min(met["small part"], met["large part"]) > 9, met


def crowds(n: int) -> Iterator[quick_rware_moves.Edges]:
    """Give what agents in crowds of many sizes want."""
    draw = random.Random(1)
    for _ in range(n):
        width, height = draw.choice(((5, 4), (7, 5), (10, 11), (16, 29)))
        at = draw.randrange(width), draw.randrange(height)
        far = {(x, y): abs(x - at[0]) + abs(y - at[1]) + 3 * draw.random() for x in range(width) for y in range(height)}
        starts = sorted(far, key=far.__getitem__)[: draw.randint(2, 19)]
        draw.shuffle(starts)
        steps = [draw.choice(((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))) for _ in starts]
        yield [((x, y), (x + dx, y + dy)) for (x, y), (dx, dy) in zip(starts, steps, strict=True)]


def test_ties_are_broken_as_networkx_orders_its_sets() -> None:
    compared = 0
    for edges in crowds(1200):
        for end in {b for _, b in edges} - {a for a, _ in edges}:
            if sum(b == end for _, b in edges) > 1:
                compared += 1
                chosen = quick_rware_moves._chain_of()(edges, end)
                assert chosen == quick_rware_moves._longest_chain_of_networkx(edges, end)
    assert compared > 150


def test_ties_are_broken_alike_where_the_order_of_filling_a_set_counts() -> None:
    """Two want a third one's cell, which moves on; in a graph of many others. Networkx walks from the first of them."""
    others = [((20 + k, 20), (20 + k, 20)) for k in range(8)]
    ways = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    for x, y, end, spare in itertools.product(range(1, 6), range(1, 6), ways, (0, 1, 2)):
        behind = [way for way in ways if way != end]
        del behind[spare]
        middle, target = (x, y), (x + end[0], y + end[1])
        moves = [(middle, target), *(((x + dx, y + dy), middle) for dx, dy in behind)]
        for edges in ([*moves, *others], [*moves[::-1], *others], [moves[1], moves[0], *others, moves[2]]):
            chosen = quick_rware_moves._chain_of()(edges, target)
            assert chosen == quick_rware_moves._longest_chain_of_networkx(edges, target)


def test_another_networkx_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_rware_moves, "ORDERED_ALIKE", ())
    monkeypatch.setattr(quick_rware_moves, "_longest_chain", None)
    quick_rware_moves._chain_of.cache_clear()
    try:
        play(*pair(**CROWD), push, 100, 0)
    finally:
        monkeypatch.undo()
        quick_rware_moves._chain_of.cache_clear()


BAD: list[Any] = [
    [0, 1, 5, 1], [0, 1, -1, 1], [0, 1, "x", 1], [1, None, 1, 1], [1, 1, 1], [1, 1, 1, 1, 1], [], None, 7,
    [1, 1.5, 1, 1], [1, [1], 1, 1], [float("nan")] * 4, "1111", {1: 1, 2: 2, 3: 3, 9: 0}, np.ones((4, 2), int),
    np.array([9, 1, 1, 1]), (a for a in [1, 1, 1, 1]),
]  # fmt: skip
ODD: list[Any] = [
    (1, 2, 3, 4), np.array([1, 2, 1, 4]), np.array([1.0, 2.0, 1.0, 4.0]), [True, False, 1.0, np.int8(3)],
    list(Action)[1:], [np.array(1), 1, 1, 1], {1: 1, 2: 2, 3: 3, 4: 0}, range(1, 5),
    [Action.FORWARD, 1, np.float32(1), Action.NOOP],
]  # fmt: skip


@pytest.mark.parametrize("actions", [*BAD, *ODD], ids=[str(k) for k in range(len(BAD) + len(ODD))])
def test_odd_actions_are_taken_and_bad_ones_refused_alike(actions: Any) -> None:
    stock, quick = pair(**PLAIN)
    same_answer(stock, quick, lambda env: env.step(actions))  # before the first reset
    for seed in range(2):
        same_answer(stock, quick, lambda env: env.reset(seed=seed))  # noqa: B023
        same_answer(stock, quick, lambda env: env.step([1, 1, 1, 1]))
        answer = same_answer(stock, quick, lambda env: env.step(actions))
        refused = answer[0] == "raised"
        assert refused == any(actions is bad for bad in BAD)
        same_answer(stock, quick, lambda env: env.step([1, 4, 1, 2]))


@pytest.mark.parametrize(
    "actions",
    [[[1, 0]] * 4, [[1, 0, 1, 1]] * 4, [1] * 4, [[1, 0, 1]] * 3 + [[7, 0, 1]], [[1, 0, 1]] * 3 + [[1, "x", 1]],
     [[1, 0, 1]] * 2 + [[]] * 2, np.array([[1, 0, 1]] * 4), [(1, 0.3, 1e300)] * 4, [[1]] * 4, [[1, [1, 0]]] * 4,
     [np.array([1, 5, -3.0])] * 4],
    ids=repr,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_messages_of_all_forms_are_taken_or_refused_alike(actions: Any) -> None:
    stock, quick = pair(**{**PLAIN, "msg_bits": 2})
    same_answer(stock, quick, lambda env: env.reset(seed=0))
    for _ in range(3):
        same_answer(stock, quick, lambda env: env.step(actions))
        same_answer(stock, quick, lambda env: env.step([[1, 1, 0]] * 4))


def test_what_others_write_to_the_game_counts() -> None:
    """Users put agents and shelves where they want them; some update only the grid, some nothing."""

    def carried_to(env: Any) -> None:
        agent, shelf = env.agents[0], env.shelfs[2]
        env.request_queue[1:2] = [] if shelf in env.request_queue else [shelf]
        agent.x, agent.y = shelf.x, shelf.y = env.goals[0][0], env.goals[0][1] - 2
        agent.dir, agent.carrying_shelf = Direction.DOWN, shelf
        env._recalc_grid()

    def turned(env: Any) -> None:
        for agent in env.agents:
            agent.dir = Direction.LEFT

    def unloaded(env: Any) -> None:
        for agent in env.agents:
            agent.carrying_shelf = None

    def requested(env: Any) -> None:
        env.request_queue = env.shelfs[5:8]

    def lost(env: Any) -> None:
        env.shelfs[0].x, env.shelfs[0].y = env.shelfs[1].x, env.shelfs[1].y
        env._recalc_grid()

    def outside(env: Any) -> None:
        env.shelfs[0].x = -1  # numpy's last column
        env._recalc_grid()

    def shelved(env: Any) -> None:
        env.shelfs[0].x, env.shelfs[0].y = 0, 0
        env._recalc_grid()

    def told_off(env: Any) -> None:
        env.agents[1].carrying_shelf = env.shelfs[4]

    def agents_replaced(env: Any) -> None:
        env.agents = [copy.copy(agent) for agent in env.agents]

    def ground_replaced(env: Any) -> None:
        env.grid = env.grid.copy()

    def ground_turned(env: Any) -> None:
        env.grid = np.asfortranarray(env.grid)

    def said(env: Any) -> None:
        for agent in env.agents:
            agent.message += agent.id

    def looked(env: Any) -> Any:
        other = copy.copy(env.agents[0])
        other.dir, other.x, other.y = Direction.RIGHT, 1, 2
        return [env._make_obs(agent) for agent in (*env.agents, other)]

    def slow(env: Any) -> None:
        env._use_slow_obs()

    def reward(env: Any) -> None:
        env.reward_type, env.max_steps = RewardType.GLOBAL, 5

    changes = (carried_to, turned, unloaded, requested, lost, outside, shelved, told_off, agents_replaced,
               ground_replaced, ground_turned, said, slow, reward)  # fmt: skip
    for change in changes:
        stock, quick = pair(**{**PLAIN, "msg_bits": 2, "sensor_range": 4})
        draw = random.Random(0)
        same_answer(stock, quick, lambda env: env.reset(seed=2))
        for step in range(40):
            if step % 13 == 5:
                same_answer(stock, quick, change)
                same_answer(stock, quick, looked)
            actions = messages(stock, carry(stock, draw), draw)
            if same_answer(stock, quick, lambda env: env.step(actions))[0] == "raised":  # noqa: B023
                break


def test_shelves_put_in_the_place_of_others_are_the_ones_carried() -> None:
    stock, quick = pair(**PLAIN)
    for seed in range(20):
        same_answer(stock, quick, lambda env: env.reset(seed=seed))  # noqa: B023
        same_answer(stock, quick, lambda env: env.step([0] * 4))
        for env in (stock, quick):
            env.shelfs = [shelf if shelf in env.request_queue else copy.copy(shelf) for shelf in env.shelfs]
        same_answer(stock, quick, lambda env: env.step([4] * 4))


@pytest.mark.parametrize("announced", [False, True])
def test_an_agent_that_the_grid_does_not_show_fails_alike(announced: bool) -> None:
    """The stock's assertion; what it has done by then depends on the order of a set of objects."""
    for env in pair(**PLAIN):
        env.reset(seed=2)
        first, second = env.agents[:2]
        first.x, first.y = second.x, second.y
        if announced:
            env._recalc_grid()
        with pytest.raises(AssertionError):
            env.step([2, 0, 1, 1])


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_a_line_of_cells_with_scaled_coordinates_divides_by_zero_alike() -> None:
    for layout in ("..x.g..x", "\n".join("..x.g..x")):
        stock, quick = pair(**{**PLAIN, "layout": layout, "normalised_coordinates": True, "request_queue_size": 1})
        draw, raised = random.Random(0), 0
        same_answer(stock, quick, lambda env: env.reset(seed=2))
        for _ in range(40):
            actions = push(stock, draw)
            raised += same_answer(stock, quick, lambda env: env.step(actions))[0] == "raised"  # noqa: B023
        assert raised


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("name", ["plain", "messages", "image"])
def test_a_copy_plays_on_by_itself(again: Callable[[Any], Any], name: str) -> None:
    stock, quick = pair(**CONFIGURATIONS[name])
    assert_alike(stock, again(quick))
    play(stock, quick, push, 30, 0)
    draw = random.Random(0)
    twin, other = again(stock), again(quick)
    assert type(other) is type(quick)
    before = bits(quick.grid)
    for _ in range(30):
        actions = messages(twin, push(twin, draw), draw)
        same_answer(twin, other, lambda env: env.step(actions))  # noqa: B023
    assert bits(quick.grid) == before
    assert_alike(stock, quick)


def test_a_registered_environment_is_made_quick_inside_its_wrappers() -> None:
    stock, quick = (gymnasium.make("rware:rware-tiny-3ag-v2", disable_env_checker=True) for _ in range(2))
    inner = quick.unwrapped
    assert quicken(quick)
    assert quick.unwrapped is inner
    assert str(quick) == str(stock)
    assert type(inner).__module__ == "rware.warehouse"
    assert isinstance(inner, Warehouse)
    assert not quicken(quick)  # nothing to do
    same = lambda ask: same_answer(stock.unwrapped, inner, lambda env: ask(stock if env is stock.unwrapped else quick))  # noqa: E731
    same(lambda env: env.reset(seed=5))
    draw = random.Random(0)
    for _ in range(60):
        actions = carry(stock.unwrapped, draw)
        same(lambda env: env.step(actions))  # noqa: B023


def test_only_a_stock_warehouse_of_a_known_source_is_made_quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Own(Warehouse):  # type: ignore[misc]
        pass

    for env in (Own(**PLAIN), object(), gymnasium.make("CartPole-v1")):
        kind = type(env)
        assert not quicken(env)
        assert type(env) is kind
    env = Warehouse(**PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(quick_rware, "KNOWN", {"0" * 64: "other"})
        assert not quicken(env)
    changed = tmp_path / "warehouse.py"
    changed.write_text("# other rules")
    for file in (str(changed), str(tmp_path / "missing.py"), None):
        with monkeypatch.context() as patch:
            patch.setattr("rware.warehouse.__file__", file)
            assert not quicken(env)
    with monkeypatch.context() as patch:
        patch.delitem(quick_rware.sys.modules, "rware.warehouse")
        assert not quicken(env)
    assert type(env) is Warehouse
    assert quicken(env)


def test_pictures_are_alike() -> None:
    stock, quick = pair(**PLAIN)
    for env in (stock, quick):
        env.reset(seed=1)
        env.step([1, 2, 1, 4])
    try:
        picture = stock.render(mode="rgb_array")
    except Exception as exc:  # no display
        pytest.skip(f"the stock cannot draw here: {exc!r:.80}")
    assert bits(picture) == bits(quick.render(mode="rgb_array"))
    assert bits(stock.get_global_image(LAYERS, recompute=True)) == bits(quick.get_global_image(LAYERS, recompute=True))
