"""State of users' objects beside tensors: own objectives, which are saved, networks, and modules that predict or aggregate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from antiphon.agents.aggregation import Aggregated
from antiphon.agents.objectives import OwnObjective
from antiphon.base.errors import RunError
from antiphon.engine.heart.system import System
from antiphon.nets.users.kept_state import KeptState
from antiphon.nets.users.module_state import ModuleState

OBJECTS = "objects"
"""Key, in a system's state, of the states of own objectives by agent."""


def _objectives(system: System) -> dict[str, dict[int, KeptState]]:
    """Return the states of the users' own objectives, by agent and by index of the objective."""
    goals = {name: agent.goal.terms for name, agent in system.agents.items() if agent.goal is not None}
    states_by_agent = {
        name: {
            n: goal.objective.kept_state
            for n, goal in enumerate(terms)
            if isinstance(goal.objective, OwnObjective)
        }
        for name, terms in goals.items()
    }
    return {name: states for name, states in states_by_agent.items() if states}


def kept_between_calls(system: System) -> Iterator[KeptState | ModuleState]:
    """Yield what own objectives and users' networks keep between calls."""
    yield from (state for by_term in _objectives(system).values() for state in by_term.values())
    states = (agent.learner.module_state for agent in system.agents.values())
    yield from (state for state in states if state is not None)


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the state of own objectives by agent, without copying a tensor; empty where none keeps one."""
    trees_by_agent = {
        name: {str(index): tree for index, state in by_term.items() if (tree := state.state_dict())}
        for name, by_term in _objectives(system).items()
    }
    saved = {name: trees for name, trees in trees_by_agent.items() if trees}
    return {OBJECTS: saved} if saved else {}


def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned; its tensors are used as they are, so hand in copies."""
    objectives = _objectives(system)
    for name, trees in state.get(OBJECTS, {}).items():
        if name not in objectives:  # of a part, there are those of others
            continue
        for index, tree in trees.items():
            objectives[name][int(index)].load_state_dict(tree)


def check_kept(system: System) -> None:
    """Check that a state holds all that users' objects keep.

    Raises:
        RunError: An object keeps something that the state does not hold (`lost_state`).
    """
    if (lost := lost_state(system)) is not None:
        raise RunError(lost)


def check_replays(system: System) -> None:
    """Raise RunError where open windows cannot be computed again: a network changes its parameters (`changed_by_replay`)."""
    if (changed := changed_by_replay(system)) is not None:
        raise RunError(changed)


def check_apart(first: System, second: System | None = None) -> bool:
    """Check that runs of one scenario do not change one another's objectives; return whether all have been called.

    Args:
        second: Of a run that is stepped beside it; None: it follows, of the same document.

    Raises:
        RunError: An objective is one object of the caller's, which both runs call, or changes its class, and keeps a state.
    """
    second_objectives, called = {} if second is None else _objectives(second), True
    not_called, of_classes_called = set[type](), set[type]()
    for name, by_term in _objectives(first).items():
        for index, state in by_term.items():
            shared = state.is_the_callers if second is None else state.shares(second_objectives[name][index])
            called = called and (state.was_called or not shared)
            (of_classes_called if state.was_called else not_called).add(state.kind)
            if state.changes_class:
                line = "keeps a state in its class, which several runs would share; keep it on self"
                raise RunError(f"the objective of {name} {line}")
            if shared and state.was_called and state.is_lost:
                raise RunError(
                    f"the objective of {name} is an object that keeps a state, which several runs would share; give its class"
                )
    return called and not_called <= of_classes_called


def lost_state(system: System) -> str | None:
    """Return why a run that is saved could not go on as it would have; None: nothing is lost."""
    for name, by_term in _objectives(system).items():
        if any(state.is_lost for state in by_term.values()):
            fix = "give its class, with plain data in attributes, or a module with buffers"
            return f"the objective of {name} keeps a state that no checkpoint has; {fix}"
    for name, agent in system.agents.items():
        state = agent.learner.module_state
        if (
            state is not None
            and (attribute := state.lost) is not None
            and agent.learner.network.keeps_state()
        ):
            fix = "keep plain data there, or return it from get_extra_state"
            return f"the network of {name} changes {attribute}, which no checkpoint has, and depends on it; {fix}"
    if (changed := changed_by_replay(system)) is not None:
        return changed
    for module_name, kept_state in _modules(system):
        if kept_state.is_lost:
            return f"{module_name} keeps a state in attributes, which no checkpoint has; register a buffer for it"
    return None


def changed_by_evaluation(system: System) -> str | None:
    """Return whose object keeps what no evaluation puts back, in one line; None: no object that evaluations call does."""
    for name, by_term in _objectives(system).items():
        if any(state.is_lost for state in by_term.values()):
            fix = "give its class, with plain data in attributes, or a module with buffers"
            return f"the objective of {name} keeps a state, which this evaluation has changed too; {fix}"
    for name, agent in system.agents.items():
        if isinstance(network := agent.learner.network, Aggregated) and network.kept_state.is_lost:
            line = (
                "keeps a state in attributes, which this evaluation has changed too; register a buffer for it"
            )
            return f"the aggregation of {name} {line}"
    return None


def changed_by_replay(system: System) -> str | None:
    """Return which network changes its trained parameters where open or waiting windows are computed again; None: none does."""
    waiting = [window for group in system.groups for window in group.waiting]
    at_ends = "" if waiting else "do this at the end of a window, set clock.unroll to 1, or "
    windows = [*(group.window for group in system.groups), *waiting]
    for owner in {
        system.learner_name_by_agent[tick.agent_name]: None for window in windows for tick in window.ticks()
    }:
        if (changed := system.agents[owner].learner.network.changed_parameter()) is not None:
            reason = f"a call of the network of {owner} changes its trained parameter '{changed}'"
            return f"{reason}, and its open window is computed again; {at_ends}change a buffer in its place"
    return None


def _modules(system: System) -> Iterator[tuple[str, KeptState]]:
    """Yield the users' modules that predict or aggregate, with their places."""
    for name, channel in system.channels.items():
        for kind, model in (
            ("gradient", channel.synthetic_gradient.model),
            ("input", channel.synthetic_input.model),
        ):
            if model is not None and model.kept_state is not None:
                yield f"the {kind} of {name}", model.kept_state
    for name, agent in system.agents.items():
        if isinstance(network := agent.learner.network, Aggregated):
            yield f"the aggregation of {name}", network.kept_state
