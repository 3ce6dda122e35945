"""The guard: what is not finite moves no parameter, the host waits for no number, and the next sync reports it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon.engine.core.divergence import Guard, Place
from antiphon.engine.runs.directory import RunDirectory, facts_of
from antiphon.engine.runs.run import Run
from antiphon.engine.simulation import Simulation
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.step.backends import StackedBackend
from antiphon.errors import DivergenceError
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import CLASSIFY, scenario_of

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "aten.equal", "_unique")
"""Operations whose result the host has to wait for."""


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(name in str(func) for name in WAITS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def ring(network: dict[str, Any], *, stacked: bool = True, **channel: Any) -> Simulation:
    names = [f"n{i}" for i in range(6)]
    agent = {"observes": ["image"], "network": network, "objective": CLASSIFY, "clock": {"unroll": 2}}
    plain = {"size": 4, "norm": "none", "link": {"delay": 1}}
    ends = zip(names, names[1:] + names[:1], strict=True)
    channels = [{"from": a, "to": b, **plain, **channel} for a, b in ends]
    scenario = scenario_of(dict.fromkeys(names, agent), channels, telemetry={"every": 10}, batch=4, steps=400)
    return Simulation(scenario, backend="cohort", stacked=stacked)


def later(simulation: Simulation) -> Simulation:
    assert isinstance(simulation.backend, StackedBackend)
    simulation.backend.check_later()
    assert simulation.backend.divergence.guard is not None
    return simulation


stacked_and_lone = pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "lone"])

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "hidden": [8], "norm": "none"},
    "batch norm": {"kind": "mlp", "hidden": [8], "norm": "batch"},
    "lstm": {"kind": "lstm", "size": 5},
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("gradient", ["linear", "mlp"])
@stacked_and_lone
def test_the_host_waits_for_no_number_in_the_step_loop(network: str, gradient: str, stacked: bool) -> None:
    # Without the label as context: torch's one_hot looks at its argument, but on the CPU alone.
    simulation = later(ring(NETWORKS[network], stacked=stacked, gradient={"kind": gradient, "context": []}))
    for _ in range(3):
        simulation.step()
    with _Waits() as waits:
        for _ in range(4):
            simulation.step()
    assert waits.found == []


def test_without_it_the_host_waits() -> None:
    simulation = ring(NETWORKS["mlp"])
    simulation.step()
    with _Waits() as waits:
        simulation.step()
        simulation.step()
    assert waits.found


@pytest.mark.parametrize("network", NETWORKS)
@stacked_and_lone
def test_it_changes_no_bit(network: str, stacked: bool) -> None:
    one, other = later(ring(NETWORKS[network], stacked=stacked)), ring(NETWORKS[network], stacked=stacked)
    for simulation in (one, other):
        for _ in range(12):
            simulation.step()
    assert equal(all_parameters(one), all_parameters(other))


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_moves_from_the_step_on_and_the_report_names_agent_and_step(network: str) -> None:
    simulation = later(ring(NETWORKS[network]))
    simulation.run(12)
    agents = simulation._system.agents
    next(iter(agents["n3"].learner.parameters.values())).data.fill_(float("nan"))
    before = {
        (name, key): p.data.clone() for name, a in agents.items() for key, p in a.learner.parameters.items()
    }
    statistics = {
        (name, key): b.clone() for name, a in agents.items() for key, b in a.learner.buffers.items()
    }
    with pytest.raises(DivergenceError, match=r"agent 'n3': the gradient at step 13 is not finite"):
        simulation.run(steps=30)
    assert simulation.now == 19  # the sync after step 19, counted from 0
    for name, agent in simulation._system.agents.items():
        for key, p in agent.learner.parameters.items():
            assert torch.equal(p.data.nan_to_num(7.0), before[name, key].nan_to_num(7.0))
        for key, b in agent.learner.buffers.items():
            if name != "n3" and "n4" not in name:  # one tick of the window had gone by when it was found out
                assert b.isfinite().all()
                assert statistics[name, key].shape == b.shape


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["agent", "predictor"])
@pytest.mark.parametrize("network", ["mlp", "batch norm"])
@stacked_and_lone
def test_the_line_is_that_of_the_host_and_everything_is_as_before_the_step(
    network: str, what: str, poison: float, stacked: bool
) -> None:
    """All that a checkpoint has: parameters, running statistics, moments and counts of agents and predictors."""
    lines = []
    for checked in (later, lambda simulation: simulation):
        simulation = checked(
            ring(NETWORKS[network], stacked=stacked, gradient={"kind": "mlp", "norm": "batch"})
        )
        simulation.run(12)
        simulation.step()  # half a window: the next step learns, as every second does
        if what == "agent":
            owner: Any = simulation._system.agents["n3"].learner
        else:
            owner = simulation._system.channels["n2->n3"].predictor
        next(iter(owner.parameters.values())).data.view(-1)[0] = poison
        learned = [*simulation._system.agents.values()], [*simulation._system.channels.values()]
        before = [copy_tree(one.learner.state_dict()) for one in learned[0]]
        trained = [c.predictor for c in learned[1] if c.predictor is not None]
        before += [copy_tree(one.state_dict()) for one in trained]
        with pytest.raises(DivergenceError) as found:
            simulation.run(steps=30)
        lines.append(str(found.value))
        after = [one.learner.state_dict() for one in simulation._system.agents.values()]
        after += [c.predictor.state_dict() for c in simulation._system.channels.values() if c.predictor]
        for old, new in zip(before, after, strict=True):
            for part in ("parameters", "buffers"):
                for key, value in old[part].items():
                    torch.testing.assert_close(new[part][key], value, rtol=0, atol=0, equal_nan=True)
            for key, values in old["optimiser"].items():
                for value, own in zip(values, new["optimiser"][key], strict=True):
                    assert torch.equal(own, value)
    assert lines[0] == lines[1]
    assert "step 13 is not finite" in lines[0]


def test_a_predictor_that_is_not_finite_is_named_too() -> None:
    simulation = later(ring(NETWORKS["mlp"]))
    simulation.run(12)
    predictor = simulation._system.channels["n2->n3"].predictor
    assert predictor is not None
    before = simulation._system.agents["n0"].learner.parameters["0.weight"].data.clone()
    predictor.parameters["last.weight"].data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match=r"agent 'n2'"):
        simulation.run(steps=30)
    assert torch.equal(simulation._system.agents["n0"].learner.parameters["0.weight"].data, before)


@pytest.mark.parametrize("training", [{"on_divergence": "quarantine"}, {"bound": 1e6}])
def test_where_every_step_is_checked_at_once_there_is_none(training: dict[str, Any]) -> None:
    scenario = ring(NETWORKS["mlp"]).scenario.with_training(**training)
    simulation = Simulation(scenario, backend="cohort")
    assert isinstance(simulation.backend, StackedBackend)
    simulation.backend.check_later()
    assert simulation.backend.divergence.guard is None


def test_it_remembers_the_first_step_and_who() -> None:
    guard = Guard(torch.device("cpu"))
    sound = torch.full((3, 4), torch.finfo(torch.float32).max)  # no finite number is too large
    broken = sound.clone()
    broken[1, 2] = float("inf")
    a, b, c = Place("update", "a"), Place("returned", "b"), Place("predictor", "c")

    def step(now: int, *looked: tuple[Place, int, list[Tensor | None]]) -> None:
        for one in looked:
            guard.look(*one)
        guard.check()
        guard.close(now)

    step(4, (a, 3, [sound, None]))
    step(5)
    assert guard.read() is None
    assert [float(guard.skip.flag), float(guard.skip.count)] == [0.0, 1.0]
    assert torch.equal(guard.frozen(broken, sound), sound)
    step(6, (c, 1, [torch.tensor([1.0])]))
    step(7, (a, 3, [sound, broken]), (b, 2, [torch.tensor([float("nan"), 0.0])]), (c, 1, [sound, broken]))
    step(8, (a, 3, [sound, None]))
    step(9, (c, 1, [torch.tensor([float("nan")])]))
    assert [float(guard.skip.flag), float(guard.skip.count)] == [1.0, 0.0]
    assert guard.read() == (7, {a: [1], b: [0], c: [0]})
    assert torch.equal(guard.frozen(sound, broken), sound)


def diverged_unseen(network: str = "mlp") -> Simulation:
    """A simulation two steps after a divergence at step 13 that no sync has found yet."""
    simulation = later(ring(NETWORKS[network]))
    simulation.run(12)
    next(iter(simulation._system.agents["n3"].learner.parameters.values())).data.fill_(float("nan"))
    for _ in range(4):
        simulation.step()
    assert simulation.diverged is None
    return simulation


LOOKS: dict[str, Callable[[Simulation, Path], object]] = {
    "save": lambda simulation, path: simulation.save(path / "point"),
    "fork": lambda simulation, _: simulation.fork(),
    "state_dict": lambda simulation, _: simulation._state_dict(),
    "evaluate": lambda simulation, _: simulation.evaluate(),
    "compose": lambda simulation, _: simulation.compose(),
    "export": lambda simulation, path: simulation.export(path / "weights.safetensors"),
    "probe": lambda simulation, _: simulation.probe(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_finds_a_divergence_that_no_sync_has_found(look: str, tmp_path: Path) -> None:
    simulation = diverged_unseen()
    with pytest.raises(DivergenceError, match=r"agent 'n3': the gradient at step 13 is not finite"):
        LOOKS[look](simulation, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DivergenceError, match="step 13"):
        simulation.step()
    assert Simulation.load(simulation.save(tmp_path / "after")).diverged == simulation.diverged


def test_a_run_in_python_that_ends_before_the_sync_has_diverged() -> None:
    simulation = later(ring(NETWORKS["mlp"]))
    simulation.run(12)
    next(iter(simulation._system.agents["n3"].learner.parameters.values())).data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="step 13"):
        simulation.run(
            seconds=3600, on_step=lambda s: os.kill(os.getpid(), signal.SIGINT) if s.now == 16 else None
        )
    assert simulation.now == 16


def test_a_run_whose_checkpoint_comes_before_the_sync_has_diverged(tmp_path: Path) -> None:
    simulation = later(ring(NETWORKS["mlp"]))
    directory = RunDirectory.create(
        tmp_path / "run", simulation.scenario, facts_of(simulation.scenario, seed=0, device="cpu")
    )

    def poison(step: int, _: object) -> None:
        if step == 12:
            simulation._system.agents["n3"].learner.parameters["0.weight"].data.fill_(float("nan"))

    (outcome,) = Run([simulation], [directory], 400).train(poison, checkpoint_every=8)
    assert (outcome.exit_code, outcome.result["exit"]) == (DivergenceError.exit_code, "diverged")
    assert "step 13" in str(outcome.error)
    assert directory.facts["exit"] == "diverged"
    assert simulation.now == 16
    assert Simulation.load(directory.path).diverged == outcome.error


def test_a_state_of_before_the_divergence_goes_on() -> None:
    simulation = later(ring(NETWORKS["mlp"]))
    simulation.run(12)
    state = copy_tree(simulation._state_dict())
    simulation._system.agents["n3"].learner.parameters["0.weight"].data.fill_(float("nan"))
    with pytest.raises(DivergenceError):
        simulation.run(steps=30)
    simulation._load_state_dict(state)
    before = simulation._system.agents["n0"].learner.parameters["0.weight"].data.clone()
    simulation.run(steps=8)
    assert not torch.equal(simulation._system.agents["n0"].learner.parameters["0.weight"].data, before)


@pytest.mark.parametrize("on_device", [False, True])
def test_running_statistics_do_not_move_to_what_is_not_finite(on_device: bool) -> None:
    network = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    simulation = ring(network, coupling="detached")
    if on_device:
        later(simulation)
    for name, parameter in simulation.agents["n2"].parameters.items():
        if name.startswith("to_n3"):
            parameter.data.fill_(1e25)
    simulation.run(8)
    for agent in simulation.agents.values():
        assert all(bool(own.isfinite().all()) for own in agent.module.state_dict().values())
