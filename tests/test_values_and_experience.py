"""The maps of what agents learn from one another: the formulas, against the best mixture by brute force."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def drawn() -> Any:
    """The module of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location("values_and_experience", ROOT / "benchmarks/values_and_experience.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("apart", [0.0, 0.7, 2.0])
def test_gains_are_those_of_the_best_mixture(drawn: Any, apart: float) -> None:
    share = np.linspace(0.0, 1.0, 20_001)
    for k in (0.2, 0.9):  # rewards' part of the error stays, the bootstrap value's is mixed
        error = (1 - k) + (1 - share) ** 2 * k + share**2 * (k + apart**2)
        assert drawn.gain_of_values(k, apart) == pytest.approx(1 - error.min(), abs=1e-6)
    for c in (0.0, 3.0):
        error = (1 - share) ** 2 + share**2 * (1 + c + apart**2)
        assert drawn.gain_of_experience(c, apart) == pytest.approx(1 - error.min(), abs=1e-6)
