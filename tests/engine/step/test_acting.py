"""Acting agents: what one says is the environment's action, at the steps at which it ticks (semantics 13)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.simulation import Simulation
from tests.engine.scenes import scenario_of


def copying(clock: dict[str, Any] | None = None, *, acts: bool = True) -> Simulation:
    """One that copies, beside another one that looks on; the task never grows."""
    own = {"observes": ["symbol"], "network": {"kind": "lstm", "size": 5}}
    own["objective"] = {"kind": "coding", "target": "target"}
    agents = {"looker": own, "copier": {**own, "acts": acts, "clock": clock or {}}}
    env = {"id": "antiphon/Copy-v0", "bits": 2, "max_length": 3, "threshold": 100}
    scenario = scenario_of(agents, env=env, batch=4, optimiser={"kind": "adam", "lr": 0.01})
    return Simulation(scenario, dtype=torch.float64)


def acted(simulation: Simulation, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """What reached the environment at each step."""
    env, found = simulation.world.env, []
    step = env.step

    def noted(actions: Any = None) -> Any:
        found.append(actions)
        return step(actions)

    monkeypatch.setattr(env, "step", noted)
    simulation.run(steps)
    return found


@pytest.mark.parametrize(("period", "phase"), [(1, 0), (2, 1), (3, -1)])
def test_it_acts_when_it_ticks_and_only_then(
    period: int, phase: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying({"period": period, "phase": phase, "unroll": 4}) as simulation:
        said: dict[int, Tensor] = {}
        tick = simulation.backend.forward_pass.tick

        def noted(step: int, moment: Any) -> None:
            tick(step, moment)
            tape = simulation.system.group_of["copier"].tape
            said.update({t.step: t.parts[0].ports[OBJECTIVE] for t in tape.ticks if t.step == step})

        monkeypatch.setattr(simulation.backend.forward_pass, "tick", noted)
        found = acted(simulation, 12, monkeypatch)
    assert [action is not None for action in found] == [t % period == phase % period for t in range(12)]
    for step, action in enumerate(found):
        if action is not None:
            assert torch.equal(action, said[step])
            assert not action.requires_grad


def test_who_does_not_act_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with copying(acts=False) as simulation:
        assert acted(simulation, 9, monkeypatch) == [None] * 9


def test_what_is_done_changes_what_is_shown() -> None:
    """Whatever it says is good enough here, so that tasks grow: with the actor, and not without it."""
    with copying() as simulation, copying(acts=False) as idle:
        for each in (simulation, idle):
            each.run(120)
        assert simulation.world.env.figures()["difficulty"] > 1
        assert idle.world.env.figures()["difficulty"] == 1
