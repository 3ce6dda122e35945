"""CUDA graphs: library scenarios replayed on a GPU give the bits of steps that are taken one by one there."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon import Simulation
from tests.contracts.library import SMALL, resolved, write_pictures
from tests.contracts.twins import differences, facts
from tests.kit.running import captured

pytestmark = pytest.mark.gpu
STEPPED = (
    *("capture-flag", "cartpole-team", "copy", "feudal-keydoor", "referential-reward", "repeat-copy"),
    *("sparse-updates", "speaker-listener", "cartpole-prior", "referential-game", "eyes", "lossy"),
)
"""Scenarios of which no period can be recorded: agents act, episodes differ, agents learn at random, or a channel has `ridge` or loses messages."""


@pytest.mark.parametrize("name", [name for name in SMALL if name not in STEPPED])
def test_captured_steps_are_the_eager_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    eager = Simulation(resolved(name, {}), seed=3, device="cuda")
    found = captured(resolved(name, {}), seed=3, device="cuda", recorder=None)
    assert found is not None
    replaying, loop = found
    for simulation in (eager, replaying):
        simulation.run(200)
    assert loop.replayed >= 2
    assert not list(differences(facts(eager), facts(replaying), tolerance=0.0))
