"""Policies of many agents as one: stacks, seeds side by side, and a state that goes on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.acting import ONE, Stage
from tests.engine.scenes import scenario_of

PAIRS = 3
GRU = {"kind": "gru", "size": 4, "norm": "none"}
MLP = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}
PPO = {"kind": "ppo", "epochs": 3, "minibatches": 2}
SPACE = spaces.Dict({f"m{i}": spaces.Discrete(3) for i in range(PAIRS)})


def population(
    coupling: str = "decoupled", motor: Any = MLP, objective: Any = None, **agent: Any
) -> Scenario:
    """Pairs of a sender and a motor, each of which acts for its own part and has its own reward."""
    agents, channels = {}, []
    clock = agent.pop("clock", {"unroll": 4})
    for i in range(PAIRS):
        agents[f"s{i}"] = {"observes": ["view"], "network": MLP, "clock": clock}
        own = {"observes": ["place"], "network": motor, "clock": clock, "acts": f"m{i}"}
        agents[f"m{i}"] = {**own, "objective": objective or PPO, **agent}
        channel = {"from": f"s{i}", "to": f"m{i}", "size": 2, "norm": "none", "coupling": coupling}
        channels.append(channel | ({"gradient": {"kind": "linear"}} if coupling == "decoupled" else {}))
    source = Stage(SPACE, rewards=("m0", "m1"), gaps=0.1)
    adam = {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, channels, source, batch=8, optimiser=adam, predictor=adam)


def single(**agent: Any) -> Scenario:
    own = {"observes": ["view"], "network": MLP, "clock": {"unroll": 4}, "acts": True, "objective": PPO}
    sgd = {"kind": "adam", "lr": 0.01}
    return scenario_of({"m": {**own, **agent}}, env=Stage(ONE), batch=8, optimiser=sgd)


def numbers(simulation: Simulation) -> dict[str, Tensor]:
    found = {}
    for name, agent in simulation._system.agents.items():
        found |= {f"{name}.{key}": p.detach().clone() for key, p in agent.learner.parameters.items()}
    for name, channel in simulation._system.channels.items():
        if channel.predictor is not None:
            found |= {f"{name}.{k}": p.detach().clone() for k, p in channel.predictor.parameters.items()}
    return found


def equal(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=atol), name


VARIANTS: dict[str, Scenario] = {
    "decoupled": population(),
    "locked": population("locked"),
    "recurrent": population(motor=GRU),
    "locked recurrent": population("locked", GRU),
    "reinforce": population(objective={"kind": "reinforce"}),
    "sparse": population(p_update=0.5),
    "slower": population(clock={"period": 2, "phase": 1, "unroll": 3}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stack_is_its_members(name: str) -> None:
    with Simulation(VARIANTS[name], seed=2, dtype=torch.float64) as whole:
        assert sum(len(agent.members) > 1 for agent in whole.backend.system.agents.values()) == 2
        with Simulation(VARIANTS[name], seed=2, dtype=torch.float64, stacked=False) as apart:
            for simulation in (whole, apart):
                simulation.run(26)
            equal(numbers(whole), numbers(apart), 1e-9)


@pytest.mark.parametrize("scenario", [VARIANTS["slower"], VARIANTS["recurrent"], single()])
def test_seeds_side_by_side_are_runs_of_their_own(scenario: Scenario) -> None:
    seeds = Seeds(scenario, [0, 1, 2], dtype=torch.float64)
    assert seeds.sequential_reason is None
    try:
        seeds.run(26)
        for seed, simulation in zip((0, 1, 2), seeds.simulations, strict=True):
            with Simulation(scenario, seed=seed, dtype=torch.float64) as alone:
                alone.run(26)
                equal(numbers(simulation), numbers(alone), 1e-9)
                figures = [s.learned.figures() for s in (simulation, alone)]
                assert figures[0].keys() == figures[1].keys()
    finally:
        seeds.close()


@pytest.mark.parametrize("scenario", [*VARIANTS.values(), single(clock={"period": 3, "unroll": 2})])
def test_a_fork_and_a_checkpoint_go_on_to_the_same_bits(scenario: Scenario, tmp_path: Path) -> None:
    with Simulation(scenario, seed=1) as simulation:
        simulation.run(14)  # within a window, and between the ticks of slower agents
        with simulation.fork() as twin, Simulation.load(simulation.save(tmp_path / "c"), scenario) as loaded:
            for one in (simulation, twin, loaded):
                one.run(13)
            equal(numbers(twin), numbers(simulation), 0.0)
            equal(numbers(loaded), numbers(simulation), 0.0)


def test_who_is_quarantined_stops_learning_and_the_others_go_on() -> None:
    scenario = population()
    fields = {name: getattr(scenario, name) for name in Scenario.model_fields}
    scenario = Scenario(**{**fields, "training": {"batch": 8, "on_divergence": "quarantine", "bound": 1e6}})
    with Simulation(scenario, dtype=torch.float64) as simulation:
        simulation.run(4)
        with torch.no_grad():
            for p in simulation._system.agents["m1"].learner.parameters.values():
                p.fill_(float("nan"))
        before = numbers(simulation)
        simulation.run(8)
        after = numbers(simulation)
        assert any("m1" in line for _, line in simulation.events)
        moved = {
            n
            for n in after
            if "->" not in n and not torch.equal(before[n].nan_to_num(), after[n].nan_to_num())
        }
        assert {name.partition(".")[0] for name in moved} >= {"m0", "m2"}
        assert not any(name.startswith("m1.") for name in moved)
        assert all(after[name].isfinite().all() for name in after if not name.startswith("m1."))
