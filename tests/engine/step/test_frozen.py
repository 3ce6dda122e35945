"""Frozen and pretrained agents: `learn: false` and `weights: RUN:agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64


def chain(coupling: str = "decoupled", *, width: int = 6, **middle: Any) -> Scenario:
    """a -> b -> c with batch norm; b is the one that is changed."""
    net = {"kind": "mlp", "hidden": [width], "norm": "batch"}
    agents = {
        "a": {"observes": ["image"], "network": net},
        "b": {"network": net, **middle},
        "c": {"network": {"kind": "mlp", "hidden": []}, "objective": CLASSIFY},
    }
    channel = {"coupling": coupling, "gradient": {"context": ["label"]}}
    channels = [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]
    return scenario_of(agents, channels, optimiser={"kind": "adam", "lr": 0.01})


def numbers(simulation: Simulation, agent: str) -> dict[str, torch.Tensor]:
    learner = simulation._system.agents[agent].learner
    return {k: v.data.clone() for k, v in (learner.parameters | learner.buffers).items()}


def moved(before: dict[str, torch.Tensor], simulation: Simulation, agent: str) -> list[str]:
    return [k for k, v in numbers(simulation, agent).items() if not torch.equal(v, before[k])]


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_a_frozen_agent_never_moves_but_passes_the_gradient_on(coupling: str) -> None:
    simulation = Simulation(chain(coupling, learn=False))
    before = {name: numbers(simulation, name) for name in "abc"}
    simulation.run(12)
    assert not moved(before["b"], simulation, "b")
    assert simulation.agents["b"].updates == 0
    for name in "ac":
        assert any("weight" in key for key in moved(before[name], simulation, name))


def test_behind_a_frozen_agent_a_locked_group_equals_plain_autograd_in_evaluation_mode_there() -> None:
    simulation = Simulation(chain("locked", learn=False), dtype=DOUBLE)
    simulation.run(3)  # running statistics that are not those of the batch
    modules = {n: simulation.agents[n].module.get_submodule("network") for n in "abc"}
    signals = simulation.world.step_signals.signals
    simulation.step()
    (update,) = simulation.learned.updates
    a, b, c = modules["a"].train(), modules["b"].eval(), modules["c"]
    trunks = a.get_submodule("trunk"), b.get_submodule("trunk"), c.get_submodule("head_objective")
    hidden = trunks[1](trunks[0](signals["image"].flatten(1)))
    loss = F.cross_entropy(trunks[2](hidden), signals["label"])
    expected = torch.autograd.grad(loss, list(a.parameters()))
    for found, wanted in zip(update.gradients["a"], expected, strict=True):
        assert found is not None
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
    assert update.gradients["b"] == []


def test_a_decoupled_sender_learns_what_comes_through_a_frozen_agent() -> None:
    simulation = Simulation(chain("decoupled", learn=False))
    simulation.run(4)
    delta = simulation.learned.predictor_updates["a->b"].examples[-1].delta
    assert delta is not None
    assert bool(delta.abs().sum() > 0)


def test_weights_come_from_a_checkpoint(tmp_path: Path) -> None:
    teacher = Simulation(chain(), seed=1)
    teacher.run(6)
    run = teacher.save(tmp_path / "checkpoints" / "step-000000006")
    for source in (run, tmp_path):
        pupil = Simulation(chain(weights=f"{source}:b"), seed=2)
        assert not moved(numbers(teacher, "b"), pupil, "b")
        assert moved(numbers(teacher, "a"), pupil, "a")
        assert pupil.agents["b"].updates == 0
    pupil.run(2)
    assert moved(numbers(teacher, "b"), pupil, "b")
    kept = Simulation(chain(weights=f"{run}:b", learn=False))
    kept.run(2)
    assert not moved(numbers(teacher, "b"), kept, "b")


def test_a_run_with_weights_goes_on_after_their_source_is_gone(tmp_path: Path) -> None:
    teacher = Simulation(chain(), seed=1)
    source = teacher.save(tmp_path / "teacher")
    pupil = Simulation(chain(weights=f"{source}:b"))
    pupil.run(2)
    saved = pupil.save(tmp_path / "pupil")
    for file in source.iterdir():
        file.unlink()
    loaded, twin = Simulation.load(saved), pupil.fork()
    for simulation in (pupil, loaded, twin):
        simulation.run(3)
    for name in "abc":
        assert not moved(numbers(pupil, name), loaded, name)
        assert not moved(numbers(pupil, name), twin, name)


def test_weights_that_cannot_be_had_are_one_clear_line(tmp_path: Path) -> None:
    run = Simulation(chain()).save(tmp_path / "run")
    for weights, width, expected in (
        (f"{tmp_path / 'nowhere'}:b", 6, "neither a checkpoint nor a run with one"),
        (f"{run}:z", 6, "has no agent 'z'"),
        (f"{run}:b", 5, r"'b' of .* has parameters 0.weight \(6, 6\), this agent needs \(5, 5\)"),
        (f"{run}:c", 6, "'c' of .* has parameters"),
    ):
        with pytest.raises(ScenarioError, match=expected) as caught:
            Simulation(chain(width=width, weights=weights))
        assert str(caught.value).startswith("agents.b.weights: ")
        assert "\n" not in str(caught.value)
