"""Learners that a feature keeps at rest: tied agents have one, by the name of the first of them (rule 27a)."""

from __future__ import annotations

import math

import pytest
import torch

from antiphon import DivergenceError, Scenario, Simulation
from antiphon.base.mask import NONE
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.updates import Update
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of


class AtRest(Feature):
    """Keeps a learner at rest."""

    def __init__(self, learner_name: str) -> None:
        self.learner_name = learner_name

    def after_differentiate(self, update: Update, step: int) -> None:
        if self.learner_name in update.group.agent_names:
            update.rest(self.learner_name)


class PartAtRest(Feature):
    """Keeps some parameters of a learner at rest, from a step on."""

    def after_differentiate(self, update: Update, step: int) -> None:
        if step >= 2 and "p" in update.group.agent_names:
            update.rest_parameters("p", {0})
            update.rest_parameters("p", {2})


class NotFinite(Feature):
    """Returns gradients that are not finite for what the agents of a group read."""

    def after_differentiate(self, update: Update, step: int) -> None:
        for read in update.gradient_by_read:
            update.gradient_by_read[read] = torch.full_like(update.gradient_by_read[read], math.nan)


class Unreached(Feature):
    """Says that no learning signal has reached a learner."""

    def after_differentiate(self, update: Update, step: int) -> None:
        if "p" in update.group.agent_names:
            update.restrict_moving("p", NONE)


def tied(*features: Feature) -> Simulation:
    """An agent that sends to the second of two tied ones."""
    pupil = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY, "share": "s"}
    simulation = Simulation(
        scenario_of(
            {"a": {"observes": ["image"], "network": LINEAR_MAP}, "p": pupil, "q": pupil},
            [{"from": "a", "to": name, "size": 2, "gradient": {"context": ["label"]}} for name in "pq"],
            readout="p",
        )
    )
    for feature in features:
        simulation.running.backend.features.install(feature)
    return simulation


def test_parameters_at_rest_stay_and_the_others_of_the_learner_move() -> None:
    with tied(PartAtRest()) as simulation:
        simulation.run(2, progress=False)
        before = {key: value.clone() for key, value in simulation.agents["q"].parameters.items()}
        simulation.run(2, progress=False)
        after = simulation.agents["q"].parameters
        assert [torch.equal(before[key], after[key]) for key in after] == [
            i in (0, 2) for i in range(len(after))
        ]


def test_what_the_second_of_them_returns_is_zeroed_where_no_learning_signal_has_reached_them() -> None:
    """A gradient that is not finite is no divergence there; it is one where they move, and where they rest."""
    with tied(Unreached(), NotFinite()) as simulation:
        simulation.run(2, progress=False)
        returned = [message.gradient for message in simulation.channels["a->q"].messages.values()]
        assert all(gradient is None or not gradient.any() for gradient in returned)
    for features in ((NotFinite(),), (AtRest("p"), NotFinite())):
        with tied(*features) as simulation, pytest.raises(DivergenceError):
            simulation.run(2, progress=False)


def test_agents_with_a_tied_weight_rest_together() -> None:
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    other = {**agent, "optimiser": {"lr": 0.02}}
    plain = scenario_of({"a": agent, "b": agent, "c": other}, [], readout="a")
    scenario = Scenario.model_validate(
        {**plain.model_dump(), "share": [["a.objective.bias", "b.objective.bias"]]}
    )
    with Simulation(scenario) as simulation:
        simulation.running.backend.features.install(AtRest("b"))
        before = {
            name: {key: value.clone() for key, value in simulation.agents[name].parameters.items()}
            for name in "abc"
        }
        simulation.run(2, progress=False)
        for name in "abc":
            after = simulation.agents[name].parameters
            stay = {torch.equal(before[name][key], after[key]) for key in after}
            assert stay == {name != "c"}
