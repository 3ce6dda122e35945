"""Quarantine: what diverges learns no more and falls silent; the others go on (semantics 32)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import DivergenceError, Scenario, Simulation
from tests.contracts.builders import TOLD, levels, ring
from tests.contracts.twins import made
from tests.engine.numbers import equal, one_line, parameters
from tests.engine.scenes import CLASSIFY, LSTM, scenario_of
from tests.numerics.linear import leaves, said, simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import GOAL, played
from tests.reference.backend import Chosen, reference

BATCH = 8
LAYER = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}


def fork_of_two(
    left: dict[str, Any] | None = None, gradient: dict[str, Any] | None = None, most: float | None = None
) -> Scenario:
    """Two eyes that tell one mind; each knows what it is for."""
    agents: dict[str, Any] = {
        eye: {"observes": [f"{eye}_half"], "network": LAYER} for eye in ("left", "right")
    }
    agents["left"] |= left or {}
    channel = {
        "to": "mind",
        "size": 4,
        "norm": "none",
        "gradient": {"context": ["label"], **(gradient or {})},
    }
    return scenario_of(
        {**agents, "mind": {"network": LAYER, "objective": CLASSIFY}},
        [{"from": eye, **channel} for eye in ("left", "right")],
        batch=BATCH,
        on_divergence={"kind": "quarantine", "max": most},
    )


def poison(simulation: Simulation, channel: str, value: float) -> None:
    """Let a channel's predictor say something enormous, or no number at all."""
    for p in leaves_of(simulation, channel).values():
        p.data.fill_(value)


def leaves_of(simulation: Simulation, channel: str) -> dict[str, Tensor]:
    predictor = simulation.channels[channel].synthetic_gradient
    assert predictor is not None
    return predictor.parameters


@pytest.mark.parametrize(("value", "bound"), [(1e6, 100.0), (float("nan"), None)])
def test_a_diverging_agent_stays_as_it_was_and_the_others_go_on(value: float, bound: float | None) -> None:
    """Nothing re-enters by itself, and what it sent counts no more."""
    with Simulation(fork_of_two(most=bound)) as simulation:
        simulation.run(5)
        assert simulation.events == []
        poison(simulation, "left->mind", value)
        before = {name: parameters(simulation, name) for name in ("left", "right", "mind")}
        simulation.step()
        assert equal(before["left"], parameters(simulation, "left"))
        for name in ("right", "mind"):
            assert not equal(before[name], parameters(simulation, name))
        poison(simulation, "left->mind", 0.0)
        simulation.run(10)
        assert equal(before["left"], parameters(simulation, "left"))
        assert all(bool(p.isfinite().all()) for name in before for p in parameters(simulation, name))
        step, line = simulation.events[0]
        assert step == 5
        assert "left" in line
        assert "\n" not in line
        assert [simulation.agents[name].quarantined for name in before] == [True, False, False]
        assert [simulation.agents[name].updates for name in before] == [5, 16, 16]
        newest = {name: simulation.channels[f"{name}->mind"].messages[15] for name in ("left", "right")}
        assert not newest["left"].complete
        assert newest["right"].complete


def test_of_who_diverged_the_others_read_zeros() -> None:
    """To the bit what they would do with a sender that says nothing."""
    source = played(endless=True)
    agents = {"a": {"observes": ["x"]}, "c": {"observes": ["x"]}, "b": {"objective": GOAL}}
    channels = [{"from": name, "to": "b", "coupling": "detached"} for name in "ac"]
    with simulation_of(agents, channels, source, on_divergence="quarantine") as simulation:
        simulation.agents["a"].parameters["to_b.weight"].data.fill_(torch.inf)
        for step in range(4):
            p, other = leaves(simulation.agents["b"]), leaves(simulation.agents["c"])
            heard = said(other, "to_b", source.at(step)["x"])
            error = said(p, "objective", torch.zeros_like(heard), heard) - source.at(step)["y"]
            loss = simulation.step()["losses"]["b"]
            torch.testing.assert_close(loss, error.square().mean(1).mean().detach(), atol=1e-14, rtol=0)
        assert not simulation.agents["b"].quarantined
        assert simulation.agents["b"].updates == 4


def test_a_diverging_predictor_is_muted_and_its_sender_goes_on() -> None:
    """A shadow injects nothing, so that only the predictor is at fault."""
    scenario = fork_of_two(
        left={"objective": CLASSIFY},
        gradient={"scale": 0, "discount": 0},
        most=1e6,
    )
    with Simulation(scenario) as simulation:
        simulation.run(5)
        poison(simulation, "left->mind", 1e30)
        before = [p.detach().clone() for p in leaves_of(simulation, "left->mind").values()]
        left = parameters(simulation, "left")
        simulation.run(4)
        after = leaves_of(simulation, "left->mind").values()
        assert equal(before, after)
        predictor = simulation.channels["left->mind"].synthetic_gradient
        assert predictor is not None
        assert predictor.quarantined
        assert not simulation.agents["left"].quarantined
        assert not equal(left, parameters(simulation, "left"))
        ((step, line),) = simulation.events
        assert step == 5
        assert "left->mind" in line


@pytest.mark.parametrize(
    ("how", "count", "moved"),
    [("quarantine", 1, set()), ("quarantine", 2, {"a1", "b1"}), ("stop", 2, set())],
    ids=["lone", "stacked", "stop"],
)
def test_a_locked_group_is_quarantined_as_one_and_a_run_without_quarantine_stops_at_the_bound(
    how: str, count: int, moved: set[str]
) -> None:
    scene = levels(
        count=count,
        channel={"coupling": "locked"},
        on_divergence={"kind": how, "max": 100.0},
    )
    with made(scene, "cohort") as simulation:
        simulation.run(3)
        simulation.agents["b0"].parameters["objective.weight"].data.mul_(1e6)
        before = {name: parameters(simulation, name) for name in simulation.agents}
        with nullcontext() if how == "quarantine" else one_line("'b0'", DivergenceError):
            simulation.run(3)
        found = {name for name, own in before.items() if not equal(own, parameters(simulation, name))}
        assert found == moved
        quarantined = {name for name, agent in simulation.agents.items() if agent.quarantined}
        assert quarantined == ({"a0", "b0"} if how == "quarantine" else set())


@pytest.mark.parametrize("readers", ["b", "bc"], ids=["lone", "stacked"])
def test_the_bound_is_on_the_length_of_what_reaches_an_agents_parameters(readers: str) -> None:
    """By hand: of all its tensors together. What it returns is per sample, and no bound is on that."""
    source = played(endless=True)
    agents = {"a": {"observes": ["x"], "objective": {**GOAL, "scale": 0.01}}}
    agents |= {name: {"objective": GOAL} for name in readers}
    channels = [
        {"from": "a", "to": name, "gradient": {"scale": 0, "discount": 0, "kind": "linear"}}
        for name in readers
    ]
    with simulation_of(agents, channels, source) as simulation:
        p = leaves(simulation.agents["b"])
        x = said(leaves(simulation.agents["a"]), "to_b", source.at(0)["x"])
        loss = (said(p, "objective", x) - source.at(0)["y"]).square().mean(1).mean()
        length = float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(p.values()))]).norm())
    for share, disabled in ((1.001, False), (0.999, True)):
        training = {
            "on_divergence": {"kind": "quarantine", "max": length * share},
            "predictor": {"lr": 1e-9},
        }
        with simulation_of(agents, channels, source, **training) as simulation:
            simulation.step()
            assert simulation.agents["b"].quarantined == disabled


def test_in_single_precision_what_is_finite_is_not_called_something_else() -> None:
    """Gradients whose squares are no numbers any more."""
    scene = ring(on_divergence="quarantine")
    with made(scene, "cohort", dtype=torch.float32) as simulation:
        simulation.run(4)
        leaves_of(simulation, "n0->n1")["last.bias"].data.fill_(1e21)
        simulation.run(2)
        assert not simulation.agents["n0"].quarantined


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_a_states_gradients_out_of_all_proportion_are_shortened_and_an_event(backend: Chosen) -> None:
    scene = ring(3, agent={**LSTM, "clock": {"unroll": 1}}, state=TOLD, steps=40)
    with made(scene, backend) as simulation:
        simulation.run(16)
        for p in simulation.agents["n1"].parameters.values():
            p.data.mul_(30.0)
        simulation.run(6)
        assert any("n1->n1:state" in line and "clipped" in line for _, line in simulation.events)


@pytest.mark.parametrize("count", [1, 3], ids=["lone", "stacked"])
@pytest.mark.parametrize("backend", [reference, "cohort", "native"])
def test_running_statistics_of_a_receiver_stay_finite(backend: Chosen, count: int) -> None:
    """The first eye's messages are finite, and of length 1e22 at one step; it is disabled at once, and its mind goes on."""
    see = {"kind": "regression", "target": "right_half"}
    eye = {"observes": ["left_half"], "network": {**LAYER, "activation": "relu"}, "objective": see}
    batch_norm = {"kind": "mlp", "hidden": [16], "norm": "batch"}
    mind = {"observes": ["right_half"], "network": batch_norm, "objective": CLASSIFY}
    agents = {f"{kind}{i}": own for kind, own in (("eye", eye), ("mind", mind)) for i in range(count)}
    agents["eye0"] = {**eye, "optimiser": {"kind": "sgd", "lr": 1e22}}
    channels = [{"from": f"eye{i}", "to": f"mind{i}", "coupling": "detached"} for i in range(count)]
    scenario = scenario_of(agents, channels, batch=32, on_divergence="quarantine")
    with Simulation(scenario, backend=backend) as simulation:
        simulation.run(2)
        assert [(step, line[:12]) for step, line in simulation.events] == [(1, "agent 'eye0'")]
        simulation.run(5)
        assert all(bool(one.isfinite().all()) for one in simulation.agents["mind0"].buffers.values())
        assert simulation.agents["mind0"].updates == 7


def test_who_returns_what_is_no_number_is_disabled_though_its_own_gradient_is_one() -> None:
    """The weights of two classes are of opposite signs and the largest there are: their difference overflows on the way back."""
    label = torch.zeros(30, 4, dtype=torch.long)
    label[:, 1:] = 1
    source = Played({"x": 1e-3 * played().shown["x"], "label": label}, ("label",), endless=True)
    agents = {"a": {"observes": ["x"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    channels = [{"from": "a", "to": "b"}]
    with simulation_of(agents, channels, source, on_divergence="quarantine") as simulation:
        simulation.agents["a"].parameters["to_b.bias"].data.zero_()
        weight = simulation.agents["b"].parameters["objective.weight"].data
        weight.copy_(torch.tensor([[1.7e308], [-1.7e308]]).expand(2, 2))
        simulation.step()
        assert simulation.agents["b"].quarantined
        assert not simulation.agents["a"].quarantined
