"""Same seed, same bits; whoever watches changes none; names, not order, decide what is drawn; nobody waits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.synthetic_gradients import Example
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario, load
from tests.engine.numbers import equal, parameters, predictor_of
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
NET = {"kind": "mlp", "hidden": [5]}


def corporation(**values: Any) -> Scenario:
    small = {"agents": 6, "readouts": 2, "hold": 2, "width": 5, "size": 3, "batch": 4}
    return load("corporation").resolve(values={**small, **values})


def document(names: str = "abc", channels: tuple[str, ...] = ("ab", "bc")) -> Scenario:
    """Agents in this order; the first and the last of the alphabet see and have an objective."""
    agents: Document = {name: {"network": NET} for name in names}
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    ends = [{"from": c[0], "to": c[1], "size": 4} for c in channels]
    return scenario_of(agents, ends, batch=4, optimiser={"kind": "adam", "lr": 0.01})


def numbers(simulation: Simulation) -> dict[str, Tensor]:
    """Parameters and running statistics of agents and predictors."""
    owners: dict[str, Any] = {name: agent.learner for name, agent in simulation._system.agents.items()}
    owners |= {name: channel.predictor for name, channel in simulation._system.channels.items()}
    return {
        f"{name}/{key}": value.detach().clone()
        for name, owner in owners.items()
        for key, value in {**owner.parameters, **owner.buffers}.items()
    }


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def test_the_same_seed_gives_the_same_bits_and_another_gives_others() -> None:
    runs = [Simulation(corporation(), seed=seed) for seed in (0, 0, 1)]
    for simulation in runs:
        simulation.run(5)
    assert not differing(numbers(runs[0]), numbers(runs[1]))
    assert differing(numbers(runs[0]), numbers(runs[2]))


def test_the_order_in_which_a_document_is_written_does_not_matter() -> None:
    runs = [Simulation(scenario) for scenario in (document(), document("cba", ("bc", "ab")))]
    for simulation in runs:
        simulation.run(4)
    assert not differing(numbers(runs[0]), numbers(runs[1]))


def test_another_agent_or_channel_changes_nobody_elses_first_weights() -> None:
    few = numbers(Simulation(document()))
    more = numbers(Simulation(document("abXc", ("ab", "bc", "aX", "Xc"))))
    same = {name for name in few if torch.equal(few[name], more.get(name, torch.empty(0)))}
    # Only what takes in the new message is another.
    assert {n for n in few if n.startswith(("a/", "b/", "a->b/", "b->c/"))} <= same
    assert "c/0.weight" not in same


def settings(first: str, second: str, unroll: int = 1, **channel: Any) -> Simulation:
    """A sender and a receiver whose names put either of them first."""
    agents = {
        first: {"observes": ["image"], "network": NET, "clock": {"unroll": unroll}},
        second: {"network": NET, "objective": CLASSIFY},
    }
    told = {"from": first, "to": second, "size": 4, "gradient": {"context": ["label"]}, **channel}
    return Simulation(scenario_of(agents, [told], batch=4, optimiser={"kind": "adam", "lr": 0.01}))


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize(("sender", "receiver"), [("a", "b"), ("z", "b")])
def test_at_every_injection_nothing_has_come_back(
    sender: str, receiver: str, delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = {"kind": "mlp", "hidden": [4], "context": ["label"]}
    simulation = settings(sender, receiver, link={"delay": delay}, gradient=gradient)
    predictor = predictor_of(simulation, f"{sender}->{receiver}")
    asked: list[Tensor | None] = []
    predict = predictor.predict

    def watch(example: Example) -> Tensor:
        asked.append(example.delta)
        return predict(example)

    monkeypatch.setattr(predictor, "predict", watch)
    simulation.run(8)
    assert asked == [None] * 8
    assert bool(simulation.learned.updates)


@pytest.mark.parametrize("change", ["noise", "freeze"])
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize(("sender", "receiver"), [("a", "b"), ("z", "b")])
def test_a_decoupled_sender_does_not_depend_on_its_receivers_present(
    sender: str, receiver: str, unroll: int, change: str
) -> None:
    """Whatever becomes of the receiver before step t, the sender's update at t is the same to the bit."""
    simulation = settings(sender, receiver, unroll=unroll)
    for t in range(1, 8):
        simulation.step()
        twin = simulation.fork()
        learner = twin._system.agents[receiver].learner
        if change == "noise":
            for p in learner.parameters.values():
                p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(t)))
        else:
            learner.frozen, learner.trainable = True, []
        ahead = simulation.fork()
        twin.step()
        ahead.step()
        assert equal(parameters(ahead, sender), parameters(twin, sender)), t
    assert ahead.agents[sender].updates == 8 // unroll
    assert bool(predictor_of(ahead, f"{sender}->{receiver}").parameters["last.weight"].any())
