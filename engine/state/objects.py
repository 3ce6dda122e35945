"""State of users' objects beside tensors: own objectives, which are saved, networks, and modules that predict or aggregate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from antiphon.agents.aggregation import Aggregated
from antiphon.agents.objectives import OwnObjective
from antiphon.base.errors import RunError
from antiphon.engine.heart.system import System
from antiphon.nets.users.kept_state import KeptState
from antiphon.nets.users.module_state import ModuleState

OBJECTS = "objects"
"""Of a system's state: the states of own objectives, by agent."""


def _objectives(system: System) -> dict[str, dict[int, KeptState]]:
    """Return the own objectives of agents, by agent and place."""
    goals = {name: agent.goal.terms for name, agent in system.agents.items() if agent.goal is not None}
    found = {
        name: {
            n: goal.objective.kept for n, goal in enumerate(each) if isinstance(goal.objective, OwnObjective)
        }
        for name, each in goals.items()
    }
    return {name: each for name, each in found.items() if each}


def kept_between_calls(system: System) -> Iterator[KeptState | ModuleState]:
    """Yield what own objectives and users' networks keep between calls."""
    yield from (kept for each in _objectives(system).values() for kept in each.values())
    states = (agent.learner.module_state for agent in system.agents.values())
    yield from (state for state in states if state is not None)


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the state of own objectives by agent, without copying a tensor; empty where none keeps one."""
    found = {
        name: {str(place): state for place, kept in each.items() if (state := kept.state_dict())}
        for name, each in _objectives(system).items()
    }
    kept = {name: each for name, each in found.items() if each}
    return {OBJECTS: kept} if kept else {}


def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned; its tensors are used as they are, so hand in copies."""
    objectives = _objectives(system)
    for name, each in state.get(OBJECTS, {}).items():
        for place, tree in each.items() if name in objectives else ():  # of a part, there are those of others
            objectives[name][int(place)].load_state_dict(tree)


def check_kept(system: System) -> None:
    """Check that a state holds all that users' objects keep.

    Raises:
        RunError: It does not (`lost_state`).
    """
    if (lost := lost_state(system)) is not None:
        raise RunError(lost)


def check_replays(system: System) -> None:
    """Raise RunError where open windows cannot be computed again: a network changes its parameters (`changed_by_replay`)."""
    if (changed := changed_by_replay(system)) is not None:
        raise RunError(changed)


def check_apart(first: System, second: System | None = None) -> bool:
    """Check that runs of one scenario do not change one another's objectives; return whether all have been called, and so are known.

    Args:
        first: Of a run.
        second: Of a run that is stepped beside it; None: it follows, of the same document.

    Raises:
        RunError: An objective is one object of the caller's, which both runs call, and keeps a state.
    """
    others, called = {} if second is None else _objectives(second), True
    for name, each in _objectives(first).items():
        for place, kept in each.items():
            shared = kept.is_the_callers if second is None else kept.shares(others[name][place])
            called = called and (kept.was_called or not shared)
            if shared and kept.was_called and kept.is_lost:
                raise RunError(
                    f"the objective of {name} is an object that keeps a state, which several runs would share; give its class"
                )
    return called


def lost_state(system: System) -> str | None:
    """Return why a run that is saved could not go on as it would have; None: nothing is lost."""
    for name, each in _objectives(system).items():
        if any(kept.is_lost for kept in each.values()):
            fix = "give its class, with plain data in attributes, or a module with buffers"
            return f"the objective of {name} keeps a state that no checkpoint has; {fix}"
    for name, agent in system.agents.items():
        state = agent.learner.module_state
        if state is not None and (what := state.lost) is not None and agent.learner.network.keeps_state():
            fix = "keep plain data there, or return it from get_extra_state"
            return f"the network of {name} changes {what}, which no checkpoint has, and depends on it; {fix}"
    if (changed := changed_by_replay(system)) is not None:
        return changed
    for place, kept in _modules(system):
        if kept.is_lost:
            return f"{place} keeps a state in attributes, which no checkpoint has; register a buffer for it"
    return None


def changed_by_replay(system: System) -> str | None:
    """Return which network changes its trained parameters where open or kept windows are computed again; None: none does."""
    kept_windows = [window for group in system.groups for window in chain(*group.kept_windows.values())]
    at_ends = "" if kept_windows else "do this at the end of a window, set clock.unroll to 1, or "
    windows = [*(group.window for group in system.groups), *kept_windows]
    for owner in {
        system.learner_name_by_agent[tick.agent_name]: None for window in windows for tick in window.ticks()
    }:
        if (changed := system.agents[owner].learner.network.changed_parameter()) is not None:
            what = f"a call of the network of {owner} changes its trained parameter '{changed}'"
            return f"{what}, and its open window is computed again; {at_ends}change a buffer in its place"
    return None


def _modules(system: System) -> Iterator[tuple[str, KeptState]]:
    """Yield the users' modules that predict or aggregate, with their places."""
    for name, channel in system.channels.items():
        for what, model in (
            ("gradient", channel.synthetic_gradient.model),
            ("input", channel.synthetic_input.model),
        ):
            if model is not None and model.kept is not None:
                yield f"the {what} of {name}", model.kept
    for name, agent in system.agents.items():
        if isinstance(network := agent.learner.network, Aggregated):
            yield f"the aggregation of {name}", network.kept
