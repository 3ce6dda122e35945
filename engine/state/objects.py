"""State of users' objects that are no networks: own objectives, which are saved, and modules that predict or aggregate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from antiphon.agents.aggregation import Aggregated
from antiphon.agents.objectives import OwnObjective
from antiphon.engine.heart.system import System
from antiphon.nets.users.kept_state import KeptState


def _objectives(system: System) -> dict[str, dict[int, KeptState]]:
    """Return the own objectives of agents, by agent and place."""
    goals = {name: agent.goal.each for name, agent in system.agents.items() if agent.goal is not None}
    found = {
        name: {
            n: goal.objective.kept for n, goal in enumerate(each) if isinstance(goal.objective, OwnObjective)
        }
        for name, each in goals.items()
    }
    return {name: each for name, each in found.items() if each}


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the state of own objectives by agent, without copying a tensor; empty where none keeps one."""
    found = {
        name: {str(place): state for place, kept in each.items() if (state := kept.state_dict())}
        for name, each in _objectives(system).items()
    }
    kept = {name: each for name, each in found.items() if each}
    return {"objects": kept} if kept else {}


def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned; its tensors are used as they are, so hand in copies."""
    objectives = _objectives(system)
    for name, each in state.get("objects", {}).items():
        for place, tree in each.items() if name in objectives else ():  # of a part, there are those of others
            objectives[name][int(place)].load_state_dict(tree)


def lost_state(system: System) -> str | None:
    """Return why a run that is saved could not go on as it would have; None: nothing is lost."""
    for name, each in _objectives(system).items():
        if any(kept.is_lost for kept in each.values()):
            fix = "give its class, with plain data in attributes, or a module with buffers"
            return f"the objective of {name} keeps a state that no checkpoint has; {fix}"
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
