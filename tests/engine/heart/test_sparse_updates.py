"""Sparse updates: who is not drawn for a window learns nothing from it (semantics 7, 17).

What it returns, and what counts of a message that is read in several windows, the event simulator of tests/contracts tries.
"""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Simulation
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios import Scenario
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, scenario_of

LAYER = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}


def chain(coupling: str, p: float, *, unroll: int = 1, **more: Any) -> Scenario:
    """a -> b -> c; only the last has an objective."""
    agents: dict[str, Any] = {
        name: {"network": LAYER, "clock": {"unroll": unroll}, "learn": p, **more} for name in "abc"
    }
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    channel = {"size": 4, "norm": "none", "coupling": coupling, "gradient": {"context": ["label"]}}
    return scenario_of(agents, [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")])


def drawn(owner: str, window: int, p: float, seed: int = 0) -> bool:
    return uniform(seed_for(seed, "update", owner), window, 1).item() < p


@pytest.mark.cases(1)
@pytest.mark.parametrize("coupling", ["decoupled", "detached"])
@pytest.mark.parametrize("unroll", [1, 2])
def test_parameters_move_at_the_end_of_drawn_windows_and_else_keep_their_bits(
    coupling: str, unroll: int
) -> None:
    with Simulation(chain(coupling, 0.5, unroll=unroll)) as simulation:
        for step in range(24):
            before = {name: parameters(simulation, name) for name in "abc"}
            simulation.step()
            window, last = divmod(step, unroll)
            learns = last == unroll - 1 and drawn("c", window, 0.5)
            assert equal(before["c"], parameters(simulation, "c")) != learns
            for name in "ab":
                if coupling == "detached" or not (last == unroll - 1 and drawn(name, window, 0.5)):
                    assert equal(before[name], parameters(simulation, name))
        updates = [simulation.agents[name].updates for name in "abc"]
        assert min(updates[:2]) > 2 if coupling == "decoupled" else updates[:2] == [0, 0]


def test_in_a_locked_group_the_first_moves_only_if_all_above_are_drawn() -> None:
    p = 0.6
    with Simulation(chain("locked", p)) as simulation:
        for step in range(20):
            before = {name: parameters(simulation, name) for name in "abc"}
            simulation.step()
            flags = [drawn(name, step, p) for name in "abc"]
            for i, name in enumerate("abc"):
                assert equal(before[name], parameters(simulation, name)) != all(flags[i:])


def test_running_statistics_go_on_where_nothing_is_learned() -> None:
    with Simulation(chain("decoupled", 0.05, network={**LAYER, "norm": "batch"})) as simulation:
        assert not drawn("a", 0, 0.05)
        before = [b.clone() for b in simulation.agents["a"].buffers.values()]
        simulation.step()
        assert not equal(before, simulation.agents["a"].buffers.values())
