"""Representations: what agents make of examples, compared within and across agents.

Representational dissimilarity as in Czarnecki et al. 2017, "Understanding synthetic gradients and decoupled neural
interfaces", section 5: 1 - correlation between the representations of two examples, examples sorted by label.
"""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["Representations", "dissimilarity", "rdm", "represent", "similarity"]

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


def rdm(simulation: BaseSimulation, examples: int = 400, split: str = "test") -> dict[str, Array]:
    """Return each agent's representational dissimilarity matrix, [examples, examples]; arguments as of `represent`."""
    found = represent(simulation, examples, split)
    return {name: dissimilarity(made) for name, made in found.agents.items()}


def dissimilarity(representation: Array) -> Array:
    """Return 1 - correlation between every two rows of [examples, features], in [0, 2].

    A row without variance correlates with none; every row is itself.
    """
    centred = representation - representation.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    found = 1.0 - unit @ unit.T
    np.fill_diagonal(found, 0.0)
    bounded: Array = np.clip(found, 0.0, 2.0)
    return bounded


def similarity(matrices: Mapping[str, Array]) -> Array:
    """Return the correlation of the agents' dissimilarities, [agents, agents].

    A block of ones says that the representation stays the same over these agents.

    Args:
        matrices: By agent, [examples, examples].
    """
    size = len(next(iter(matrices.values())))
    upper = np.triu_indices(size, 1)
    return 1.0 - dissimilarity(np.stack([matrix[upper] for matrix in matrices.values()]))


def _target(simulation: BaseSimulation) -> str | None:
    """Return the first readout's categorical target, or else any agent's."""
    agents, signals = simulation._system.agents, simulation._system.description.signals
    for name in (*simulation.scenario.readouts, *agents):
        goal = agents[name].goal
        if goal is not None and goal.policy is None and signals[goal.target].classes is not None:
            return goal.target
    return None
