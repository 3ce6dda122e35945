"""Who takes a step: those that a learning signal reaches (rule 7), behind gates, beside frozen agents and tied parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Scenario, Simulation
from antiphon.comms import Coupling, CreditedMessage
from tests.contracts.builders import LABEL, Document, Play, document, levels, ring
from tests.contracts.documents import WEIGHTS, tied
from tests.contracts.twins import made
from tests.engine.numbers import equal
from tests.kit.running import newest_metrics, seeds_together
from tests.kit.tiers import sampled
from tests.numerics.linear import GOAL, descend, leaves, said, simulation_of
from tests.numerics.recurring import BATCH, played
from tests.reference.backend import Chosen, reference

SEEDS = (1, 2, 3)
STEPS = 12
DETACHED: Document = {"coupling": "detached"}
DOCUMENTS: dict[str, Document] = {
    "targets that are absent": ring(2, channel=DETACHED, env=Play(gaps=0.5), batch=1),
    "episodes that end before a message is read": levels(
        channel={"gradient": {"kind": "linear"}, "link": {"delay": 1}}, count=2, env=Play(share=0.4), batch=1
    ),
}


class Returned(Coupling):
    """The returned gradient, where it is back in time."""

    uses_returned = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


class Sooner(Returned):
    """The returned gradient, where it is back in time, else the prediction."""

    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        back = message.returned_gradient
        return message.applied_prediction if back is None else back


class Predicted(Sooner):
    """The prediction, where its gate is open, else the returned gradient."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        prediction = message.applied_prediction
        return message.returned_gradient if prediction is None else prediction


ADAM: Document = {"kind": "adam"}
SGD: Document = {"kind": "sgd", "momentum": 0.9}
GATED: Document = {"gradient": {"kind": "linear", "context": ["label"], "gate": "skill"}}


def steps_of(simulation: Simulation) -> dict[str, int]:
    """How many optimiser steps each agent has taken."""
    return {name: agent.updates for name, agent in simulation.agents.items()}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_seeds_side_by_side_take_the_steps_that_each_takes_alone(name: str) -> None:
    scenario = Scenario.model_validate(DOCUMENTS[name])
    together = seeds_together(scenario, SEEDS, dtype=torch.float64)
    assert together is not None
    together.run(STEPS)
    taken = []
    for seed, beside in zip(SEEDS, together.simulations, strict=True):
        alone = Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(STEPS)
        taken.append(steps_of(alone))
        assert steps_of(beside) == taken[-1]
    assert len({tuple(one.values()) for one in taken}) > 1, "all seeds take as many steps: nothing is shown"


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("own", "channel", "optimiser"),
    sampled(
        [(Predicted, GATED, ADAM), (Sooner, GATED, SGD), (Sooner, {}, SGD), (Returned, {}, ADAM)], often=2
    ),
)
def test_over_lossy_links_each_sender_learns_as_it_does_alone(
    own: type[Coupling], channel: Document, optimiser: Document
) -> None:
    """A message that no read counted has no returned gradient, whatever the messages of other members have."""
    names = range(3)
    senders = {f"s{i}": {"observes": ["x"], "optimiser": optimiser, "clock": {"unroll": 2}} for i in names}
    readers = {f"r{i}": {"objective": LABEL, "optimiser": optimiser} for i in names}
    told = {"size": 3, "coupling": own, "link": {"drop": 0.5}, **channel}
    channels = [{"from": f"s{i}", "to": f"r{i}", **told} for i in names]
    scenario = Scenario.model_validate(document(senders | readers, channels, batch=2))
    stack, single = (
        Simulation(scenario, seed=3, dtype=torch.float64, stacked=stacked) for stacked in (True, False)
    )
    for simulation in (stack, single):
        simulation.run(40)
    assert steps_of(stack) == steps_of(single)
    assert min(steps_of(single).values()) > 0
    for name, agent in single.agents.items():
        for key, parameter in agent.parameters.items():
            torch.testing.assert_close(stack.agents[name].parameters[key], parameter, rtol=0, atol=1e-9)


# --- frozen agents ---------------------------------------------------------------------------------------


def chain(coupling: str = "decoupled", seed: int = 3, **middle: Any) -> Simulation:
    """a -> b -> c with batch norm; b is the one that is changed."""
    net: Document = {"network": {"kind": "mlp", "hidden": [6], "norm": "batch"}}
    agents = {"a": {"observes": ["x"], **net}, "b": {**net, **middle}, "c": {"objective": LABEL}}
    channel = {"coupling": coupling, "size": 4, "gradient": {"kind": "linear", "context": ["label"]}}
    return made(
        document(agents, [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]), "cohort", seed=seed
    )


def numbers(simulation: Simulation, agent: str) -> dict[str, Tensor]:
    handle = simulation.agents[agent]
    return {k: v.detach().clone() for k, v in (handle.parameters | handle.buffers).items()}


def moved(before: dict[str, Tensor], simulation: Simulation, agent: str) -> list[str]:
    return [k for k, v in numbers(simulation, agent).items() if not torch.equal(v, before[k])]


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_a_frozen_agent_never_moves_but_passes_the_gradient_on(coupling: str) -> None:
    with chain(coupling, learn=False) as simulation:
        before = {name: numbers(simulation, name) for name in "abc"}
        simulation.run(12)
        assert not moved(before["b"], simulation, "b")
        assert simulation.agents["b"].updates == 0
        for name in "ac":
            assert any("weight" in key for key in moved(before[name], simulation, name))


def test_behind_a_frozen_agent_a_locked_group_equals_plain_autograd_in_evaluation_mode_there() -> None:
    source = played(endless=True)
    frozen: Document = {"network": {"kind": "mlp", "hidden": [5], "norm": "batch"}, "learn": False}
    agents = {"a": {"observes": ["x"]}, "b": frozen, "c": {"objective": GOAL}}
    locked = {"coupling": "locked"}
    with simulation_of(
        agents, [{"from": s, "to": r, **locked} for s, r in ("ab", "bc")], source
    ) as simulation:
        statistics = simulation.agents["b"].buffers
        statistics["0.norm.mean"].fill_(0.3)
        statistics["0.norm.var"].fill_(2.0)
        a, b, c = (leaves(simulation.agents[name]) for name in "abc")
        hidden = said(b, "0", said(a, "to_b", source.at(0)["x"]))
        gain = b["0.norm.gain"], b["0.norm.bias"]
        hidden = F.batch_norm(hidden, statistics["0.norm.mean"], statistics["0.norm.var"], *gain)
        output = said(c, "objective", said(b, "to_c", torch.relu(hidden)))
        loss = (output - source.at(0)["y"]).square().mean(1).sum() / BATCH
        expected = descend(a, loss)
        simulation.step()
        for key, p in simulation.agents["a"].parameters.items():
            torch.testing.assert_close(p.detach(), expected[key].detach(), atol=1e-12, rtol=0)


# --- gates -----------------------------------------------------------------------------------------------


WINDOWS = 6


def team(**gradient: Any) -> Scenario:
    """A sensor that sends what it observes of a pole to a motor, which learns from rewards."""
    clock = {"unroll": 4}
    return Scenario(
        scenario="team",
        env={"id": "antiphon/CartPole-v0"},
        agents={
            "sensor": {"observes": ["observation"], "network": {"hidden": [8]}, "clock": clock},
            "motor": {"network": {"hidden": [8]}, "clock": clock, "acts": True, "objective": "a2c"},
        },
        channels=[{"from": "sensor", "to": "motor", "size": 2, "gradient": {"kind": "linear", **gradient}}],
        training={"batch": 8, "optimiser": {"kind": "adam", "lr": 0.01}},
    )


def trained(scenario: Scenario) -> Simulation:
    simulation = Simulation(scenario, seed=1)
    simulation.run(4 * WINDOWS)
    return simulation


def has_moved(simulation: Simulation, agent: str) -> bool:
    before, after = Simulation(simulation.scenario, seed=1).agents[agent], simulation.agents[agent]
    return any(not torch.equal(after.parameters[key], value) for key, value in before.parameters.items())


def test_a_sender_takes_no_step_by_a_prediction_without_skill() -> None:
    with trained(team(context=["observation"])) as simulation:
        metrics = newest_metrics(simulation, "sensor->motor")
        assert metrics["gate"] == 0
        assert "injection_norm" not in metrics
        assert simulation.agents["sensor"].updates == 0
        assert not has_moved(simulation, "sensor")
        assert metrics["sg_loss"] > 0
        assert has_moved(simulation, "motor")


# --- tied parameters -------------------------------------------------------------------------------------


BACKENDS = pytest.mark.parametrize("backend", ["cohort", reference])
ONE = WEIGHTS[0]
"""One weight of n0, n2 and n3."""


def simulation_of_tied_gradients(backend: Chosen, *ties: list[str], seed: int = 3, **keys: Any) -> Simulation:
    return made(tied(ring(**keys), *(ties or (ONE,))), backend, seed=seed)


def of(simulation: Simulation, name: str) -> Tensor:
    """A parameter as AGENT.PARAMETER."""
    agent, _, parameter = name.partition(".")
    return simulation.agents[agent].parameters[parameter].detach().clone()


def assert_tied(simulation: Simulation, *names: str) -> None:
    assert equal([of(simulation, name) for name in names[1:]], [of(simulation, names[0])] * (len(names) - 1))


class Overwriting(torch.optim.SGD):
    """Gradient descent that leaves zeros in the gradients that it was given."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()


@BACKENDS
def test_an_optimiser_that_overwrites_its_gradients_changes_no_other_agents(backend: Chosen) -> None:
    with simulation_of_tied_gradients(backend, optimiser={"kind": Overwriting, "lr": 0.1}) as simulation:
        before = of(simulation, ONE[2])
        simulation.run(steps=3)
        assert not torch.equal(before, of(simulation, ONE[2]))
        assert_tied(simulation, *ONE)


@BACKENDS
def test_the_first_gives_the_values(backend: Chosen) -> None:
    with simulation_of_tied_gradients(backend, *WEIGHTS) as simulation, made(ring(), backend) as alone:
        assert simulation.events == []
        assert_tied(simulation, *ONE)
        assert torch.equal(of(simulation, ONE[0]), of(alone, ONE[0]))
    layers = [nn.Linear(8, 7) for _ in range(2)]
    scene: Document = tied(ring(2), ["n0.module.weight", "n1.module.weight"])
    for agent, layer in zip(scene["agents"].values(), layers, strict=True):
        agent["network"] = layer
    with made(scene, backend) as simulation:
        assert torch.equal(of(simulation, "n1.module.weight"), layers[0].weight.double())
