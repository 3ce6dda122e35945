"""Weights of another run: what fits a system's agents by name and shape is taken, and what was and was not is stated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from antiphon.engine.backends import Backend
from antiphon.engine.heart.system import System
from antiphon.engine.state.checkpoint import copy_tree, latest, read
from antiphon.errors import ScenarioError, suggest
from antiphon.files import fitting

__all__ = ["SavedLearners", "TakenWeights", "load_weights", "read_learners", "take_weights"]

_PARTS = ("parameters", "buffers")


class SavedLearners(NamedTuple):
    """The learners of a checkpoint.

    Attributes:
        place: The checkpoint folder.
        step: Steps taken there.
        sha256: Of its tensors' file.
        by_agent: As in a state of the system, empty where it was not read; agents that share parameters are one learner, by
            the first of them.
    """

    place: Path
    step: int
    sha256: str
    by_agent: dict[str, Any]


@dataclass(frozen=True)
class TakenWeights:
    """What was taken out of another run; printed, a line for each agent.

    Attributes:
        source: The run or checkpoint.
        taken: By agent, the parameters and running statistics that were taken.
        left: By agent, those that keep their present values, and why.
        unused: Agents of the run that nothing was asked of.
        of: By agent, the run's agent.
        step: Steps that the run had taken.
        sha256: Of the tensors' file of its checkpoint.
    """

    source: str
    taken: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    of: dict[str, str] = field(default_factory=dict)
    step: int = 0
    sha256: str = ""

    def origins(self, step: int) -> list[dict[str, Any]]:
        """Return where the weights of each agent that took any come from, as run.json has it; `step`: when it took them."""
        return [
            {
                "step": step,
                "agent": name,
                "from": f"{self.source}:{self.of[name]}",
                "from_step": self.step,
                "sha256": self.sha256,
                "kept": list(self.left[name]),
            }
            for name, taken in self.taken.items()
            if taken
        ]

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
    backend: Backend,
    now: int,
    source: str | Path,
    agents: Iterable[str] | Mapping[str, str] | None,
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
    system = backend.per_agent()
    agents = _checked_names(system, agents)
    state = copy_tree(backend.state_dict())
    saved = read_learners(source, _givers(agents, state["learners"]))
    found = take_weights(state["learners"], saved.by_agent, str(source), agents)
    found = replace(found, step=saved.step, sha256=saved.sha256)
    takers = [name for name, taken in found.taken.items() if taken]
    _check_ties(system, state["learners"], found)
    renewed = set(takers)
    if system.tied:  # what is one weight is one in its moments too
        from antiphon.engine.features.ties import ties_of

        for groups in ties_of(system):
            joined = {name for tie in groups for name, _ in tie}
            renewed |= joined if joined & renewed else set()
    for name in renewed:
        state["learners"][name]["optimiser"] = system.agents[name].learner.optimiser.initial_state()
    state["quarantine"]["events"].append([now, f"weights of {source} are taken by {', '.join(takers)}"])
    backend.load_state_dict(state)
    return found


def _checked_names(
    system: System, agents: Iterable[str] | Mapping[str, str] | None
) -> Iterable[str] | Mapping[str, str] | None:
    """Return the names as they are; ScenarioError where one shares its parameters with an earlier agent."""
    if agents is None or isinstance(agents, Mapping):
        names: Iterable[str] = agents or ()
    else:
        names = agents = list(agents)
    for name in names:
        if (owner := system.owner_of.get(name, name)) != name:
            raise ScenarioError(f"'{name}' shares the parameters of '{owner}'; name '{owner}'")
    return agents


def _givers(agents: Iterable[str] | Mapping[str, str] | None, own: Collection[str]) -> Collection[str]:
    """Return the agents of the run that may give something; `own`: those that may take it."""
    if agents is None:
        return own
    return set(agents.values()) if isinstance(agents, Mapping) else set(agents)


def _check_ties(system: System, learners: Mapping[str, Any], found: TakenWeights) -> None:
    """Check that tied parameters are still equal; ScenarioError where one has taken what another has not."""
    for places in system.tied:
        (first, parameter), *others = places
        for name, other in others:
            taken = parameter in found.taken.get(first, ()) or other in found.taken.get(name, ())
            mine, theirs = learners[first]["parameters"][parameter], learners[name]["parameters"][other]
            if taken and not torch.equal(mine, theirs):
                raise ScenarioError(
                    f"'{first}.{parameter}' and '{name}.{other}' are tied and would differ; take equal "
                    f"weights for '{first}' and '{name}'"
                )


def read_learners(source: str | Path, agents: Collection[str]) -> SavedLearners:
    """Return the saved learners of a run directory's newest checkpoint, or of a checkpoint.

    Args:
        source: The run or checkpoint.
        agents: Those that are read; of others nothing is loaded.

    Raises:
        RunError: There is no checkpoint, or it is damaged.
    """
    place = latest(source)

    def wanted(state: dict[str, Any]) -> dict[str, Any]:
        learners = state["system"]["learners"].items()
        return {name: learner if name in agents else {} for name, learner in learners}

    facts, learners = read(place, part=wanted)
    with fitting(place):
        for name in learners.keys() & agents:
            learners[name] |= {part: dict(learners[name][part]) for part in _PARTS}
        return SavedLearners(place, facts["step"], facts["sha256"], learners)


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
            raise ScenarioError(f"{source} has no agent '{other}'{suggest(other, saved)}")
    unused = [name for name in saved if name not in pairs.values()]
    found = TakenWeights(source, unused=unused, of=pairs)
    for name in learners if agents is None else pairs:
        theirs = saved[pairs[name]] if name in pairs else None
        taken, left = found.taken.setdefault(name, []), found.left.setdefault(name, {})
        for part in _PARTS:
            for tensor, own in learners[name][part].items():
                given = None if theirs is None else theirs[part].get(tensor)
                if theirs is None:
                    left[tensor] = f"the run has no agent '{name}'"
                elif given is None:
                    left[tensor] = "the run's agent has none"
                elif given.shape != own.shape:
                    left[tensor] = f"{list(given.shape)} in the run, {list(own.shape)} here"
                else:
                    learners[name][part][tensor] = given.to(own)
                    taken.append(tensor)
    if not any(found.taken.values()):
        raise ScenarioError(f"nothing of {source} fits by name and shape; its agents: {', '.join(saved)}")
    return found
