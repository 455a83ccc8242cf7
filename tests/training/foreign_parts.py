"""Parts of third parties for tests: a learner without a critic, a controller of one's own, and broken ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from oamarl.controllers.basic_mac import BasicMAC
from oamarl.modules.acting import NetworkActor
from oamarl.modules.action_selectors import Multinomial
from oamarl.runners.episode import EpisodeRunner
from oamarl.utils.schema.keys import key


@dataclass(frozen=True)
class ReinforceConfig:
    lr: float = key("Learning rate.", above=0)


class Reinforce:
    """REINFORCE (Williams 1992) with the batch's mean return as its baseline, of agents that share one network."""

    Config = ReinforceConfig

    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        self.mac, self.updates, self.processed = mac, 0, 0
        self.optimiser = torch.optim.Adam([x for _, x in mac.parameters()], lr=config.lr)

    def train(self, batch, t_env):
        togo = batch.reward.flip(1).cumsum(1).flip(1)[batch.valid]  # [S]: the return from each agent's step on
        t = batch.actions.shape[1]
        inputs, avail = self.mac.inputs(batch)[batch.valid], batch.avail[:, :t][batch.valid]
        policy = self.mac.policy(self.mac.network.params[0], inputs, avail)
        loss = -(policy.log_prob(batch.actions[batch.valid]) * (togo - togo.mean())).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates, self.processed = self.updates + 1, self.processed + len(togo)
        return {"loss": loss.detach(), "return_to_go": np.float32(togo.mean())}, {}

    def parameters(self):
        return self.mac.parameters()

    def load_weights(self, state):
        return []

    def state_dict(self):
        return {"optimiser": self.optimiser.state_dict(), "updates": self.updates, "processed": self.processed}

    def load_state_dict(self, state):
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates, self.processed = state["updates"], state["processed"]


class Announcing(Reinforce):
    def notices(self):
        return ["One update for each batch."]


# -- a controller of one's own --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableConfig:
    table_gain: float = key("Standard deviation of the first logits.", low=0)


class TableMAC:
    """Logits that depend on nothing but the agent, [N, A]: policies without observations and without a network."""

    Config = TableConfig

    def __init__(self, config, agent, net, info, generator):
        self.info = info
        self.logits = config.table_gain * torch.randn(info.n_agents, info.n_actions, generator=generator)
        self.logits.requires_grad_()

    def to(self, device):
        self.logits.data = self.logits.data.to(device)

    def initial_hidden(self, n_slots):
        return torch.zeros(n_slots, self.info.n_agents, 1)

    def actor(self):
        logits = self.logits.detach().cpu().numpy().copy()

        def outputs(obs, last, hidden):
            return np.broadcast_to(logits, (len(obs), *logits.shape)), hidden

        return NetworkActor(outputs, Multinomial(), self.info.n_actions)

    def observe(self, batch):
        pass

    def parameters(self):
        yield "policies", self.logits

    def state_dict(self):
        return {"logits": self.logits.detach().clone()}

    def load_state_dict(self, state):
        if state["logits"].shape != self.logits.shape:
            raise ValueError(f"logits are {tuple(state['logits'].shape)}, and {tuple(self.logits.shape)} are needed")
        self.logits.data.copy_(state["logits"])


class TableReinforce(Reinforce):
    """The same method on the table."""

    def train(self, batch, t_env):
        togo = batch.reward.flip(1).cumsum(1).flip(1)
        t = batch.actions.shape[1]
        log_probs = self.mac.logits.masked_fill(~batch.avail[:, :t], -torch.inf).log_softmax(-1)
        log_prob = log_probs.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        loss = -(log_prob * (togo - togo[batch.valid].mean()))[batch.valid].mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates, self.processed = self.updates + 1, self.processed + int(batch.valid.sum())
        return {"loss": loss.item()}, {"logits": {"now": self.mac.logits}}


class Gain:
    """What :class:`PreparedMAC` has found out: the gain of its first logits, from the agents' mean reward."""

    name, inference, learning, environment, seconds = "gain", 0.0, 0.5, 0.25, 0.75

    def __init__(self, gain, t_env=0, agent_steps=0):
        self.gain, self.t_env, self.agent_steps = gain, t_env, agent_steps

    def __str__(self):
        return f"The gain is {self.gain:g}."

    def changes(self):
        return {"table_gain": self.gain}

    def scalars(self):
        return {"table_gain": self.gain}

    def arrays(self):
        return {"gain": np.array([self.gain])}


class GainPreparation:
    announcement = "One batch of random play, to choose the gain."

    def known(self, saved, weights, say):
        return None if saved is None else self.stored(saved["mac"], "the checkpoint")

    def find(self, play, check_stop=lambda: None):
        runner = play()
        batch = runner.batch()
        runner.close()
        return Gain(1.0 + abs(float(batch.reward.mean())), runner.t_env, runner.agent_steps)

    def stored(self, state, where):
        return Gain(float(state["gain"]))


class PreparedMAC(TableMAC):
    """A controller whose first policies follow from random play."""

    def __init__(self, config, agent, net, info, generator):
        super().__init__(config, agent, net, info, generator)
        self.gain = config.table_gain

    @classmethod
    def prepare(cls, values, info):
        return GainPreparation() if values["table_gain"] == 0 else None

    def state_dict(self):
        return super().state_dict() | {"gain": self.gain}


# -- broken ones ----------------------------------------------------------------------------------------------------


class NoWeights:
    """A learner as older versions of the program had them."""

    Config = ReinforceConfig
    train = Reinforce.train
    state_dict, load_state_dict = Reinforce.state_dict, Reinforce.load_state_dict

    def load_weight(self, state): ...

    def parameters(self): ...


class OneArgument(Reinforce):
    def train(self, batch): ...


class NeedsMore(Reinforce):
    def __init__(self, config, net, mac, info, critic, *, common_reward, device, seed): ...


class KeywordsOnly(Reinforce):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Uncounted(Reinforce):
    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        self.update = self.processed = 0


class ChecksWrongly(Reinforce):
    @classmethod
    def check(cls, values, info):
        values["gama"]


class Breaks(Reinforce):
    def __init__(self, config, net, mac, info, *, common_reward, device, seed):
        raise KeyError("width")


class ReturnsNothing(Reinforce):
    def train(self, batch, t_env):
        pass


class ReturnsThree(Reinforce):
    def train(self, batch, t_env):
        return {}, {}, {}


class ReturnsText(Reinforce):
    def train(self, batch, t_env):
        return {"loss": "small"}, {}


class ReturnsVector(Reinforce):
    def train(self, batch, t_env):
        return {"loss": torch.zeros(3)}, {}


class ReturnsBareArray(Reinforce):
    def train(self, batch, t_env):
        return {}, {"weights": torch.zeros(3)}


class BrokenParameters(Reinforce):
    def train(self, batch, t_env):
        found = super().train(batch, t_env)
        if self.updates == 2:
            self.mac.network.params.data[0, 0] = torch.nan
        return found


class NoActor(TableMAC):
    actor = None  # type: ignore[assignment]


class NoSlots(TableMAC):
    def initial_hidden(self): ...


class BareParameters(Reinforce):
    def parameters(self):
        return self.mac.network.parameters()


class UnstorableState(Reinforce):
    def state_dict(self):
        return super().state_dict() | {"stream": torch.Generator()}


class NoState(Reinforce):
    def state_dict(self):
        return None


class BreaksMAC(BasicMAC):
    def __init__(self, config, agent, net, info, generator):
        raise RuntimeError("no networks today\nsecond line")


class GreedyOnly(EpisodeRunner):
    def test(self, n_episodes): ...


class PreparesWrongly(BasicMAC):
    @classmethod
    def prepare(cls, values):
        return None


class PreparesAsObject(BasicMAC):
    def prepare(self, values, info):
        return None
