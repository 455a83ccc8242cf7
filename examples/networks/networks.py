"""Networks of one's own, each an ordinary ``nn.Module``; ``agent=networks:LayerNormMLP`` from this folder uses one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from oamarl.utils.schema.keys import key


class LayerNormMLP(nn.Module):
    """Two hidden layers with layer normalisation."""

    def __init__(self, inputs, outputs, config):
        super().__init__()
        h = config.hidden_dim
        self.layers = nn.Sequential(
            nn.Linear(inputs, h), nn.LayerNorm(h), nn.Tanh(), nn.Linear(h, h), nn.LayerNorm(h), nn.Tanh()
        )
        self.head = nn.Linear(h, outputs)

    def forward(self, x, hidden):
        return self.head(self.layers(x)), hidden


class Convolution(nn.Module):
    """A convolution over observations that are images [channels, height, width]."""

    def __init__(self, inputs, outputs, config):
        super().__init__()
        if inputs.obs_shape is None or len(inputs.obs_shape) != 3:
            raise ValueError("observations of shape [channels, height, width] are needed")
        self.shape = inputs.obs_shape
        channels, height, width = self.shape
        self.filters = nn.Conv2d(channels, 16, kernel_size=3, padding=1)
        self.rest = nn.Linear(16 * height * width + inputs - inputs.obs_size, config.hidden_dim)
        self.head = nn.Linear(config.hidden_dim, outputs)

    def forward(self, x, hidden):
        size = self.shape[0] * self.shape[1] * self.shape[2]
        image, extras = x[:, :size].unflatten(1, self.shape), x[:, size:]  # the last action and the id stand behind
        seen = torch.relu(self.filters(image)).flatten(1)
        return self.head(torch.relu(self.rest(torch.cat([seen, extras], dim=1)))), hidden


class GatedCell(nn.Module):
    """A minimal gated recurrent cell: h' = (1 - z) h + z tanh(W [x, h]), z = sigmoid(U [x, h])."""

    def __init__(self, inputs, outputs, config):
        super().__init__()
        self.size = config.hidden_dim
        self.gate = nn.Linear(inputs + self.size, self.size)
        self.new = nn.Linear(inputs + self.size, self.size)
        self.head = nn.Linear(self.size, outputs)

    def initial_hidden(self, rows):
        return torch.zeros(rows, self.size)

    def forward(self, x, hidden):
        both = torch.cat([x, hidden], dim=1)
        z = torch.sigmoid(self.gate(both))
        hidden = (1 - z) * hidden + z * torch.tanh(self.new(both))
        return self.head(hidden), hidden


@dataclass(frozen=True)
class AttentionConfig:
    """What the attention reads."""

    hidden_dim: int = key("Width of the embeddings.", low=1)
    entity_size: int = key("Numbers that describe one entity of an observation.", low=1)


class EntityAttention(nn.Module):
    """Attention over the entities of an observation, each described by `entity_size` numbers."""

    Config = AttentionConfig

    def __init__(self, inputs, outputs, config):
        super().__init__()
        self.seen, self.each = inputs.obs_size, config.entity_size
        self.embed = nn.Linear(self.each, 3 * config.hidden_dim)
        self.extras = nn.Linear(inputs, config.hidden_dim)
        self.head = nn.Linear(config.hidden_dim, outputs)

    def forward(self, x, hidden):
        obs = F.pad(x[:, : self.seen], (0, -self.seen % self.each))
        query, keys, values = self.embed(obs.unflatten(1, (-1, self.each))).unsqueeze(1).chunk(3, dim=-1)
        found = F.scaled_dot_product_attention(query, keys, values)  # [rows, 1, entities, hidden_dim]
        return self.head(torch.tanh(found.mean(dim=(1, 2)) + self.extras(x))), hidden


class SmallCritic(nn.Module):
    """A critic: a network of one output."""

    def __init__(self, inputs, outputs, config):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, config.hidden_dim), nn.Tanh(), nn.Linear(config.hidden_dim, outputs)
        )

    def forward(self, x, hidden):
        return self.layers(x), hidden
