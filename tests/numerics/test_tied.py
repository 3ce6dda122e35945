"""Tied agents (one set of parameters, rule 27a) and tied parameters (one weight of several agents, rule 27c), against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, Numbers, leaves, said, simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, played

SOURCE = played(endless=True)
ADAM: Document = {"kind": "adam", "lr": 0.01}


def layer(p: Numbers, x: Tensor, norm: str) -> Tensor:
    """The hidden layer of an agent; batch statistics are of all rows it is given."""
    hidden = F.linear(x, p["0.weight"], p.get("0.bias"))
    gain, bias = p["0.norm.gain"], p["0.norm.bias"]
    if norm == "layer":
        return torch.tanh(F.layer_norm(hidden, hidden.shape[1:], gain, bias))
    return torch.tanh(F.batch_norm(hidden, None, None, gain, bias, True))


def learn_beside(
    simulation: Simulation, tied: tuple[str, ...], other: str, loss: Callable[[Numbers, Numbers, int], Tensor]
) -> None:
    """Let torch's Adam follow a loss, by the mean over those that are tied of their gradients; hold all to it."""
    p, q = leaves(simulation.agents[tied[0]]), leaves(simulation.agents[other])
    optimisers = [torch.optim.Adam(own.values(), lr=0.01, fused=True) for own in (p, q)]
    for step in range(12):
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss(p, q, step).backward()  # type: ignore[no-untyped-call]
        for value in p.values():
            assert value.grad is not None
            value.grad /= len(tied)
        for optimiser in optimisers:
            optimiser.step()
        simulation.step()
    for name, own in (*((name, p) for name in tied), (other, q)):
        for key, value in simulation.agents[name].parameters.items():
            torch.testing.assert_close(value.detach(), own[key].detach(), atol=1e-10, rtol=0, msg=key)
    assert simulation.agents[tied[0]].updates == 12


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_members_of_one_wave_are_one_module_on_the_rows_of_all(norm: str) -> None:
    eye = {"share": "eye", "network": {"kind": "mlp", "hidden": [6], "norm": norm, "activation": "tanh"}}
    agents = {
        "left": {"observes": ["x"], **eye},
        "right": {"observes": ["z"], **eye},
        "mind": {"objective": GOAL},
    }
    source = played(endless=True)
    source.shown["z"] = source.shown["x"].flip(0)
    locked = {"to": "mind", "port": "seen", "coupling": "locked"}
    channels = [{"from": name, **locked} for name in ("left", "right")]
    with simulation_of(agents, channels, source, optimiser=ADAM) as simulation:

        def loss(p: Numbers, q: Numbers, step: int) -> Tensor:
            seen = source.at(step)
            rows = said(p, "port_seen", layer(p, torch.cat([seen["x"], seen["z"]]), norm))
            return (said(q, "objective", *rows.chunk(2)) - seen["y"]).square().mean(1).sum() / BATCH

        learn_beside(simulation, ("left", "right"), "mind", loss)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_members_of_different_waves_are_one_module_used_twice(norm: str) -> None:
    cell = {"share": "cell", "network": {"kind": "mlp", "hidden": [6], "norm": norm, "activation": "tanh"}}
    agents = {"a": {"observes": ["x"], **cell}, "b": cell, "c": {"objective": GOAL}}
    ends = {"port": "p", "size": 3, "coupling": "locked"}
    channels = [{"from": s, "to": r, **ends} for s, r in ("ab", "bc")]
    with simulation_of(agents, channels, SOURCE, optimiser=ADAM) as simulation:

        def loss(p: Numbers, q: Numbers, step: int) -> Tensor:
            x = SOURCE.at(step)["x"]
            for _ in range(2):
                x = said(p, "port_p", layer(p, x, norm))
            return (said(q, "objective", x) - SOURCE.at(step)["y"]).square().mean(1).sum() / BATCH

        learn_beside(simulation, ("a", "b"), "c", loss)


def test_decoupled_members_follow_the_mean_of_their_gradients() -> None:
    """What is injected into each is what its own predictor says, with the parameters of before the step."""
    agents = {name: {"observes": ["x"], "share": "eye"} for name in "ab"} | {"c": {"objective": GOAL}}
    sent = {"to": "c", "port": "seen", "gradient": {"kind": "linear", "context": ["hint"]}}
    channels = [{"from": name, **sent} for name in "ab"]
    sgd = {"kind": "sgd", "lr": 0.1}
    with simulation_of(agents, channels, SOURCE, optimiser=sgd, predictor=sgd) as simulation:
        simulation.run(3)
        p, seen = leaves(simulation.agents["a"]), SOURCE.at(3)
        message = said(p, "port_seen", seen["x"])
        loss = torch.zeros((), dtype=torch.float64)
        for name in "ab":
            sg = leaves(simulation.channels[f"{name}->c"].synthetic_gradient)
            injected = said(sg, "last", message, seen["hint"]).detach()
            assert injected.abs().max() > 1e-3
            loss = loss + (message * injected).sum() / BATCH / 2
        expected = torch.autograd.grad(loss, list(p.values()))
        simulation.step()
        for name in "ab":
            for (key, own), g in zip(p.items(), expected, strict=True):
                after = simulation.agents[name].parameters[key].detach()
                torch.testing.assert_close(after, own.detach() - 0.1 * g, atol=1e-12, rtol=0)


def test_tied_recurrent_agents_have_a_state_each_and_one_set_of_parameters() -> None:
    """Two that see the same learn as one alone would, whatever each has seen before: the mean of equal gradients is any of them."""
    own: Document = {
        "observes": ["x"],
        "network": {"kind": "gru", "size": 4},
        "objective": GOAL,
        "clock": {"unroll": 2},
    }
    state = {"key": "state", "gradient": {"kind": "linear", "context": ["hint"]}}
    found: list[Any] = []
    for agents in ({"a": own}, {name: {**own, "share": "g"} for name in "ab"}):
        channels = [{"from": name, "to": name, **state} for name in agents]
        found.append(simulation_of(agents, channels, SOURCE, optimiser=ADAM))
    alone, pair = found
    for name, p in alone.agents["a"].parameters.items():
        pair.agents["b"].parameters[name].data.copy_(p)
    for simulation in found:
        simulation.run(20)
    assert pair.agents["b"].updates == 10
    for name, p in alone.agents["a"].parameters.items():
        torch.testing.assert_close(pair.agents["b"].parameters[name], p, atol=1e-10, rtol=0)
    for channel in ("a->a:state", "b->b:state"):
        for key, p in alone.channels["a->a:state"].synthetic_gradient.parameters.items():
            predictor = pair.channels[channel].synthetic_gradient
            torch.testing.assert_close(predictor.parameters[key], p, atol=1e-10, rtol=0)


# --- one weight of several agents ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", [ADAM, {"kind": "sgd", "lr": 0.1, "momentum": 0.9}])
@pytest.mark.parametrize("coupling", ["locked", "detached"])
def test_a_tied_weight_follows_the_sum_of_its_gradients(coupling: str, optimiser: Document) -> None:
    """A locked chain is a plain loop with one shared parameter; detached, each end still brings its own share."""
    agents = {"a": {"observes": ["hint"], "objective": GOAL}, "b": {}, "c": {"objective": GOAL}}
    channels = [{"from": s, "to": r, "coupling": coupling} for s, r in ("ab", "bc")]
    tie = ["a.objective.weight", "c.objective.weight", "b.to_c.weight"]
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimiser["kind"]]
    source = Played(SOURCE.shown, ("y",), endless=True)
    with simulation_of(agents, channels, source, optimiser=optimiser, share=[tie]) as simulation:
        own = {name: leaves(simulation.agents[name]) for name in "abc"}
        shared = own["a"]["objective.weight"]
        own["c"]["objective.weight"] = own["b"]["to_c.weight"] = shared
        every = {id(p): p for p in [q for numbers in own.values() for q in numbers.values()]}.values()
        rest = {"betas": (0.9, 0.999)} if kind is torch.optim.Adam else {"momentum": 0.9}
        plain = kind(every, lr=optimiser["lr"], **rest)
        for step in range(20):
            plain.zero_grad()
            seen = SOURCE.at(step)
            x, loss = seen["hint"], torch.zeros((), dtype=torch.float64)
            for name, port in (("a", "to_b"), ("b", "to_c"), ("c", "")):
                if name != "b":
                    loss = loss + (said(own[name], "objective", x) - seen["y"]).square().mean(1).sum() / BATCH
                if port:
                    x = said(own[name], port, x)
                    x = x if coupling == "locked" else x.detach()
            loss.backward()  # type: ignore[no-untyped-call]
            plain.step()
            simulation.step()
        for name, numbers in own.items():
            for key, p in simulation.agents[name].parameters.items():
                torch.testing.assert_close(p.detach(), numbers[key].detach(), atol=1e-10, rtol=0, msg=key)
