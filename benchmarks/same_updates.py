"""Whether EPyMARL's algorithm files mean here what they mean there: updates of both on the same episodes.

    .venv/bin/python benchmarks/same_updates.py PATH              # a checkout of EPyMARL
    .venv/bin/python benchmarks/same_updates.py PATH qmix mappo --updates 5

Both learners start from the same weights and get the same batches of level-based foraging, which this project's runner
plays by the policies as they are after each update. The table shows by how much the weights of agents, critic and mixer
differ at most after the updates, beside how far the furthest has moved. The values in ALIKE take out what differs on
purpose; docs/coming-from-epymarl.md has the list. EPyMARL's PAC needs the package einops; its torch_scatter is stood in
for here.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from oamarl.components.batch import Batch
from oamarl.components.distributions import gumbel
from oamarl.learners.actor_critic import enumeration
from oamarl.learners.actor_critic.coma import COMALearner
from oamarl.learners.actor_critic.pac import PACLearner
from oamarl.learners.actor_critic.play import play_of
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.training.building import build
from oamarl.utils.schema import yamls
from oamarl.utils.schema.command_line import parse

FILES = (
    "ia2c", "ia2c_ns", "maa2c", "maa2c_ns", "ippo", "ippo_ns", "mappo", "mappo_ns", "iql", "iql_ns", "vdn", "vdn_ns",
    "qmix", "qmix_ns", "maddpg", "maddpg_ns", "coma", "coma_ns", "pac_ns",
)  # fmt: skip
#: episodes of a batch
EPISODES = 10
GAME = ("env_args.key=lbforaging:Foraging-8x8-2p-3f-v3", "env_args.time_limit=10")
#: no clipping, whose norms are of other groups of networks; no statistics; one epoch: both have the same advantages
ALIKE = {"grad_norm_clip": 1e6, "standardise_rewards": False, "epochs": 1}
#: of value-based methods: the draw is all there is, and step limits are terminations
OF_VALUES = {
    "runner": "parallel", "batch_size_run": EPISODES, "batch_size": EPISODES, "buffer_size": EPISODES,
    "add_value_last_step": False,
}  # fmt: skip
#: of MADDPG, which masks a terminal step out: there is none; each agent has a value of its own; slow policies, whose
#: memory begins at the second step of an episode there, have none
OF_MADDPG = {**OF_VALUES, "add_value_last_step": True, "common_reward": False, "use_rnn": False}
#: of PAC, which bootstraps at no end and tries illegal actions too (:func:`stand_ins`)
OF_PAC = {"add_value_last_step": False}


def stand_ins() -> None:
    """Make EPyMARL's PAC importable without torch_scatter, and this project's try the illegal actions that it tries."""

    def scatter_add(src: Tensor, index: Tensor, dim: int, dim_size: int) -> Tensor:
        shape = [*src.shape[:dim], dim_size, *src.shape[dim + 1 :]]
        return src.new_zeros(shape).index_add_(dim, index, src)

    sys.modules.setdefault("torch_scatter", SimpleNamespace(scatter_add=scatter_add))  # type: ignore[arg-type]
    legal = enumeration.allowed
    enumeration.allowed = lambda avail, joint: legal(torch.ones_like(avail), joint)


class Silent:
    """EPyMARL's logger, which writes nothing."""

    console_logger: Any = None

    def log_stat(self, name: str, value: Any, t_env: int) -> None:
        """Forget it."""


def theirs(path: Path, name: str, info: Any, overrides: dict[str, Any]) -> Any:
    """Return EPyMARL's learner of one of its files, for an environment of these sizes."""
    from components.transforms import OneHot

    from controllers import REGISTRY as macs
    from learners import REGISTRY as learners

    config = path / "src" / "config"
    values = yamls.load(config / "default.yaml", "") | yamls.load(config / "algs" / f"{name}.yaml", "") | overrides
    sizes = {"n_agents": info.n_agents, "n_actions": info.n_actions, "state_shape": info.state_size}
    args = SimpleNamespace(**values | sizes | {"use_cuda": False, "device": "cpu"})
    scheme = {
        "state": {"vshape": info.state_size}, "obs": {"vshape": info.obs_size, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": torch.long},
        "avail_actions": {"vshape": (info.n_actions,), "group": "agents", "dtype": torch.int},
        "terminated": {"vshape": (1,), "dtype": torch.uint8},
        "reward": {"vshape": (1 if args.common_reward else info.n_agents,)},
    }  # fmt: skip
    preprocess = {"actions": ("actions_onehot", [OneHot(out_dim=info.n_actions)])}
    groups = {"agents": info.n_agents}
    empty = batch_class()(scheme, groups, 1, 2, preprocess=preprocess)
    learner = learners[args.learner](macs[args.mac](empty.scheme, groups, args), empty.scheme, Silent(), args)
    learner.layout = (scheme, groups, preprocess)
    return learner


def batch_class() -> Any:
    """Return EPyMARL's class of batches."""
    from components.episode_buffer import EpisodeBatch

    return EpisodeBatch


def converted(batch: Batch, layout: Any, limits: bool = True, last: Tensor | None = None) -> Any:
    """Return whole episodes as EPyMARL's runner would have stored them: a step limit is a termination in gymma; without
    ``limits`` it is not. ``last`` [B, N]: the actions chosen at the last observations."""
    scheme, groups, preprocess = layout
    b, t = batch.filled.shape
    found = batch_class()(scheme, groups, b, t + 1, preprocess=preprocess, device="cpu")

    def longer(x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)

    over = (batch.terminated | (batch.truncated & limits)).unsqueeze(-1)
    actions = longer(batch.actions)
    if last is not None:
        actions[:, -1] = last
    own = scheme["reward"]["vshape"] != (1,)
    reward = batch.reward if own else batch.reward.sum(-1, keepdim=True) / 2
    found.update(
        {
            "state": batch.state, "obs": batch.obs, "avail_actions": batch.avail.int(),
            "actions": actions.unsqueeze(-1), "reward": longer(reward),
            "terminated": longer(over).to(torch.uint8),
        },
        ts=slice(0, t + 1),
    )  # fmt: skip
    found.data.transition_data["filled"][:, 1:] = batch.filled.unsqueeze(-1).to(torch.long)
    found.data.transition_data["filled"][:, 0] = 1
    return found


def pairs(ours: Any, their: Any, target: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each of this project's weights as the views that EPyMARL's parameter has, and that parameter.

    ``target``: EPyMARL's copies (old policies, targets), which start from the same weights.
    """
    names = ("old_mac", "target_mac") if target else ("mac",)
    for mac in (getattr(their, name) for name in names if hasattr(their, name)):
        agents = getattr(mac.agent, "agents", [mac.agent])
        for k, agent in enumerate(agents):
            yield from layers(ours.mac.network, k, agent, ("fc1", "rnn", "fc2"))
    critic = getattr(their, "target_critic" if target else "critic", None)
    if critic is not None:
        joint = getattr(ours, "critics", None)
        for k, one in enumerate(getattr(critic, "critics", [critic])):
            network = ours.value.network if joint is None else joint.network
            found = layers(network, k, one, ("fc1", "fc2", "fc3"))
            if isinstance(ours, PACLearner):
                yield from of_others(found, ours.info, k)
            else:
                yield from found if joint is None else in_our_order(found, ours.info, joint.ids)
    if isinstance(ours, PACLearner):
        for k, one in enumerate(their.state_value.critics):
            yield from layers(ours.state_value.network, k, one, ("fc1", "fc2", "fc3"))
    mixer = getattr(their, "target_mixer" if target else "mixer", None)
    if mixer is not None and list(mixer.parameters()):
        words = {"w1": "hyper_w_1", "w2": "hyper_w_final", "b1": "hyper_b_1", "value": "V"}
        parts = ours.mixer.params.data[0].split(ours.mixer.sizes)
        state = mixer.state_dict()
        for (name, shape), part in zip(ours.mixer.shapes.items(), parts, strict=True):
            first, _, rest = name.partition(".")
            yield part.view(shape), state[f"{words[first]}.{rest}"]


def in_our_order(
    found: Iterator[tuple[Tensor, Tensor]], info: Any, ids: int
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Yield the weights of a critic of joint actions, whose inputs are state, numbers and actions in EPyMARL.

    Here they are state, actions and numbers.
    """
    ours, their = next(found)
    state, actions = info.state_size, info.n_agents * info.n_actions
    places = [(0, 0, state), (state, state + ids, actions), *([(state + actions, state, ids)] if ids else [])]
    for here, there, size in places:
        yield ours[:, here : here + size], their[:, there : there + size]
    yield from found


def of_others(found: Iterator[tuple[Tensor, Tensor]], info: Any, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the weights of agent k's critic of PAC, which has no columns for the agent's own action in EPyMARL."""
    ours, their = next(found)
    state, a, others = info.state_size, info.n_actions, [j for j in range(info.n_agents) if j != k]
    yield ours[:, :state], their[:, :state]
    for place, j in enumerate(others):
        yield ours[:, state + j * a : state + (j + 1) * a], their[:, state + place * a : state + (place + 1) * a]
    yield from found


def update(ours: Any, their: Any, batch: Batch, k: int) -> None:
    """Make one update of both on a batch."""
    if isinstance(ours, COMALearner):
        # the actions after the last steps, which this project's learner is about to draw
        again = torch.Generator()
        again.set_state(ours.generators["last actions"].get_state())
        last = play_of(ours.mac, batch, again).actions[:, -1]
        ours.train(batch, k)
        their.train(converted(batch, their.layout, last=last), k, k)
        return
    if not hasattr(ours, "critics"):
        ours.train(batch, k)
        their.train(converted(batch, their.layout), k, k)
        return
    from controllers import maddpg_controller

    # the noise that this project's learner is about to draw, step by step
    again = torch.Generator()
    again.set_state(ours.generator.get_state())
    b, t, n = batch.log_prob.shape
    noise = iter(gumbel(torch.rand(b * t, n, ours.info.n_actions, generator=again)).view(b, t, n, -1).split(1, dim=1))
    maddpg_controller.sample_gumbel = lambda shape, **_: next(noise)
    ours.update(batch, torch.ones(b))
    ours.updates += 1
    ours._move_copies()
    their.train(converted(batch, their.layout, limits=False), k, 0)


def layers(stack: Any, k: int, module: nn.Module, names: tuple[str, str, str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the weights of network ``k`` beside those of a network of three layers, or of two around a GRU."""
    views = stack.layers(stack.params.data[k])
    first, middle, last = (getattr(module, name) for name in names)
    linear = {"fc1": first, "head": last} | ({} if "w_ih" in views else {"fc2": middle})
    for name, layer in linear.items():
        yield views[f"{name}.w"].t(), layer.weight.data
        yield views[f"{name}.b"], layer.bias.data
    if "w_ih" in views:
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            yield views[name], getattr(middle, name.replace("w_", "weight_").replace("b_", "bias_")).data


def compare(path: Path, name: str, updates: int) -> tuple[float, float]:
    """Return the largest difference of a weight after the updates, and how far the furthest has moved."""
    settings, overrides = ours_of(path, name)
    runner, _, learner = build(settings, torch.device("cpu"))
    try:
        their = theirs(path, name, runner.info, overrides)
        for target in (False, True):
            for a, b in pairs(learner, their, target):
                b.copy_(a)
        start = [a.clone() for a, _ in pairs(learner, their)]
        for k in range(updates):
            batch, _ = runner.run()
            if batch.terminated.any():
                raise RuntimeError("an episode ended before its limit: EPyMARL's actor-critics bootstrap there")
            update(learner, their, batch, k)
        found = list(pairs(learner, their))
    finally:
        runner.close()
    moved = max(float((a - before).abs().max()) for (a, _), before in zip(found, start, strict=True))
    return max(float((a - b).abs().max()) for a, b in found), moved


def ours_of(path: Path, name: str) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of one of EPyMARL's files here, and the values that are set in both."""
    config = path / "src" / "config"
    own = yamls.load(config / "algs" / f"{name}.yaml", name)
    alike = {k: v for k, v in ALIKE.items() if k in own or k != "epochs"}
    special = {"q_learner": OF_VALUES, "maddpg_learner": OF_MADDPG, "pac_learner": OF_PAC}
    alike |= special.get(own["learner"], {})
    words = [f"--config={config}/algs/{name}.yaml", f"--env-config={config}/envs/gymma.yaml", "with", *GAME, "seed=1"]
    words += ["backend=serial", "use_cuda=False", *(f"{k}={v}" for k, v in alike.items())]
    return resolve(parse(words)[0]), alike


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Updates of EPyMARL's learners and of this project's.")
    parser.add_argument("path", type=Path, help="a checkout of EPyMARL; only read")
    parser.add_argument("files", nargs="*", default=FILES, help="algorithm files, without .yaml; none: all")
    parser.add_argument("--updates", type=int, default=5)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")  # of indices that EPyMARL gives as lists
    sys.path.append(str(args.path / "src"))
    stand_ins()
    print(f"| file | largest difference after {args.updates} updates | furthest moved |\n|---|---|---|")
    for name in args.files:
        difference, moved = compare(args.path.resolve(), name, args.updates)
        print(f"| `{name}` | {difference:.1e} | {moved:.1e} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
