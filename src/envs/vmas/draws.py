"""Random numbers of one stream a slot, in place of torch's one generator over the batch.

VMAS draws for all worlds at once from torch's global generator, so a world's numbers would depend on how many there
are and on what the others need. Here a draw whose first axis is the batch takes row b from slot b's own stream: the
numbers of a counter-based generator (SplitMix64, Steele et al. 2014), a function of the slot's key and of how many
numbers it has drawn. Torch's generator is neither read nor advanced by such a draw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ...utils.errors import UserError

_GAP, _MIX1, _MIX2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_S27, _S30, _S31, _S40 = (np.uint64(x) for x in (27, 30, 31, 40))
#: draws after which entities are taken not to fit their area
_MOST_TRIES = 10_000


def mix(x: np.ndarray) -> np.ndarray:
    """Return SplitMix64's hash of ``x`` uint64, element by element."""
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return np.asarray(x ^ (x >> _S31))


def keys_of(seeds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the keys [k] uint64 of the streams of ``steps`` [k] of the episodes of ``seeds`` [k]."""
    return mix(mix(seeds.astype(np.uint64) * _GAP + _GAP) + steps.astype(np.uint64) * _GAP)


class Calls(TorchFunctionMode):
    """Counts the calls of torch's functions while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and call."""
        self.count += 1
        return func(*args, **(kwargs or {}))


class RowDraws:
    """Draws of [B, ...] numbers have a stream a row; any other shape has one stream, of the first row's key.

    Attributes:
        odd: a draw had another shape, or came from a function that is not known here: rows are not independent.
        drawn: draws so far.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.odd = False
        self.drawn = 0
        self.begin(np.zeros(n_rows, np.uint64))

    def begin(self, keys: np.ndarray) -> None:
        """Start the streams of ``keys`` [B] uint64."""
        self._keys, self._counts = keys, np.zeros(self.n_rows, np.uint64)
        self._common, self._common_count = mix(keys[:1]), np.zeros(1, np.uint64)

    def bits(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return random bits, uint64 of ``shape``."""
        if shape and shape[0] == self.n_rows:
            each = int(np.prod(shape[1:], dtype=np.int64))
            return self.row_bits(np.arange(self.n_rows), each).reshape(shape)
        self.odd = True
        each = int(np.prod(shape, dtype=np.int64))
        number = self._common_count + np.arange(1, each + 1, dtype=np.uint64)
        self._common_count = self._common_count + np.uint64(each)
        return mix(self._common + number * _GAP).reshape(shape)

    def row_bits(self, rows: np.ndarray, each: int) -> np.ndarray:
        """Return the next ``each`` numbers of the streams of ``rows`` [k]: [k, each] uint64."""
        number = self._counts[rows, None] + np.arange(1, each + 1, dtype=np.uint64)
        self._counts[rows] += np.uint64(each)
        return mix(self._keys[rows, None] + number * _GAP)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return numbers of [0, 1), float32 of ``shape``."""
        return unit(self.bits(shape))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return standard normal numbers, float32 of ``shape`` (Box and Muller)."""
        both = unit(self.bits((*shape, 2)))
        radius = np.sqrt(-2.0 * np.log1p(-both[..., 0].astype(np.float64)))
        return np.asarray(radius * np.cos(2.0 * np.pi * both[..., 1]), np.float32)


def unit(bits: np.ndarray) -> np.ndarray:
    """Return numbers of [0, 1) float32, of the 24 highest bits of ``bits`` uint64."""
    return (bits >> _S40).astype(np.float32) * np.float32(2.0**-24)


def _shape_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape that a function was asked for: ``rand(2, 3)``, ``rand((2, 3))`` or ``rand(size=...)``."""
    given = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
    return tuple(int(x) for x in given)


def _made(values: np.ndarray, kwargs: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    made = torch.from_numpy(np.ascontiguousarray(values)).reshape(values.shape)
    return made.to(device=kwargs.get("device"), dtype=kwargs.get("dtype") or dtype)


def _within(draws: RowDraws, tensor: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    return tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(tensor.shape))


def _three(given: tuple[Any, ...], second: Any, third: Any) -> tuple[Any, Any, Any]:
    """Return a tensor and two numbers, which have defaults."""
    return given[0], given[1] if len(given) > 1 else second, given[2] if len(given) > 2 else third


def _uniform_(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, low, high = _three(args, kwargs.get("from", 0.0), kwargs.get("to", 1.0))
    return _within(draws, tensor, draws.uniform(tuple(tensor.shape)) * np.float32(high - low) + np.float32(low))


def _normal_(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, mean, std = _three(args, kwargs.get("mean", 0.0), kwargs.get("std", 1.0))
    return _within(draws, tensor, draws.normal(tuple(tensor.shape)) * np.float32(std) + np.float32(mean))


def _rand(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    return _made(draws.uniform(_shape_of(args, kwargs)), kwargs, torch.float32)


def _randn(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    return _made(draws.normal(_shape_of(args, kwargs)), kwargs, torch.float32)


def _like(draw: Callable[[RowDraws, tuple[int, ...]], np.ndarray]) -> Any:
    def answer(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
        given = args[0] if args else kwargs["input"]
        return _made(draw(draws, tuple(given.shape)), {"device": given.device, **kwargs}, given.dtype)

    return answer


def _randint(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    numbers = [x for x in args if isinstance(x, int)]
    shape = next((x for x in args if not isinstance(x, int)), kwargs.get("size"))
    high = kwargs.get("high", numbers[-1] if numbers else None)
    low = kwargs.get("low", numbers[0] if len(numbers) > 1 else 0)
    if shape is None or high is None:
        draws.odd = True
        return func(*args, **kwargs)
    # a range is far below 2 ** 64: the remainder's bias is not to be seen
    drawn = (draws.bits(tuple(shape)) % np.uint64(high - low)).astype(np.int64) + low
    return _made(drawn, kwargs, torch.int64)


def _randperm(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    draws.odd = True
    return _made(np.argsort(draws.bits((args[0],))), kwargs, torch.int64)


def _other(draws: RowDraws, func: Any, args: Any, kwargs: Any) -> Any:
    draws.odd = True
    return func(*args, **kwargs)


_OF_TORCH: dict[str, Callable[[RowDraws, Any, Any, Any], Any]] = {
    "rand": _rand, "randn": _randn, "randint": _randint, "rand_like": _like(RowDraws.uniform),
    "randn_like": _like(RowDraws.normal), "randperm": _randperm,
    **dict.fromkeys(("multinomial", "bernoulli", "normal", "poisson", "randint_like"), _other),
}  # fmt: skip
_OF_TENSORS: dict[str, Callable[[RowDraws, Any, Any, Any], Any]] = {
    "uniform_": _uniform_, "normal_": _normal_, **dict.fromkeys(("bernoulli_", "random_", "exponential_"), _other),
}  # fmt: skip


@contextmanager
def drawing(draws: RowDraws, utils: Any) -> Iterator[None]:
    """While it lasts, torch's functions that draw take their numbers from ``draws`` where this thread calls them.

    A mode of torch's, which sees every call, would cost a reset as much again as the reset itself.

    Args:
        draws: the streams.
        utils: VMAS's class ``ScenarioUtils``.
    """
    thread = threading.get_ident()

    def instead(func: Any, draw: Callable[[RowDraws, Any, Any, Any], Any]) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return func(*args, **kwargs)
            draws.drawn += 1
            return draw(draws, func, args, kwargs)

        return call

    before = {name: getattr(torch, name) for name in _OF_TORCH}
    for name, draw in _OF_TORCH.items():
        setattr(torch, name, instead(before[name], draw))
    for name, draw in _OF_TENSORS.items():  # they are inherited, and shadowed for a while
        setattr(torch.Tensor, name, instead(getattr(torch.Tensor, name), draw))
    try:
        with _placing(utils, draws):
            yield
    finally:
        for name, func in before.items():
            setattr(torch, name, func)
        for name in _OF_TENSORS:
            delattr(torch.Tensor, name)


@contextmanager
def _placing(utils: Any, draws: RowDraws) -> Iterator[None]:
    """While it lasts, VMAS's ``find_random_pos_for_entity`` draws again for the rows alone that need it.

    VMAS draws anew for every world until none needs it, so that the draws after it would depend on the other worlds.

    """
    before = vars(utils)["find_random_pos_for_entity"]

    def find(
        occupied_positions: Any, env_index: Any, world: Any, min_dist_between_entities: Any, x_bounds: Any,
        y_bounds: Any, disable_warn: bool = False,
    ) -> Any:  # fmt: skip
        if env_index is not None or world.batch_dim != draws.n_rows:
            return before.__func__(
                occupied_positions, env_index, world, min_dist_between_entities, x_bounds, y_bounds, disable_warn
            )
        taken = np.asarray(occupied_positions.cpu())
        place = _place(draws, taken, float(min_dist_between_entities), x_bounds, y_bounds)
        return torch.from_numpy(place).to(world.device)

    utils.find_random_pos_for_entity = staticmethod(find)
    try:
        yield
    finally:
        utils.find_random_pos_for_entity = before


def _place(draws: RowDraws, taken: np.ndarray, apart: float, x_bounds: Any, y_bounds: Any) -> np.ndarray:
    """Return places [B, 1, 2] float32, each at least ``apart`` from those ``taken`` [B, n, 2] in its row."""
    low, high = (np.array([x_bounds[i], y_bounds[i]], np.float32) for i in (0, 1))
    place = np.zeros((draws.n_rows, 1, 2), np.float32)
    rows = np.arange(draws.n_rows)
    for _ in range(_MOST_TRIES):
        place[rows, 0] = unit(draws.row_bits(rows, 2)) * (high - low) + low
        near = np.linalg.norm(taken[rows] - place[rows], axis=-1) < apart
        rows = rows[near.any(-1)]
        if not len(rows):
            return place
    raise UserError(
        f"VMAS finds no room for its entities, at least {apart:g} apart: lower their number, or make the area larger."
    )
