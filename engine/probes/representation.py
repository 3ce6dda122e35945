"""Representations: what agents make of examples, sorted by label, as in Czarnecki et al. 2017, "Understanding synthetic
gradients and decoupled neural interfaces", section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import HIDDEN
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.inference.evaluation import examples as examples_of
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import ExampleRollout
from antiphon.errors import ScenarioError

__all__ = ["Representations", "represent"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Representations:
    """What every agent makes of some examples at its newest tick.

    Attributes:
        split: The part of the data.
        agents: By agent, [examples, features]: its last hidden activation, or of a user's module all its outputs.
        target: The categorical target of the first readout that has one, or of another agent; None: there is none.
        labels: Its values, [examples], by which the examples are sorted, or [examples, …] where it has axes: then they
            are in the split's order; empty without a target.
    """

    split: str
    agents: dict[str, Array]
    target: str | None
    labels: NDArray[np.int64]


def represent(simulation: BaseSimulation, examples: int = 400, split: str = "test") -> Representations:
    """Show examples over perfect links and return what each agent makes of them, sorted by label where each has one.

    Args:
        simulation: What to look at; no bit of it changes.
        examples: At most so many, spread evenly over the split.
        split: The part of the data.

    Raises:
        ScenarioError: The environment has no such split, or there is less than one example to show.
    """
    if examples < 1:
        raise ScenarioError(f"examples: must be at least 1, not {examples}")
    system = simulation._system
    parts: dict[str, list[Array]] = {name: [] for name in system.agents}
    networks = {name: agent.learner.network for name, agent in system.agents.items()}
    watched = {
        name: tuple(n.heads) if isinstance(n, ModuleNetwork) else (HIDDEN,) for name, n in networks.items()
    }
    target = _target(simulation)
    labels: list[NDArray[np.int64]] = []
    for batch in examples_of(simulation.world.env, split, examples):
        rollout = ExampleRollout(system, batch, Links(), seed=simulation.seed, watched=watched)
        for name, ports in rollout.ports.items():
            columns = [ports[port].flatten(1).cpu().numpy() for port in watched[name]]
            parts[name].append(np.concatenate(columns, 1, dtype=np.float64))
        if target is not None:
            labels.append(batch[target].cpu().numpy().astype(np.int64))
    found = {name: np.concatenate(part) for name, part in parts.items()}
    whole = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    if labels and whole.ndim == 1:
        order = np.argsort(whole, kind="stable")
        found, whole = {name: part[order] for name, part in found.items()}, whole[order]
    return Representations(split, found, target, whole)


def _target(simulation: BaseSimulation) -> str | None:
    """Return the first readout's categorical target, or else any agent's."""
    agents, signals = simulation._system.agents, simulation._system.description.signals
    for name in (*simulation.scenario.readouts, *agents):
        goal = agents[name].goal
        targets = () if goal is None or goal.policy is not None else goal.signals
        for target in targets:
            if signals[target].classes is not None:
                return target
    return None
