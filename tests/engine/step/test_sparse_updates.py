"""Sparse updates: who is not drawn for a window learns nothing from it and returns nothing (semantics 7, 17)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios import Scenario
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, scenario_of

LAYER = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}


def chain(coupling: str, p: float, *, unroll: int = 1, **more: Any) -> Scenario:
    """a -> b -> c; only the last has an objective."""
    agents: dict[str, Any] = {
        name: {"network": LAYER, "clock": {"unroll": unroll}, "p_update": p, **more} for name in "abc"
    }
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    channel = {"size": 4, "norm": "none", "coupling": coupling, "gradient": {"context": ["label"]}}
    return scenario_of(agents, [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")])


def drawn(owner: str, window: int, p: float) -> bool:
    return uniform(seed_for(0, "update", owner), window, 1).item() < p


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


@pytest.mark.parametrize("unroll", [1, 2])
def test_late_credit_comes_from_windows_for_which_the_receiver_is_drawn_too(unroll: int) -> None:
    """A receiver that is drawn returns what it was given, be it zero; one that is not returns nothing."""
    windows, p = 40, 0.7
    with Simulation(chain("delayed", p, unroll=unroll)) as simulation:
        simulation.run(windows * unroll)
        for i, name in enumerate("abc"):
            pair = "abc"[i : i + 2]
            whole = [all(drawn(other, window, p) for other in pair) for window in range(windows)]
            late = 2 - i  # each hop costs a window
            assert simulation.agents[name].updates == sum(whole[: windows - late])


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_windows_are_drawn_at_their_rate(p: float) -> None:
    with Simulation(chain("detached", p)) as simulation:
        found = {
            name: [a.participates(w) for w in range(2_000)] for name, a in simulation._system.agents.items()
        }
    bound = 4 * (p * (1 - p) / 2_000) ** 0.5
    for name, flags in found.items():
        assert abs(sum(flags) / 2_000 - p) < bound
        assert flags[:50] == [drawn(name, window, p) for window in range(50)]
    both = sum(a and b for a, b in zip(found["a"], found["b"], strict=True)) / 2_000
    assert abs(both - p * p) < bound


def test_an_undrawn_window_returns_nothing_and_injects_nothing() -> None:
    with Simulation(chain("decoupled", 0.5)) as simulation:
        for step in range(30):
            simulation.step()
            lessons = simulation.learned.predictor_updates
            for sender, receiver in ("ab", "bc"):
                name = f"{sender}->{receiver}"
                assert (name in lessons) == drawn(receiver, step, 0.5)
                record = simulation._system.channels[name].ledger.records[step]
                assert record.finished == step
                assert record.complete == drawn(receiver, step, 0.5), "void where no use counted"
                assert record.delta is None or record.complete
            injected = {n: u.injected for u in simulation.learned.updates for n in u.group.members}
            for name in "ab":
                assert bool(injected[name]) == drawn(name, step, 0.5)


def test_uses_count_in_drawn_windows_only_though_the_message_is_read_in_both() -> None:
    """A slow sender: two windows of its receiver read each message, and the delta is of those drawn."""
    agents = {
        "a": {"observes": ["image"], "network": LAYER, "clock": {"period": 2}},
        "b": {"network": LAYER, "objective": CLASSIFY, "p_update": 0.5},
    }
    shadow = {
        "from": "a",
        "to": "b",
        "size": 4,
        "norm": "none",
        "gradient": {"apply": False, "kind": "linear"},
    }
    scenario = scenario_of(agents, [shadow], optimiser={"kind": "sgd", "lr": 1e-9})
    with Simulation(scenario, dtype=torch.float64) as simulation:
        recording = simulation.channels["a->b"].record(["delta"])
        simulation.run(40)
    agents["b"]["p_update"] = 1.0
    always = scenario_of(agents, [shadow], optimiser={"kind": "sgd", "lr": 1e-9})
    for step, delta in zip(recording.steps["delta"], recording.values["delta"], strict=True):
        counted = [drawn("b", step - 1, 0.5), drawn("b", step, 0.5)]
        assert any(counted)
        if all(counted):
            with Simulation(always, dtype=torch.float64) as simulation:
                same = simulation.channels["a->b"].record(["delta"])
                simulation.run(step + 1)
            assert torch.allclose(delta, same.values["delta"][-1], atol=1e-6)
            break
    expected = [s for s in range(1, 40, 2) if drawn("b", s - 1, 0.5) or drawn("b", s, 0.5)]
    assert recording.steps["delta"] == expected


def test_in_a_locked_group_the_first_moves_only_if_all_above_are_drawn() -> None:
    p = 0.6
    with Simulation(chain("locked", p)) as simulation:
        seen = dict.fromkeys("abc", 0)
        for step in range(200):
            before = {name: parameters(simulation, name) for name in "abc"}
            simulation.step()
            flags = [drawn(name, step, p) for name in "abc"]
            for i, name in enumerate("abc"):
                learns = not equal(before[name], parameters(simulation, name))
                assert learns == all(flags[i:])
                seen[name] += learns
    for i, name in enumerate("abc"):
        share = p ** (3 - i)
        assert abs(seen[name] / 200 - share) < 4 * (share * (1 - share) / 200) ** 0.5


def test_in_a_locked_group_those_drawn_learn_what_they_would_without_the_others() -> None:
    """a learns from b's own objective; c is not drawn, and nothing of its loss comes through."""

    def found(p_of_c: float, weight_of_c: float) -> list[Tensor]:
        scenario = chain("locked", 1.0)
        agents = {name: agent.model_dump() for name, agent in scenario.agents.items()}
        agents["b"]["objective"] = CLASSIFY
        agents["c"] |= {"p_update": p_of_c, "objective": {**CLASSIFY, "weight": weight_of_c}}
        with Simulation(scenario.model_validate({**scenario.model_dump(), "agents": agents})) as simulation:
            simulation.step()
            return parameters(simulation, "a")

    assert not drawn("c", 0, 0.05)
    undrawn = found(0.05, 1.0)
    assert equal(undrawn, found(0.05, 7.0))
    assert not equal(undrawn, found(1.0, 1.0))


def test_tied_agents_share_the_draw() -> None:
    own = {"observes": ["image"], "network": LAYER, "objective": CLASSIFY, "share": "both", "p_update": 0.5}
    with Simulation(scenario_of(dict.fromkeys("ab", own))) as simulation:
        for step in range(20):
            before = parameters(simulation, "a")
            simulation.step()
            assert equal(before, parameters(simulation, "b")) != drawn("both", step, 0.5)


def test_other_seeds_draw_otherwise() -> None:
    with Simulation(chain("decoupled", 0.3), seed=1) as other:
        flags = [other._system.agents["a"].participates(window) for window in range(40)]
    assert flags != [drawn("a", window, 0.3) for window in range(40)]


def test_running_statistics_go_on_where_nothing_is_learned() -> None:
    scenario = chain("decoupled", 0.05, network={**LAYER, "norm": "batch"})
    with Simulation(scenario) as simulation:
        assert not drawn("a", 0, 0.05)
        before = [b.clone() for b in simulation._system.agents["a"].learner.buffers.values()]
        simulation.step()
        after = list(simulation._system.agents["a"].learner.buffers.values())
    assert not equal(before, after)
