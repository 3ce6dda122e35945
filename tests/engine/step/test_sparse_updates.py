"""Sparse updates: who is not drawn for a window learns nothing from it and returns nothing (semantics 7, 17)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios import Scenario
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.numerics.linear import leaves, said, simulation_of
from tests.numerics.recurring import GOAL, played

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


def drawn(owner: str, window: int, p: float, seed: int = 0) -> bool:
    return uniform(seed_for(seed, "update", owner), window, 1).item() < p


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
    windows, p = 20, 0.7
    with Simulation(chain("delayed", p, unroll=unroll)) as simulation:
        simulation.run(windows * unroll)
        for i, name in enumerate("abc"):
            pair = "abc"[i : i + 2]
            whole = [all(drawn(other, window, p) for other in pair) for window in range(windows)]
            late = 2 - i  # each hop costs a window
            assert simulation.agents[name].updates == sum(whole[: windows - late])


@pytest.mark.parametrize("seed", [0, 1])
def test_an_undrawn_window_returns_nothing(seed: int) -> None:
    with Simulation(chain("decoupled", 0.5), seed=seed) as simulation:
        for step in range(20):
            simulation.step()
            for name, receiver in (("a->b", "b"), ("b->c", "c")):
                message = simulation.channels[name].messages[step]
                assert message.finished == step
                assert message.complete == drawn(receiver, step, 0.5, seed), "void where no use counted"
                assert message.gradient is None or message.complete


def test_uses_count_in_drawn_windows_only_though_the_message_is_read_in_both() -> None:
    """A slow sender: two windows of its receiver read each message, and the gradient is of those drawn."""
    source, p = played(endless=True), 0.5
    agents = {"a": {"observes": ["x"], "clock": {"period": 2}}, "b": {"objective": GOAL, "p_update": p}}
    shadow = {"from": "a", "to": "b", "gradient": {"apply": False, "kind": "linear"}}
    with simulation_of(agents, [shadow], source, optimiser={"kind": "sgd", "lr": 1e-300}) as simulation:
        own, kinds = leaves(simulation.agents["b"]), set()
        simulation.step()
        for step in range(1, 24):
            simulation.step()
            if step % 2 == 0:
                continue
            message = simulation.channels["a->b"].messages[step - 1]
            counted = [t for t in (step - 1, step) if drawn("b", t, p, seed=3)]
            kinds.add(len(counted))
            assert message.complete == bool(counted)
            for t in counted[:1]:
                errors = [said(own, "objective", message.value) - source.at(t)["y"] for t in counted]
                expected = sum(error @ own["objective.weight"] for error in errors)
                assert isinstance(expected, torch.Tensor)
                assert message.gradient is not None
                torch.testing.assert_close(message.gradient, expected.detach(), atol=1e-12, rtol=0)
        assert kinds == {0, 1, 2}


def test_in_a_locked_group_the_first_moves_only_if_all_above_are_drawn() -> None:
    p = 0.6
    with Simulation(chain("locked", p)) as simulation:
        for step in range(40):
            before = {name: parameters(simulation, name) for name in "abc"}
            simulation.step()
            flags = [drawn(name, step, p) for name in "abc"]
            for i, name in enumerate("abc"):
                assert equal(before[name], parameters(simulation, name)) != all(flags[i:])


def test_in_a_locked_group_nothing_of_an_undrawn_members_loss_comes_through() -> None:
    def found(p_of_c: float, weight_of_c: float) -> list[torch.Tensor]:
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
        for step in range(12):
            before = parameters(simulation, "a")
            simulation.step()
            assert equal(before, parameters(simulation, "b")) != drawn("both", step, 0.5)


def test_running_statistics_go_on_where_nothing_is_learned() -> None:
    with Simulation(chain("decoupled", 0.05, network={**LAYER, "norm": "batch"})) as simulation:
        assert not drawn("a", 0, 0.05)
        before = [b.clone() for b in simulation.agents["a"].buffers.values()]
        simulation.step()
        assert not equal(before, simulation.agents["a"].buffers.values())
