"""State of users' objects that are no networks: own objectives, which are saved, and modules that predict or aggregate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from antiphon.agents.aggregation import Aggregated
from antiphon.agents.objectives import OwnObjective
from antiphon.engine.heart.system import System
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.nets.users.kept_state import KeptState

__all__ = ["load_objects", "lost_state", "objects_kept", "state_of_objects"]


def _objectives(system: System) -> dict[str, KeptState]:
    """Return the own objectives of agents, by agent and place."""
    return {
        f"{name}.{place}": goal.objective.kept
        for name, agent in system.agents.items()
        if agent.goal is not None
        for place, goal in enumerate(agent.goal.each)
        if isinstance(goal.objective, OwnObjective)
    }


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the state of own objectives, without copying a tensor; empty where none keeps one."""
    found = {name: kept.state_dict() for name, kept in _objectives(system).items()}
    return {"objects": state} if (state := {name: tree for name, tree in found.items() if tree}) else {}


def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned; its tensors are used as they are, so hand in copies."""
    objectives = _objectives(system)
    for name, tree in state.get("objects", {}).items():
        objectives[name].load_state_dict(tree)


def lost_state(system: System) -> str | None:
    """Return why a run that is saved could not go on as it would have; None: nothing is lost."""
    for name, kept in _objectives(system).items():
        if kept.is_lost:
            fix = "give its class, with plain data in attributes, or a module with buffers"
            return f"the objective of {name.rpartition('.')[0]} keeps a state that no checkpoint has; {fix}"
    for place, kept in _modules(system):
        if kept.is_lost:
            return f"{place} keeps a state in attributes, which no checkpoint has; register a buffer for it"
    return None


def _modules(system: System) -> Iterator[tuple[str, KeptState]]:
    """Yield the users' modules that predict or aggregate, with their places."""
    for name, channel in system.channels.items():
        for what, model in (("gradient", channel.gradient.model), ("input", channel.input.model)):
            if model is not None and model.kept is not None:
                yield f"the {what} of {name}", model.kept
    for name, agent in system.agents.items():
        if isinstance(network := agent.learner.network, Aggregated):
            yield f"the aggregation of {name}", network.kept


@contextmanager
def objects_kept(system: System) -> Iterator[None]:
    """Have own objectives after the block as before it: an evaluation calls them."""
    before = copy_tree(state_of_objects(system))
    try:
        yield
    finally:
        load_objects(system, before)
