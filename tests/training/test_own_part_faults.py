"""Faults of user-supplied parts, before training and in it: one sentence each, and the traceback in run.log alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from oamarl.main import main

FAULTS = {
    "agent=own_parts:FailsInLearning": (1, "failed with RuntimeError: of the network (own_parts.py, line"),
    "critic=own_parts:FailsInLearning": (1, "failed with RuntimeError: of the network (own_parts.py, line"),
    "learner=own_parts:Notices": (2, "Notices.notices must return a list of sentences, not 'one sentence'"),
    "action_selector=own_parts:OutOfRange": (1, "select chose action 99 for agent 0, and legal are"),
    "action_selector=own_parts:OtherShape": (1, "select returned actions as an array"),
    "action_selector=own_parts:Raises": (1, "failed in select with RuntimeError: of the selector (own_parts.py, line"),
    "action_selector=own_parts:RecordsNothing": (1, "record returned nothing, and its `fields` declare message"),
    "action_selector=own_parts:OtherConstructor": (2, "cannot be built and sent to workers (TypeError"),
}


@pytest.mark.parametrize("words", FAULTS)
def test_one_sentence(
    words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    status, sentence = FAULTS[words]
    small = ["t_max=200", "batch_size_run=2", "test_nepisode=0", "backend=serial", f"local_results_path={tmp_path}"]
    assert main(["--config=mappo", "--env-config=maze", "with", *small, words]) == status
    out = "".join(capfd.readouterr())
    assert sentence in out
    assert "Traceback" not in out
    if status == 1:
        (log,) = tmp_path.rglob("run.log")
        assert "Traceback" in log.read_text()
        assert str(log) in out


def test_selective_sharing_of_continuous_actions() -> None:
    import torch

    from oamarl.modules.seps import FitOptions, Transitions, fit

    g = torch.Generator().manual_seed(0)
    m, agent = 240, torch.arange(240) % 2
    action = torch.randn(m, 2, generator=g) * 50
    obs = torch.randn(m, 3, generator=g)
    data = Transitions(agent, obs, action, obs + action[:, :1] * (1 - 2 * agent[:, None]), action[:, 0])
    found = fit(data, [3, 3], 2, FitOptions(2, 16, 3, 32, 1e-3, 1e-4), g)
    assert found.mean.shape == (2, 2)
