"""Learners that a feature keeps at rest: tied agents have one, by the name of the first of them (rule 27a)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from antiphon import DivergenceError, RunError, Simulation
from antiphon.base.mask import NONE
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.updates import Update
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of


class AtRest(Feature):
    """Keeps a learner at rest, and returns gradients that are not finite for what its agents read."""

    def __init__(self, learner_name: str | None) -> None:
        self.learner_name = learner_name

    def after_differentiate(self, update: Update) -> None:
        for read in update.gradient_by_read:
            update.gradient_by_read[read] = torch.full_like(update.gradient_by_read[read], math.nan)
        self._restrict(update)

    def before_move(self, updates: Sequence[Update]) -> None:
        for update in updates:
            self._restrict(update)

    def _restrict(self, update: Update) -> None:
        if self.learner_name is not None and "p" in update.group.agent_names:
            update.restrict_moving(self.learner_name, NONE)


def tied(feature: Feature) -> Simulation:
    """An agent that sends to the second of two tied ones."""
    pupil = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY, "share": "s"}
    simulation = Simulation(
        scenario_of(
            {"a": {"observes": ["image"], "network": LINEAR_MAP}, "p": pupil, "q": pupil},
            [{"from": "a", "to": name, "size": 2, "gradient": {"context": ["label"]}} for name in "pq"],
            readout="p",
        )
    )
    simulation.running.backend.features.install(feature)
    return simulation


def test_tied_agents_rest_by_the_name_of_the_first() -> None:
    with tied(AtRest("p")) as simulation:
        before = {key: value.clone() for key, value in simulation.agents["q"].parameters.items()}
        simulation.run(2, progress=False)
        after = simulation.agents["q"].parameters
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_the_second_of_them_returns_is_zeroed_while_they_rest() -> None:
    """No learning signal has reached it: a gradient that is not finite is no divergence, as it is where they move."""
    with tied(AtRest("p")) as simulation:
        simulation.run(2, progress=False)
        returned = [message.gradient for message in simulation.channels["a->q"].messages.values()]
        assert all(gradient is None or not gradient.any() for gradient in returned)
    with tied(AtRest(None)) as simulation, pytest.raises(DivergenceError):
        simulation.run(2, progress=False)


def test_the_name_of_the_second_is_refused() -> None:
    with (
        tied(AtRest("q")) as simulation,
        pytest.raises(RunError, match="'q' is no learner of the group"),
    ):
        simulation.run(2, progress=False)
