"""Weights of another run: what fits a system's agents by name and shape is taken, and what was and was not is stated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.core.system import System
from antiphon.engine.state.checkpoint import copy_tree, latest, read
from antiphon.engine.step.backends import Backend
from antiphon.errors import RunError, ScenarioError, suggest

__all__ = ["TakenWeights", "load_weights", "read_learners", "take_weights"]

_PARTS = ("parameters", "buffers")


@dataclass(frozen=True)
class TakenWeights:
    """What was taken out of another run; printed, a line for each agent.

    Attributes:
        source: The run or checkpoint.
        taken: By agent, the parameters and running statistics that were taken.
        left: By agent, those that keep their present values, and why.
        unused: Agents of the run that nothing was asked of.
    """

    source: str
    taken: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"weights of {self.source}"]
        for name, taken in self.taken.items():
            by_reason: dict[str, list[str]] = {}
            for tensor, reason in self.left[name].items():
                by_reason.setdefault(reason, []).append(tensor)
            parts = [f"{len(taken)} of {len(taken) + len(self.left[name])} tensors taken"]
            parts += [f"{', '.join(tensors)} left: {reason}" for reason, tensors in by_reason.items()]
            lines.append(f"{name}: {'; '.join(parts)}")
        if self.unused:
            lines.append(f"of the run not used: {', '.join(self.unused)}")
        return "\n".join(lines)


def load_weights(
    backend: Backend, now: int, source: str | Path, agents: Iterable[str] | Mapping[str, str] | None
) -> TakenWeights:
    """Put weights of another run into a backend, with an event; see `BaseSimulation.load_weights`.

    The optimisers of agents that take any, and of those that are tied to them, begin anew.

    Args:
        backend: Changed only where something fits.
        now: The step of the event.
        source: A run directory or a checkpoint folder.
        agents: As of `take_weights`.

    Raises:
        RunError: As `read_learners`.
        ScenarioError: As `take_weights`, or tied parameters would differ.
    """
    state = copy_tree(backend.state_dict())
    found = take_weights(state["learners"], read_learners(source), str(source), agents)
    takers = [name for name, taken in found.taken.items() if taken]
    system = backend.per_agent()
    _check_ties(system, state["learners"], found)
    renewed = set(takers)
    for groups in system.joined_ties():  # what is one weight is one in its moments too
        joined = {name for tie in groups for name, _ in tie}
        renewed |= joined if joined & renewed else set()
    for name in renewed:
        state["learners"][name]["optimiser"] = system.agents[name].learner.optimiser.initial_state()
    state["quarantine"]["events"].append([now, f"weights of {source} are taken by {', '.join(takers)}"])
    backend.load_state_dict(state)
    return found


def _check_ties(system: System, learners: Mapping[str, Any], found: TakenWeights) -> None:
    """Check that tied parameters are still equal; ScenarioError where one has taken what another has not."""
    for places in system.tied:
        (first, parameter), *others = places
        for name, other in others:
            taken = parameter in found.taken.get(first, ()) or other in found.taken.get(name, ())
            mine, theirs = learners[first]["parameters"][parameter], learners[name]["parameters"][other]
            if taken and not torch.equal(mine, theirs):
                raise ScenarioError(
                    f"load_weights: '{first}.{parameter}' and '{name}.{other}' are tied and would differ; take equal "
                    f"weights for '{first}' and '{name}'"
                )


def read_learners(source: str | Path) -> dict[str, Any]:
    """Return the saved learners of a run directory's newest checkpoint, or of a checkpoint, by agent.

    Raises:
        RunError: There is none, or it is damaged.
    """
    place = latest(source)
    learners = read(place)[1].get("system", {}).get("learners", {})
    right = isinstance(learners, dict) and all(
        isinstance(own, dict)
        and all(isinstance(own.get(part), dict) for part in _PARTS)
        and all(isinstance(tensor, torch.Tensor) for part in _PARTS for tensor in own[part].values())
        for own in learners.values()
    )
    if not right:
        raise RunError(f"{place}: state.json: has no parameters by agent; take weights of another checkpoint")
    return learners


def take_weights(
    learners: dict[str, Any],
    saved: Mapping[str, Any],
    source: str,
    agents: Iterable[str] | Mapping[str, str] | None,
) -> TakenWeights:
    """Put weights of another run into the learners of a state, where a name and shape is the same.

    Args:
        learners: By agent, as in a state of the system; what is taken replaces what is there.
        saved: Those of the run.
        source: The run, for the statement and errors.
        agents: Those that take weights, or by these the run's agents that they take them of; None: all that the run has.

    Raises:
        ScenarioError: One that is named is missing here or there, or nothing fits.
    """
    if agents is None:
        pairs = {name: name for name in learners if name in saved}
    else:
        pairs = dict(agents) if isinstance(agents, Mapping) else {name: name for name in agents}
    for own, other in pairs.items():
        if own not in learners:
            raise ScenarioError(f"load_weights: no agent '{own}'{suggest(own, learners)}")
        if other not in saved:
            raise ScenarioError(f"load_weights: {source} has no agent '{other}'{suggest(other, saved)}")
    found = TakenWeights(source, unused=[name for name in saved if name not in pairs.values()])
    for name, learner in learners.items():
        giver = pairs.get(name)
        if giver is None and agents is not None:
            continue
        taken, left = found.taken.setdefault(name, []), found.left.setdefault(name, {})
        for part in _PARTS:
            for tensor, own in learner[part].items():
                theirs = None if giver is None else saved[giver][part].get(tensor)
                if theirs is not None and theirs.shape == own.shape:
                    learner[part][tensor] = theirs.to(own)
                    taken.append(tensor)
                elif giver is None:
                    left[tensor] = f"the run has no agent '{name}'"
                elif theirs is None:
                    left[tensor] = "the run's agent has none"
                else:
                    left[tensor] = f"{list(theirs.shape)} in the run, {list(own.shape)} here"
    if not any(found.taken.values()):
        raise ScenarioError(
            f"load_weights: nothing of {source} fits by name and shape; its agents: {', '.join(saved)}"
        )
    return found
