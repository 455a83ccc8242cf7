"""Networks for tests: odd ones that work, and ones that break the contract of networks, each in one way."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Plain(nn.Module):
    """One hidden layer; the base of the networks below."""

    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(inputs, 8), nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(torch.tanh(self.first(x))), hidden


class TiedAndConstant(Plain):
    """A weight used twice, a constant buffer, and a parameter that is not trained."""

    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 8)
        self.third.weight = self.second.weight
        self.register_buffer("scale", torch.full((8,), 0.5))
        self.features = nn.Parameter(torch.randn(8, 8), requires_grad=False)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        x = torch.tanh(self.first(x)) * self.scale @ self.features
        return self.head(torch.tanh(self.third(torch.tanh(self.second(x))))), hidden


class Forgetful(Plain):
    """It has a memory and does not read it."""

    def initial_hidden(self, rows: int) -> torch.Tensor:
        return torch.zeros(rows, 3)


class Whole(nn.Module):
    """torch's GRU over whole sequences."""

    sequences = True

    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, 6), nn.Linear(6, outputs)

    def initial_hidden(self, rows: int) -> torch.Tensor:
        return torch.zeros(rows, 6)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        out, hidden = self.gru(x, hidden.unsqueeze(0))
        return self.head(out), hidden[0]


class OtherConstructor(Plain):
    def __init__(self, inputs: Any) -> None:
        super().__init__(inputs, 2, None)


class FailingConstructor(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        raise KeyError("width")


class NoForward(nn.Module):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, outputs)


class OneArgument(Plain):
    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.first(x)), x


class OneResult(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(self.first(x))


class WrongSize(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.first(x), hidden


class WrongMemory(Forgetful):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(self.first(x)), hidden[:, :1]


class NoMemoryBack(Forgetful):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(self.first(x)), None


class Ones(Forgetful):
    def initial_hidden(self, rows: int) -> torch.Tensor:
        return torch.ones(rows, 3)


class OneRow(Forgetful):
    def initial_hidden(self, rows: int) -> torch.Tensor:
        return torch.zeros(1, 3)


class NoParameters(nn.Module):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return x[:, : self.outputs], hidden


class Dropout(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(torch.dropout(self.first(x), 0.5, True)), hidden


class BatchNorm(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.norm = nn.BatchNorm1d(8, momentum=0.1)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        self.norm.eval()
        self.norm.num_batches_tracked.add_(1)
        return self.head(self.norm(self.first(x))), hidden


class AcrossRows(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        x = self.first(x)
        return self.head(x - x.mean(0)), hidden


_SHARED = nn.Linear(8, 8)


class SharedBetweenCopies(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.shared = _SHARED


class Raises(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        raise ZeroDivisionError("of the module")


class Double(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.double()


class ListOfLayers(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.layers = [nn.Linear(8, 8)]

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(self.layers[0](self.first(x))), hidden


class RandomBuffer(Plain):
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        super().__init__(inputs, outputs, config)
        self.register_buffer("noise", torch.randn(8))

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(self.first(x) + self.noise), hidden


class LooksAhead(Whole):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return super().forward(x + x.mean(0), hidden)


class NumpyInside(Plain):
    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return torch.from_numpy(self.head(self.first(x)).detach().numpy()), hidden


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class FirstOrder(Plain):
    """An operation without a second derivative."""

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> Any:
        return self.head(_Once.apply(self.first(x))), hidden


class NotAModule:
    def __init__(self, inputs: Any, outputs: int, config: Any) -> None:
        self.copy = copy
