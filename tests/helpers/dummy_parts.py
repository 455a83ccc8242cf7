"""Parts of a run that only declare what they read, for the tests of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from oamarl.utils.errors import UserError
from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class RunConfig:
    t_max: int = key("Steps.", low=1)
    batch_size_run: int = key("Slots.", low=1)
    seed: int = key("Seed.", low=0)
    test_greedy: bool = key("Greedy tests.")


@dataclass(frozen=True)
class LoggingConfig:
    label: str = key("Label.")
    local_results_path: str = key("Folder.")


@dataclass(frozen=True)
class NetConfig:
    hidden_dim: int = key("Width.", low=1)
    sharing: str | list[int] = key("Sharing.", choices=("shared", "separate"), low=0)


@dataclass(frozen=True)
class LearnerConfig:
    lr: float = key("Step size.", above=0)
    gamma: float = key("Discount.", low=0, high=1)
    epochs: int = key("Epochs.", low=1)
    q_nstep: int | None = key("n.", low=1)
    gae_lambda: float | None = key("lambda.", low=0, high=1)
    critic_type: str = key("Critic.", choices=("ac_critic", "cv_critic"))
    critic_sharing: str = key("Critic networks.", choices=("shared", "separate"))


@dataclass(frozen=True)
class MatrixConfig:
    lr: float = key("Step size.", above=0)
    reuse_matrix: list[list[float]] | None = key("M.", low=0)


@dataclass(frozen=True)
class Nothing:
    pass


class Runner:
    Config = Nothing
    run = test = close = origin = use = state_dict = load_state_dict = print

    def __init__(self, config, env, env_args, mac, device, seed):
        pass


class MAC:
    Config = NetConfig
    to = initial_hidden = actor = act = observe = parameters = state_dict = load_state_dict = print

    def __init__(self, config, agent, net, info, generator):
        pass


class Agent:
    Config = Nothing


class _Learner:
    train = parameters = load_weights = state_dict = load_state_dict = print

    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        pass


class Learner(_Learner):
    Config = LearnerConfig

    @classmethod
    def check(cls, values, info):
        if info.n_agents == 1:
            raise UserError("One agent is too few.")


class ReuseLearner(_Learner):
    Config = MatrixConfig


class Env:
    def __init__(self, key: str = "a", time_limit: int | None = None, agents: dict[str, int] | None = None) -> None:
        self.key = key
