"""A device that is not there: tensors with real numbers that only its own operations may read.

Its name is ``meta``, which every build of torch has. A mode carries out each operation on the CPU and notes those that
would make a real device wait: a number that is read, a copy to the host, a shape that depends on numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR, NEAR = torch.device("meta"), torch.device("cpu")
#: operations whose result has a shape that depends on numbers, or is a number of Python's
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
#: operations between the two devices
COPIES = {"_to_copy", "copy_"}


class Far(torch.Tensor):
    """A tensor of the far device; ``near`` has its numbers."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        with torch.inference_mode(False):
            made: Far = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
                device=FAR,
            )  # fmt: skip
        made.near = near
        return made

    def tolist(self) -> Any:
        """As torch's of a tensor on a device: a copy to the host."""
        return self.cpu().tolist()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_moved(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_moved(index), value)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Watch.current[-1].run(func, args, kwargs or {})


class Watch(TorchDispatchMode):
    """Carries operations out; ``seen`` counts what would make a device wait."""

    current: ClassVar[list[Watch]] = []

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.captured = False

    @contextmanager
    def capture(self) -> Iterator[None]:
        """While it lasts, nothing may be done that a CUDA graph cannot hold: reads, and copies to or from the host."""
        self.captured, before = True, sum(self.seen.values())
        yield
        self.captured = False
        if sum(self.seen.values()) > before:
            raise AssertionError(f"a graph cannot hold one of {dict(self.seen)}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Carry out one operation."""
        name, asked = func._schema.name.removeprefix("aten::"), kwargs.get("device")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        far = [x for x in tensors if isinstance(x, Far)]
        host = [x for x in tensors if not isinstance(x, Far)]
        asked = None if asked is None else torch.device(asked)
        self._note(name, func, far, host, asked, args, kwargs.get("output_size"))
        owners = {id(x.near): x for x in far}
        out = func(*tree_map(_near, args), **tree_map(_near, kwargs))
        to_far = bool(far) if asked is None or name == "copy_" else torch.device(asked) == FAR
        if name == "copy_":
            to_far = isinstance(args[0], Far)

        def given(x: Any) -> Any:
            if not isinstance(x, torch.Tensor) or not to_far:
                return x
            owner = owners.get(id(x))  # an operation in place gives back what it was given
            return Far(x) if owner is None else owner

        return tree_map(given, out)

    def _note(
        self, name: str, func: Any, far: list[Any], host: list[Any], asked: Any, args: Any, size: int | None
    ) -> None:
        if far and name in WAITING:
            self.seen[name] += 1
        if far and name in ("index", "index_put", "index_put_"):
            self.seen["mask as index"] += any(x.dtype == torch.bool for x in tree_leaves(args[1]) if x is not None)
        if far and name == "repeat_interleave" and func._overloadname == "Tensor" and size is None:
            self.seen["repeat_interleave"] += 1
        if name in COPIES:
            target = asked if name == "_to_copy" else (FAR if isinstance(args[0], Far) else NEAR)
            source = args[1] if name == "copy_" else args[0]
            if target is not None and (target == FAR) != isinstance(source, Far):
                self.seen["to the device" if target == FAR else "to the host"] += 1
        elif far and any(x.dim() for x in host):
            raise AssertionError(f"{name} gets tensors of the device and of the host")


def _moved(index: Any) -> Any:
    """Lists as indices become tensors of the device, a copy each; torch would leave their numbers out on ``meta``."""
    if isinstance(index, tuple):
        return tuple(map(_moved, index))
    if isinstance(index, list):
        return (torch.tensor(index) if index else torch.zeros(0, dtype=torch.long)).to(FAR)
    return index


def _near(x: Any) -> Any:
    if isinstance(x, Far):
        return x.near
    return NEAR if isinstance(x, torch.device) and x == FAR else x


@contextmanager
def far_device() -> Iterator[Watch]:
    """While it lasts, ``meta`` is a device with numbers; yields what watches it."""
    watch = Watch()
    Watch.current.append(watch)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    made = torch.tensor

    def tensor(data: Any, *, device: Any = None, **more: Any) -> torch.Tensor:
        """As torch's, which would leave numbers out on ``meta``."""
        found = made(data, **more)
        return found.to(FAR) if device is not None and torch.device(device) == FAR else found

    torch.tensor = tensor
    try:
        with watch:
            yield watch
    finally:
        torch.tensor = made
        Watch.current.pop()
        torch.__future__.set_swap_module_params_on_conversion(before)
