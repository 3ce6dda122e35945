"""Who takes a step in a stack: the members that a learning signal reaches, and no others (semantics 41); and in which rows.

With one environment to a seed, a target that is absent, or an episode that ends, leaves some seeds without any signal at a
step while others learn.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from antiphon import Scenario, Simulation
from antiphon.base.mask import ALL, Mask
from antiphon.comms import Coupling, CreditedMessage
from antiphon.engine.heart.agent import Agent
from tests.contracts.builders import LABEL, Document, Play, document, levels, ring
from tests.kit.running import seeds_together
from tests.kit.tiers import sampled

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


GATED: Document = {"gradient": {"kind": "linear", "context": ["label"], "gate": "skill"}}


def steps_of(simulation: Simulation) -> dict[str, int]:
    """How many optimiser steps each agent has taken."""
    return {name: agent.updates for name, agent in simulation.agents.items()}


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


@pytest.mark.parametrize(
    "optimiser", [{"kind": "sgd", "momentum": 0.9}, {"kind": "adam"}], ids=lambda o: o["kind"]
)
@pytest.mark.parametrize(
    ("own", "channel"),
    sampled([(Predicted, GATED), (Sooner, GATED), (Sooner, {}), (Returned, {})], often=2),
)
def test_over_lossy_links_each_sender_learns_as_it_does_alone(
    own: type[Coupling], channel: Document, optimiser: Document
) -> None:
    """A message that no read counted has no returned gradient, whatever the messages of other members have."""
    names = range(3)
    senders = {f"s{i}": {"observes": ["x"], "optimizer": optimiser, "clock": {"unroll": 2}} for i in names}
    readers = {f"r{i}": {"objective": LABEL, "optimizer": optimiser} for i in names}
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


HALF = torch.tensor([True, True, False, False])


def test_what_is_learned_in_either_half_of_the_environments_adds_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"size": 3, "coupling": "locked"}
    agents = {"a": {"observes": ["x"]}, "m": {"observes": ["y"]}, "c": {"objective": LABEL}}
    channels = [{"from": "a", "to": "m", **told}, {"from": "m", "to": "c", **told}]
    scenario = Scenario.model_validate(document(agents, channels, optimiser={"kind": "sgd", "lr": 0.1}))
    gradients = []
    for rows in (ALL, Mask.of(HALF), Mask.of(~HALF)):
        learning_rows = lambda agent, _, rows=rows: rows if agent.name == "m" else ALL
        monkeypatch.setattr(Agent, "learning_rows", learning_rows)  # no scenario has such rows yet
        simulation = Simulation(scenario, seed=3, dtype=torch.float64, stacked=False)
        parameters = [p for agent in "am" for p in simulation.agents[agent].parameters.values()]
        before = parameters_to_vector(parameters).detach().clone()
        simulation.step()
        gradients.append(parameters_to_vector(parameters).detach() - before)
    whole, first, second = gradients
    assert min(float(part.norm()) for part in gradients) > 0
    torch.testing.assert_close(first + second, whole, rtol=0, atol=1e-12)
