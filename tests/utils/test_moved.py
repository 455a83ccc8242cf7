"""Packages written against earlier names of modules find them, with a warning."""

from __future__ import annotations

import importlib
import sys

import pytest

from oamarl.utils.moved import MOVED, MOVED_NAMES


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_the_same_objects(old: str) -> None:
    sys.modules.pop(f"oamarl.{old}", None)
    with pytest.warns(FutureWarning, match=f"oamarl.{old} is oamarl.{MOVED[old]} now"):
        module = importlib.import_module(f"oamarl.{old}")
    now = importlib.import_module(f"oamarl.{MOVED[old]}")
    own = [n for n, x in vars(now).items() if getattr(x, "__module__", "") == now.__name__ and not n.startswith("_")]
    assert own
    assert all(getattr(module, name) is getattr(now, name) for name in own)


def test_no_old_name_hides_a_module_of_today() -> None:
    import test_floors

    assert not set(MOVED) & set(test_floors.MODULES)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in MOVED_NAMES.items() for name in names]
)
def test_what_moved_is_found_at_its_old_place(module: str, name: str) -> None:
    now = f"oamarl.{MOVED_NAMES[module][name]}"
    with pytest.warns(FutureWarning, match=f"oamarl.{module}.{name} is in {now} now") as said:
        old = getattr(importlib.import_module(f"oamarl.{module}"), name)
    assert old is getattr(importlib.import_module(now), name)
    assert said[0].filename == __file__


@pytest.mark.parametrize("module", MOVED_NAMES)
def test_what_a_module_never_held_is_unknown_there(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'oamarl.{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(f"oamarl.{module}").nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from oamarl.{module} import nothing")


def test_other_names_are_still_unknown() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"oamarl\.components\.nothing"):
        importlib.import_module("oamarl.components.nothing")
