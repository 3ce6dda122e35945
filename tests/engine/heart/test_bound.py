"""The bound of gradients, and what else ends a run: by hand, and in each backend (semantics 32)."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from antiphon import DivergenceError
from tests.contracts.builders import TOLD, ring
from tests.contracts.twins import made
from tests.engine.numbers import one_line
from tests.engine.scenes import LSTM
from tests.numerics.linear import leaves, said, simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import GOAL, played
from tests.reference.backend import Chosen, reference


@pytest.mark.parametrize("readers", ["b", "bc"], ids=["lone", "stacked"])
def test_the_bound_is_on_the_length_of_what_reaches_an_agents_parameters(readers: str) -> None:
    """By hand: of all its tensors together."""
    source = played(endless=True)
    agents = {"a": {"observes": ["x"], "objective": {**GOAL, "scale": 0.01}}}
    agents |= {name: {"objective": GOAL} for name in readers}
    channels = [{"from": "a", "to": name, "coupling": "detached"} for name in readers]
    with simulation_of(agents, channels, source) as simulation:
        p = leaves(simulation.agents["b"])
        x = said(leaves(simulation.agents["a"]), "to_b", source.at(0)["x"])
        loss = (said(p, "objective", x) - source.at(0)["y"]).square().mean(1).mean()
        length = float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(p.values()))]).norm())
    for share, diverges in ((1.001, False), (0.999, True)):
        training = {
            "on_divergence": {"max": length * share},
            "predictor": {"lr": 1e-9},
        }
        refused = one_line("agent 'b': the norm of the gradient at step 1 exceeds", DivergenceError)
        with (
            simulation_of(agents, channels, source, **training) as simulation,
            refused if diverges else nullcontext(),
        ):
            simulation.step()


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_bound_of_a_locked_group_is_on_all_its_gradients_together(backend: Chosen) -> None:
    """By hand, as of one network."""
    source = played(endless=True)
    agents = {"a": {"observes": ["x"]}, "b": {"objective": GOAL}}
    channels = [{"from": "a", "to": "b", "coupling": "locked"}]
    with simulation_of(agents, channels, source) as simulation:
        a, b = (leaves(simulation.agents[name]) for name in "ab")
        x = said(a, "to_b", source.at(0)["x"])
        loss = (said(b, "objective", x) - source.at(0)["y"]).square().mean(1).mean()
        gradients = torch.autograd.grad(loss, [*a.values(), *b.values()])
        length = float(torch.cat([g.flatten() for g in gradients]).norm())
    for share, diverges in ((1.001, False), (0.999, True)):
        training = {"on_divergence": {"max": length * share}}
        refused = one_line("agent 'a', 'b': the norm of the gradient at step 1 exceeds", DivergenceError)
        with (
            simulation_of(agents, channels, source, backend=backend, **training) as simulation,
            refused if diverges else nullcontext(),
        ):
            simulation.step()


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_norm_of_a_predictors_gradient_is_named(backend: Chosen) -> None:
    """Its loss is not what the bound is on."""
    channel = {"gradient": {"kind": "linear", "context": ["label"], "scale": 0.0}}
    line = "agent 'n0': the norm of the gradient of the synthetic gradient of its channel n0->n1 at step"
    with made(ring(2, channel=channel, on_divergence={"max": 100.0}), backend) as simulation:
        simulation.run(4)
        predictor = simulation.channels["n0->n1"].synthetic_gradient
        assert predictor is not None
        predictor.parameters["last.bias"].data.fill_(1e4)
        with one_line(line, DivergenceError):
            simulation.step()


def test_in_single_precision_what_is_finite_is_not_called_something_else() -> None:
    """Gradients whose squares are no numbers any more."""
    with made(ring(), "cohort", dtype=torch.float32) as simulation:
        simulation.run(4)
        predictor = simulation.channels["n0->n1"].synthetic_gradient
        assert predictor is not None
        predictor.parameters["last.bias"].data.fill_(1e21)
        # of the predictor's own loss that is so; the gradient that it puts on the sender is a number
        with one_line(
            "agent 'n0': the loss of the synthetic gradient of its channel n0->n1", DivergenceError
        ):
            simulation.step()


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_a_states_gradients_out_of_all_proportion_are_shortened_and_an_event(backend: Chosen) -> None:
    scene = ring(3, agent={**LSTM, "clock": {"unroll": 1}}, state=TOLD, steps=40)
    with made(scene, backend) as simulation:
        simulation.run(16)
        for p in simulation.agents["n1"].parameters.values():
            p.data.mul_(30.0)
        simulation.run(6)
        assert any("n1->n1:state" in line and "clipped" in line for _, line in simulation.events)


def test_who_returns_what_is_no_number_diverges_though_its_own_gradient_is_one() -> None:
    """The weights of two classes are of opposite signs and the largest there are: their difference overflows on the way back."""
    label = torch.zeros(30, 4, dtype=torch.long)
    label[:, 1:] = 1
    source = Played({"x": 1e-3 * played().shown["x"], "label": label}, ("label",), endless=True)
    agents = {"a": {"observes": ["x"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    channels = [{"from": "a", "to": "b"}]
    with simulation_of(agents, channels, source) as simulation:
        simulation.agents["a"].parameters["to_b.bias"].data.zero_()
        weight = simulation.agents["b"].parameters["objective.weight"].data
        weight.copy_(torch.tensor([[1.7e308], [-1.7e308]], dtype=torch.float64).expand(2, 2))
        with one_line("agent 'b': the gradient at step 1 is not finite", DivergenceError):
            simulation.step()
