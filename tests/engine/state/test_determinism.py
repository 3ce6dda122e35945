"""Same seed, same bits; names, not order, decide what is drawn; a decoupled sender never waits (semantics 29, 30, 33)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.scenarios import Scenario, load
from tests.contracts.twins import facts
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
NET = {"kind": "mlp", "hidden": [5]}


def document(names: str = "abc", channels: tuple[str, ...] = ("ab", "bc")) -> Scenario:
    """Agents in this order; the first and the last of the alphabet see and have an objective."""
    agents: Document = {name: {"network": NET} for name in names}
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    ends = [{"from": c[0], "to": c[1], "size": 4} for c in channels]
    return scenario_of(agents, ends, batch=4, optimiser={"kind": "adam", "lr": 0.01})


def numbers(scenario: Scenario, steps: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """Everything of agents and predictors after some steps."""
    with Simulation(scenario, seed=seed) as simulation:
        simulation.run(steps) if steps else None
        found = facts(simulation)
    return {name: value for name, value in found.items() if isinstance(value, Tensor) and "@" not in name}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def test_the_same_seed_gives_the_same_bits_and_another_gives_others() -> None:
    small = {"agents": 6, "readouts": 2, "hold": 2, "width": 5, "size": 3, "batch": 4}
    scenario = load("corporation").resolve(values=small)
    runs = [numbers(scenario, 5, seed) for seed in (0, 0, 1)]
    assert not differing(runs[0], runs[1])
    assert differing(runs[0], runs[2])


def test_the_order_in_which_a_document_is_written_does_not_matter() -> None:
    assert not differing(numbers(document(), 4), numbers(document("cba", ("bc", "ab")), 4))


def test_another_agent_or_channel_changes_no_other_first_weights() -> None:
    few = numbers(document())
    more = numbers(document("abXc", ("ab", "bc", "aX", "Xc")))
    same = {name for name in few if torch.equal(few[name], more.get(name, torch.empty(0)))}
    # Only what takes in the new message is another.
    others = ("agent a ", "agent b ", "channel a->b ", "channel b->c ")
    assert {name for name in few if name.startswith(others)} <= same
    assert "agent c 0.weight" not in same


def pair(sender: str, receiver: str, unroll: int = 1, **channel: Any) -> Simulation:
    """A sender and a receiver whose names put either of them first."""
    agents = {
        sender: {"observes": ["image"], "network": NET, "clock": {"unroll": unroll}},
        receiver: {"network": NET, "objective": CLASSIFY},
    }
    told = {
        "from": sender,
        "to": receiver,
        "size": 4,
        "gradient": {"kind": "linear", "context": ["label"]},
        **channel,
    }
    return Simulation(scenario_of(agents, [told], batch=4, optimiser={"kind": "adam", "lr": 0.01}))


@pytest.mark.parametrize(("names", "unroll"), [("ab", 1), ("zb", 3)])
def test_a_decoupled_sender_does_not_depend_on_its_receivers_present(names: str, unroll: int) -> None:
    """Whatever becomes of the receiver before step t, the sender's update at t is the same to the bit."""
    sender, receiver = names
    simulation = pair(sender, receiver, unroll)
    for t in range(1, 8):
        simulation.step()
        twin, ahead = simulation.fork(), simulation.fork()
        for p in twin.agents[receiver].parameters.values():
            p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(t)))
        twin.step()
        ahead.step()
        assert equal(parameters(ahead, sender), parameters(twin, sender)), t
    assert ahead.agents[sender].updates == 8 // unroll
    predictor = ahead.channels[f"{sender}->{receiver}"].synthetic_gradient
    assert predictor is not None
    assert bool(predictor.parameters["last.weight"].any())
