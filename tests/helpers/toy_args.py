"""Constructors with all kinds of arguments, for tests of how these are read; each keeps what it got in ``got``."""

from __future__ import annotations

import enum
import functools
import pathlib
import typing
from collections.abc import Sequence
from typing import Any, Literal, Optional, Union

import gymnasium
import numpy as np
import numpy.typing as npt

from toy_envs import Toy
from toy_gym import OneAgent
from toy_zoo import Leaving

if typing.TYPE_CHECKING:
    from nowhere import Nothing


class Mode(enum.Enum):
    GLOBAL = 0
    LOCAL = 1


class Colour(enum.Flag):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(str, enum.Enum):
    PLAIN = "alpha"
    FANCY = "beta"


class Twin(enum.Enum):
    a = 0
    A = 1


class Declared(OneAgent):
    """Types in annotations; some of them are wrong about the default, or cannot be found."""

    def __init__(
        self,
        mode: Mode = Mode.LOCAL,
        maybe: Optional[Mode] = None,  # noqa: UP045
        either: Union[Mode, int] = 0,  # noqa: UP007
        modes: list[Mode] = (),  # type: ignore[assignment]
        by_name: dict[str, Mode] | None = None,
        unknown: Nothing = False,
        choice: Literal["x", "y", 3] = "x",
        pair: tuple[int, int] = (1, 2),
        array: npt.NDArray[np.float32] | None = None,
        numbers: Sequence[float] = (),
        kind: str = Kind.PLAIN,
        level: int = Level.LOW,
        colour: Colour = Colour.RED,
        twin: Twin = Twin.a,
        ratio: float = 1,
        count: int = 2,
        implied: int = None,  # type: ignore[assignment]  # noqa: RUF013
        flag: bool = False,
        anything: Any = None,
        text: str = "",
    ) -> None:
        self.got = {k: v for k, v in locals().items() if k not in ("self", "__class__")}


class Undeclared(OneAgent):
    """Nothing but defaults, as in most packages."""

    def __init__(  # type: ignore[no-untyped-def]
        self, flag=False, count=3, ratio=1.5, mode=Mode.LOCAL, text="plain", pair=(1, 2), flags=(True,),
        config={"noisy": False, "n": 1}, open=None, array=np.zeros(2), pairs=[(1, 2)],  # noqa: B006, B008
    ):  # fmt: skip
        self.got = {k: v for k, v in locals().items() if k not in ("self", "__class__")}


class Base(OneAgent):
    def __init__(self, size: int = 3, slippery=False) -> None:  # type: ignore[no-untyped-def]
        self.got: dict[str, Any] = {"size": size, "slippery": slippery}


class Passing(Base):
    def __init__(self, mode: Mode = Mode.LOCAL, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.got["mode"] = mode


class _Picked(OneAgent):
    def __init__(self, got: dict[str, Any]) -> None:
        self.got = got


def picking(where: pathlib.PurePath | None = None, wind: bool | str = True, **rest: Any) -> Any:
    return _Picked({"where": where, "wind": wind, "mode": rest.get("mode", Mode.LOCAL)})


def wrapped(inner: Any) -> Any:
    def make(**kwargs: Any) -> Any:
        return inner(**kwargs)

    return make


def imported(**rest: Any) -> Any:
    from toy_args import Passing as It

    return It(**rest)


twice = wrapped(wrapped(Passing))
shorthand = lambda **kwargs: Passing(**kwargs)  # noqa: E731
partial = functools.partial(Passing, mode=Mode.GLOBAL)


class Picking(OneAgent):
    def __init__(self, **kwargs: Any) -> None:
        self.got = {"flag": kwargs.pop("flag", False), "n": kwargs.get("n", 3)}


class Swallowing(OneAgent):
    def __init__(self, players: int = 2, **kwargs: Any) -> None:
        self.got = {"players": players, **kwargs}


class Team(Leaving):
    def __init__(self, mode: Mode = Mode.LOCAL, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mode = mode


class Own(Toy):
    """An environment in this package's protocol; it pays only where its argument is the member itself."""

    def __init__(self, mode: Mode = Mode.LOCAL, corner: tuple[int, int] = (0, 0), ratio=1.0, limit: int = 4) -> None:  # type: ignore[no-untyped-def]
        super().__init__(limit)
        self.pays, self.corner, self.ratio = mode is Mode.GLOBAL, corner, ratio

    def step(self, actions: np.ndarray, out: Any) -> None:
        super().step(actions, out)
        out.reward[:] = np.full(2, float(self.pays and type(self.corner) is tuple))


class OwnLoose(Own):
    def __init__(self, hint=None, **kwargs: Any) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**kwargs)


gymnasium.register("ToyRegistered-v0", entry_point=Swallowing, kwargs={"players": 3, "mode": Mode.LOCAL, "wide": False})
