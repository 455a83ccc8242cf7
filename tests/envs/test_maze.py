"""The maze against what can be worked out on paper, and by a second search written here."""

from __future__ import annotations

import numpy as np
import pytest

from oamarl.components.seeding import episode_seed
from oamarl.envs.maze.maps import MAPS, next_cells, read_map, view_table
from oamarl.envs.maze.maze import Maze
from oamarl.envs.vector.base import NativeVec
from oamarl.envs.vector.make import make_vec
from oamarl.utils.errors import UserError

UP, DOWN, LEFT, RIGHT, NOP = range(5)
RED_ROUTE = [UP, UP, RIGHT, RIGHT, RIGHT, RIGHT, DOWN, DOWN]
BLACK_ROUTE = [DOWN, DOWN, RIGHT, RIGHT, RIGHT, RIGHT, UP, UP]
OPEN_ROUTE = [UP] * 4 + [RIGHT] * 4 + [DOWN] * 4


def make(n_slots: int = 1, **args: object) -> NativeVec:
    vec = make_vec("maze", args, n_slots)
    assert isinstance(vec, NativeVec)
    vec.reset(np.arange(n_slots), np.arange(n_slots))
    return vec


def play(vec: NativeVec, routes: list[list[int]]) -> np.ndarray:
    """Walk each agent along its actions (nop after), one slot; return the agents' returns."""
    total = np.zeros(vec.info.n_agents)
    for t in range(vec.info.episode_limit):
        joint = np.array([[r[t] if t < len(r) else NOP for r in routes]])
        vec.step(joint, np.ones(1, bool))
        total += vec.arrays.reward[0]
        if vec.arrays.terminated[0] or vec.arrays.truncated[0]:
            return total
    raise AssertionError("the episode did not end")


def distance(rows: tuple[str, ...], letters: str) -> float:
    """Steps from S to G over cells of ``letters``, by relaxation: another way than the maze's own search."""
    best = {(y, x): 0 if c == "S" else np.inf for y, r in enumerate(rows) for x, c in enumerate(r)}
    goal = next((y, x) for y, r in enumerate(rows) for x, c in enumerate(r) if c == "G")
    for _ in range(len(best)):
        for (y, x), steps in list(best.items()):
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in best and rows[near[0]][near[1]] in letters:
                    best[near] = min(best[near], steps + 1)
    return best[goal]


def test_black_red_is_the_map_it_says() -> None:
    rows, agents = MAPS["black_red"]
    assert (len(rows), {len(r) for r in rows}) == (9, {9})
    assert agents == {"red": 2, "black": 2, "blue": 0}
    start, goal = (next((y, x) for y, r in enumerate(rows) for x, c in enumerate(r) if c == k) for k in "SG")
    assert abs(start[0] - goal[0]) + abs(start[1] - goal[1]) == 4
    assert distance(rows, ".SGR") == 8
    assert distance(rows, ".SGK") == 8
    assert distance(rows, ".SG") == 12
    optimum = Maze(1).optimum()
    assert optimum.steps == (8, 8, 8, 8)
    assert optimum.team_return == pytest.approx(2.60)


def test_black_blue_red_is_the_map_it_says() -> None:
    rows, agents = MAPS["black_blue_red"]
    assert agents == {"red": 1, "black": 1, "blue": 1}
    assert distance(rows, ".SGRB") == 8
    assert distance(rows, ".SGKB") == 8
    assert distance(rows, ".SG") == distance(rows, ".SGB") == 12  # the trap alone is no short cut
    maze = Maze(1, "black_blue_red")
    optimum = maze.optimum()
    assert optimum.returns == pytest.approx((0.65, 0.65, 0.45))
    red, black, blue = (set(r) for r in optimum.routes)
    trap = int(np.flatnonzero(maze.grid.ravel() == "B")[0])
    assert trap in black
    assert trap not in blue
    ends = {maze.start, maze.goal}
    assert len(black & blue - ends) == 5  # blue walks with black up to the trap and after it
    assert not red & (black | blue) - ends


def test_returns_of_known_routes() -> None:
    assert play(make(), [RED_ROUTE] * 2 + [BLACK_ROUTE] * 2).sum() == pytest.approx(2.60, abs=1e-5)
    assert play(make(), [OPEN_ROUTE] * 4).sum() == pytest.approx(1.80, abs=1e-5)
    # everyone on the red route: black agents stand before it until the limit
    assert play(make(), [RED_ROUTE] * 4) == pytest.approx([0.65, 0.65, -2.0, -2.0], abs=1e-5)


def test_next_cells_by_hand() -> None:
    grid = read_map(["SRG", "KB."])
    red, black, blue = (next_cells(grid, c) for c in ("red", "black", "blue"))
    assert red[0].tolist() == [0, 0, 0, 1, 0]  # K below is shut, R to the right is open
    assert black[0].tolist() == [0, 3, 0, 0, 0]
    assert blue[0].tolist() == [0, 0, 0, 0, 0]
    assert black[4].tolist() == [4, 4, 3, 5, 4]
    assert blue[5].tolist() == [2, 5, 5, 5, 5]  # the trap is shut for blue
    assert red[2].tolist() == [2] * 5  # no agent leaves the goal


def test_what_an_agent_sees() -> None:
    grid = read_map(["SRG", "KB."])
    view = view_table(grid)
    assert view.shape == (6, 9 * 6 + 2 + 3)
    letters = ["#.GRKB"[k] for k in view[0, :54].reshape(9, 6).argmax(1)]
    assert "".join(letters) == "####.R#KB"  # the start looks open
    assert view[0, 54:].tolist() == [1, 0, 1, 0, 0]
    assert view[5, 54:].tolist() == [0, 1, 0, 0, 1]
    # a colour cannot be told from observations: agents on one cell see the same
    obs = make().arrays.obs[0]
    assert (obs == obs[0]).all()


def test_steps_by_hand() -> None:
    vec = make(map=["#RG", "#S.", "#K#"], agents={"red": 1, "black": 1}, time_limit=3)
    out = vec.arrays
    vec.step(np.array([[UP, UP]]), np.ones(1, bool))  # black is blocked
    assert vec._env.positions().tolist() == [[1, 4]]
    assert out.reward[0] == pytest.approx([-0.05, -0.05])
    vec.step(np.array([[RIGHT, RIGHT]]), np.ones(1, bool))  # red arrives
    assert out.reward[0] == pytest.approx([1.0, -0.05])
    assert out.alive[0].tolist() == [False, True]
    assert out.agent_terminated[0].tolist() == [True, False]
    assert out.avail[0].tolist() == [[False] * 4 + [True], [True] * 5]
    assert out.metrics[0] == pytest.approx([0.5])
    assert not out.terminated[0]
    vec.step(np.array([[NOP, UP]]), np.ones(1, bool))  # black arrives at the very limit: a termination
    assert out.reward[0] == pytest.approx([0.0, 1.0])
    assert (bool(out.terminated[0]), bool(out.truncated[0])) == (True, False)


def test_state_holds_map_and_locations() -> None:
    vec = make(map=["#RG", "#S.", "#K#"], agents={"red": 1, "black": 1})
    vec.step(np.array([[UP, RIGHT]]), np.ones(1, bool))
    state = vec.arrays.state[0]
    assert state[:9] == pytest.approx(np.array([0, 3, 2, 0, 1, 1, 0, 4, 0]) / 5)
    assert state[9:].tolist() == [1, 0, 0, 0, 1, 0, 0] + [0, 1, 0, 0, 0, 1, 0]


def test_limit_truncates_and_shows_the_last_state() -> None:
    vec = make(time_limit=2)
    for _ in range(2):
        vec.step(np.full((1, 4), UP), np.ones(1, bool))
    assert (bool(vec.arrays.terminated[0]), bool(vec.arrays.truncated[0])) == (False, True)
    assert vec.arrays.obs[0, 0, 54 + 3] == 1  # row 3, two above the start
    with pytest.raises(ValueError, match="reset them first"):
        vec.step(np.full((1, 4), UP), np.ones(1, bool))


def test_inactive_rows_stay() -> None:
    vec = make(3)
    before = vec.arrays.obs.copy()
    vec.step(np.full((3, 4), UP), np.array([True, False, True]))
    assert (vec.arrays.obs[1] == before[1]).all()
    assert (vec.arrays.obs[[0, 2]] != before[[0, 2]]).any()
    vec.step(np.full((3, 4), UP), np.zeros(3, bool))
    assert vec._env.positions()[:, 0].tolist() == [38, 47, 38]


def test_optimum_where_arriving_does_not_pay() -> None:
    assert Maze(1, time_limit=5).optimum().team_return == pytest.approx(4 * 5 * -0.05)
    assert Maze(1, time_limit=5).optimum().steps == (None,) * 4
    assert Maze(1, goal_reward=-9.0).optimum().steps == (None,) * 4
    assert Maze(1, step_reward=0.1).optimum().steps == (40,) * 4  # wait, and arrive at the end


def test_the_given_map_may_be_one_string() -> None:
    text = """
        S.G
        ###
    """
    assert Maze(1, map=text, agents={"blue": 1}).optimum().steps == (2,)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"map_name": "blackred"}, "did you mean 'black_red'"),
        ({"map": ["S.", "G"]}, "ragged"),
        ({"map": ["SxG"]}, "letter 'x' in row 1, column 2"),
        ({"map": ["S.."]}, "0 goal cells"),
        ({"map": ["SSG"]}, "2 start cells"),
        ({"map": ""}, "empty"),
        ({"map": ["S#G"]}, "no route from S to G is open to red"),
        ({"map": ["SRG"]}, "no route from S to G is open to black"),
        ({"agents": {"red": 0}}, "no agent"),
        ({"agents": {"rde": 1}}, "did you mean 'red'"),
        ({"agents": {"red": -1}}, "red=-1"),
        ({"time_limit": 0}, "time_limit=0"),
        ({"map_nam": "x"}, "did you mean 'map_name'"),
        ({"step_reward": "no"}, "wrong type"),
    ],
)
def test_mistakes_are_told(args: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_vec("maze", args, 1)


def test_pictures() -> None:
    maze = Maze(1, "black_blue_red")
    optimum = maze.optimum()
    text = maze.render_ascii(routes=optimum.routes).split("\n")
    assert text[2] == "##rrrrr##"
    assert text[6] == "##**kk*##"
    assert maze.render_ascii([maze.start] * 3).split("\n")[4] == "##*###G##"
    image = maze.render_rgb([r[2] for r in optimum.routes], optimum.routes, cell=20)
    assert (image.shape, image.dtype) == ((180, 180, 3), np.uint8)
    assert (image == maze.render_rgb(cell=20)).all(-1).mean() < 0.99


def test_episode_seeds_are_apart() -> None:
    seeds = {episode_seed(s, p, b, e) for s in range(3) for p in ("train", "test") for b in range(8) for e in range(50)}
    assert len(seeds) == 3 * 2 * 8 * 50
    assert all(0 <= s < 2**31 for s in seeds)
    assert episode_seed(0, "train", 0, 0) == 1839233791  # a change here changes every published number
    with pytest.raises(UserError, match="seed=-1"):
        episode_seed(-1, "train", 0, 0)
