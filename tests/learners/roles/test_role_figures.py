"""Pictures of ROMA's roles: the directions by hand, and whole commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oamarl.main import main
from oamarl.storage.records import array_record
from oamarl.tools.plot.roles import directions

from many_runs import make_run


def with_roles(results: Path, seed: int, means: list[np.ndarray]) -> Path:
    """A run's folder with roles at steps 100, 200, ..."""
    folder = make_run(results, "roma", seed, float)
    records = [(100 * k, {"mean": m, "deviation": np.ones_like(m)}) for k, m in enumerate(means, 1)]
    (folder / "roles.arrays").write_bytes(b"".join(array_record(t, found) for t, found in records))
    return folder


def test_directions_are_those_of_the_largest_variance() -> None:
    """Roles on a line in three dimensions; where there is no role there is no place."""
    line = np.array([2.0, 0.0, 0.0])
    means = np.stack([np.stack([-line, line]), np.stack([2 * line, -2 * line])])  # [S, N, D]
    means[1, 1] = np.nan
    (places,), share = directions([means])
    centre = (-2 + 2 + 4) / 3
    np.testing.assert_allclose(np.abs(places[0, :, 0]), [2 + centre, abs(2 - centre)])
    np.testing.assert_allclose(places[0, :, 1], 0.0, atol=1e-12)
    assert np.isnan(places[1, 1]).all()
    np.testing.assert_allclose(share, [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_roles_of_any_size_have_two_directions(size: int) -> None:
    means = np.random.default_rng(0).normal(size=(6, 3, size))
    places, share = directions([means, 2 * means])
    assert [p.shape for p in places] == [(6, 3, 2)] * 2
    assert 0.0 < share.sum() <= 1.0 + 1e-9


def test_a_picture_and_its_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    with_roles(tmp_path, 1, [generator.normal(size=(8, 3, 3)) for _ in range(7)])
    target = tmp_path / "roles.png"
    assert main(["plot", str(tmp_path), "--kind", "roles", "--out", str(target), "--out", str(tmp_path / "x.csv")]) == 0
    assert target.stat().st_size > 10_000
    header, *rows = (tmp_path / "x.csv").read_text().splitlines()
    assert header == "label,task,run,step,sample,agent,first,second"
    assert len(rows) == 5 * 8 * 3
    assert len({row.split(",")[3] for row in rows}) == 5
    capsys.readouterr()


def test_runs_without_roles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "qmix", 1, float)
    assert main(["plot", str(tmp_path), "--kind", "roles", "--out", str(tmp_path / "x.png")]) == 2
    assert "None of these runs has a file roles.arrays" in capsys.readouterr().err
    folder = with_roles(tmp_path, 2, [np.zeros((2, 2, 2))])
    (folder / "roles.arrays").write_bytes(b"nothing that can be read")
    assert main(["plot", str(tmp_path), "--kind", "roles", "--out", str(tmp_path / "x.png")]) == 2
