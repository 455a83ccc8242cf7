"""numpy's float32 draws (uniform, exponential, normal) from :class:`~.words.Streams`, for many streams at once.

numpy draws exponential and normal numbers by Marsaglia and Tsang's ziggurat (2000), which takes one word for most
numbers and more for some. Here every word is looked at as if a number began there; which ones really do follows by
jumping from one to the next.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from .words import Streams

Kind = Literal["gumbel", "normal", "uniform"]
#: words looked at beyond the numbers asked for: a share of them, and so many more. A number in 90 takes a second word:
#: that more are needed than these does not happen in a run's lifetime, and would be noticed
_SHARE, _MORE = 8, 32
_LEAST = 1e-30  # an exponential draw may be 0
_UNIT = 2.0**-24
_LAYERS, _SCALE = 256, 2.0**23


@dataclass(frozen=True)
class _Ziggurat:
    """Tables of 256 layers: width / 2**23, the largest integer that is surely inside, the density; the tail, and its
    inverse in single precision."""

    width: Tensor
    inside: Tensor
    density: Tensor
    tail: float
    by_tail: Tensor


def _f(x: Tensor, kind: Kind) -> Tensor:
    """The density, up to a factor; x in double precision."""
    return torch.exp(-0.5 * x * x) if kind == "normal" else torch.exp(-x)


@lru_cache(maxsize=8)
def _tables(kind: Kind, device: torch.device) -> _Ziggurat:
    """Work the tables out in double precision, as numpy's were."""
    normal = kind == "normal"
    tail, area = (3.6541528853610088, 0.00492867323399) if normal else (7.69711747013104972, 0.0039496598225815571993)

    def density(x: float) -> float:
        return math.exp(-0.5 * x * x) if normal else math.exp(-x)

    def inverse(y: float) -> float:
        return math.sqrt(-2.0 * math.log(y)) if normal else -math.log(y)

    edges = [tail]
    for _ in range(_LAYERS - 2):
        edges.append(inverse(area / edges[-1] + density(edges[-1])))
    edges.reverse()  # of the layers 1 to 255
    base = area / density(tail)
    width = [base, *edges]
    inside = [
        tail / base * _SCALE,
        0.0,
        *(lower / upper * _SCALE for lower, upper in itertools.pairwise(edges)),
    ]
    heights = [1.0, *map(density, edges)]
    return _Ziggurat(
        (torch.tensor(width, dtype=torch.float64) / _SCALE).float().to(device),
        torch.tensor([int(x) for x in inside]).to(device),
        torch.tensor(heights, dtype=torch.float64).float().to(device), tail,
        torch.tensor(1.0 / tail, dtype=torch.float32).to(device),
    )  # fmt: skip


def draw(streams: Streams, count: int, kind: Kind) -> tuple[Tensor, Streams, Tensor]:
    """Draw ``count`` float32 numbers from each of B streams.

    Args:
        kind: uniform of [0, 1), standard normal, or Gumbel: -log of an exponential one.

    Returns:
        the numbers [B, count], the streams after them, and whether the words looked at were too few [B] bool.
    """
    if kind == "uniform":
        ahead = streams.ahead(count + 1)  # a word more: the spare half may be read first
        numbers = (ahead.words[:, :count] >> 8).float() * _UNIT
        return numbers, ahead.after(torch.full_like(streams.a, count)), torch.zeros_like(streams.a, dtype=torch.bool)
    ahead = streams.ahead(count + count // _SHARE + _MORE)
    value, length, found = (_normal if kind == "normal" else _exponential)(ahead.words)
    numbers, read, short = _parsed(value, length, found, count)
    if kind == "gumbel":
        numbers = -numbers.clamp(min=_LEAST).log()
    return numbers, ahead.after(read), short


def _following(x: Tensor, by: int) -> Tensor:
    """Return x [B, M] moved ``by`` places to the front, zeros at the end."""
    return torch.nn.functional.pad(x[:, by:], (0, by))


def _wedge(x: Tensor, layer: Tensor, unit: Tensor, tables: _Ziggurat, kind: Kind) -> Tensor:
    """Whether a number between two layers is below the density."""
    low, high = tables.density[(layer - 1).clamp(min=0)], tables.density[layer]
    return ((low - high) * unit + high).double() < _f(x.double(), kind)


def _exponential(words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number that begins at each word [B, M], the words that it takes, and whether it is one."""
    tables = _tables("gumbel", words.device)
    unit = _following((words >> 8).float() * _UNIT, 1)
    layer, integer = (words >> 1) & 0xFF, words >> 9
    x = integer.float() * tables.width[layer]
    quick = integer < tables.inside[layer]
    last = layer == 0
    value = torch.where(quick | ~last, x, tables.tail - torch.log1p(-unit))
    return value, torch.where(quick, 1, 2), quick | last | _wedge(x, layer, unit, tables, "gumbel")


def _normal(words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same of normal numbers; in the tail pairs of words are tried until one will do."""
    tables, size = _tables("normal", words.device), words.shape[1]
    units = (words >> 8).float() * _UNIT
    layer, integer = words & 0xFF, (words >> 9) & 0x7FFFFF
    x = integer.float() * tables.width[layer]
    x = torch.where((words >> 8) & 1 == 1, -x, x)
    quick, last = integer < tables.inside[layer], layer == 0
    logs = -torch.log1p(-units)
    beyond = logs * tables.by_tail
    second = _following(logs, 1)
    place = torch.arange(size, device=words.device)
    good = torch.where(second + second > beyond * beyond, place, 2 * size)
    # the first good pair from each place on, at an even distance
    pairs = torch.nn.functional.pad(good, (0, size % 2), value=2 * size).unflatten(1, (-1, 2))
    first = pairs.flip(1).cummin(1).values.flip(1).flatten(1)[:, :size]
    pair = torch.nn.functional.pad(first[:, 1:], (0, 1), value=2 * size)
    far = tables.tail + beyond.gather(1, pair.clamp(max=size - 1))
    far = torch.where((integer >> 8) & 1 == 1, -far, far)
    in_tail = ~quick & last
    length = torch.where(quick, 1, torch.where(last, pair - place + 2, 2))
    found = quick | last | _wedge(x, layer, _following(units, 1), tables, "normal")
    return torch.where(in_tail, far, x), length, found


def _parsed(value: Tensor, length: Tensor, found: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first ``count`` numbers, beginning at the first word, the words read, and whether they were too few.

    Args:
        value, length, found: [B, M] the number that begins at each word, its words, and whether it is accepted.
    """
    size = value.shape[1]
    place = torch.arange(size, device=value.device)
    over = (place + length).clamp(max=size)  # where the next number begins; `size`: beyond what is seen
    jump = torch.nn.functional.pad(over, (0, 1), value=size)
    begins = torch.zeros_like(jump)
    begins[:, 0] = 1
    for _ in range(size.bit_length()):
        begins = begins.scatter_reduce(1, jump, begins, "amax")
        jump = jump.gather(1, jump)
    taken = (begins[:, :size] == 1) & found
    rank = taken.cumsum(1)
    wanted = taken & (rank <= count)
    numbers = value.new_zeros(len(value), count + 1)
    numbers.scatter_(1, torch.where(wanted, rank - 1, count), value)
    read = torch.where(taken & (rank == count), over, 0).amax(1)
    complete = (taken & (rank == count) & (place + length <= size)).any(1)
    return numbers[:, :count], torch.where(complete, read, 1), ~complete
