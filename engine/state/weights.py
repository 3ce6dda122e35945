"""Weights of another run: tensors that match by name and shape are loaded, and the result is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.engine.backends import StackedBackend
from antiphon.engine.heart.system import System
from antiphon.engine.state.checkpoint import copy_tree, latest, read
from antiphon.engine.state.state_dict import with_statistics

_TENSORS = ("parameters", "buffers")


@dataclass(frozen=True)
class TakenWeights:
    """The weights loaded from another run; printed, one line per agent.

    Attributes:
        unused: Agents of the run that were not used.
        of: By agent, the run's agent.
        sha256: Checksum of the tensors' file of its checkpoint.
        taken: By agent, the parameters and running statistics that were loaded.
        left: By agent, the tensors that keep their present values, and why.
    """

    source: str
    unused: list[str]
    of: dict[str, str]
    step: int
    sha256: str
    taken: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)

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
            for name, taken_tensors in self.taken.items()
            if taken_tensors
        ]

    def __str__(self) -> str:
        lines = [f"weights of {self.source}"]
        for name, taken_tensors in self.taken.items():
            by_reason: dict[str, list[str]] = {}
            for tensor, reason in self.left[name].items():
                by_reason.setdefault(reason, []).append(tensor)
            parts = [f"{len(taken_tensors)} of {len(taken_tensors) + len(self.left[name])} tensors taken"]
            parts += [f"{', '.join(tensors)} left: {reason}" for reason, tensors in by_reason.items()]
            lines.append(f"{name}: {'; '.join(parts)}")
        if self.unused:
            lines.append(f"agents of the run that are not used: {', '.join(self.unused)}")
        return "\n".join(lines)


def load_weights(
    backend: StackedBackend,
    now: int,
    source: str | Path,
    agents: Iterable[str] | Mapping[str, str] | None,
) -> TakenWeights:
    """Put weights of another run into a backend, where a name and shape is the same, with an event.

    The optimisers of agents that take any, and of those that are tied to them, begin anew.

    Args:
        backend: Changed only where something fits.
        source: A run directory or a checkpoint folder.
        agents: Those that take weights, or by these the run's agents that they take them of; None: all that the run has.

    Raises:
        RunError: As `read_learners`.
        ScenarioError: An agent that is named is missing here or there, or shares the parameters of another one; nothing
            fits; or tied parameters would differ.
    """
    system, state = backend.per_agent(), copy_tree(backend.state_dict())
    learners: dict[str, Any] = state["learners"]
    if agents is None:
        pairs = {name: name for name in learners}
    else:
        pairs = dict(agents) if isinstance(agents, Mapping) else {name: name for name in agents}
    for name in pairs:
        if (owner := system.learner_name_by_agent.get(name, name)) != name:
            raise ScenarioError(f"'{name}' shares the parameters of '{owner}'; name '{owner}'")
        if name not in learners:
            raise ScenarioError(f"load_weights: no agent '{name}'{suggest(name, learners)}")
    facts, saved = read_learners(source, pairs.values())
    for giver in () if agents is None else pairs.values():
        if giver not in saved:
            raise ScenarioError(f"{source} has no agent '{giver}'{suggest(giver, saved)}")
    unused = [name for name in saved if name not in pairs.values()]
    taken_weights = TakenWeights(str(source), unused, pairs, facts["step"], facts["sha256"])
    for name, giver in pairs.items():
        taken_weights.taken[name], taken_weights.left[name] = take_tensors(
            learners[name], saved.get(giver), giver
        )
    takers = [name for name, taken_tensors in taken_weights.taken.items() if taken_tensors]
    if not takers:
        raise ScenarioError(
            f"no tensor of {source} matches by name and shape; its agents: {', '.join(saved)}"
        )
    _check_tied(system, learners, taken_weights.taken)
    renewed = set(takers)
    for tie in system.tied_parameters * len(system.tied_parameters):  # and those tied to them, and to these
        joined = {name for name, _ in tie}  # what is one weight is one in its moments too
        renewed |= joined if joined & renewed else set()
    for name in renewed:
        learners[name]["optimiser"] = system.agents[name].learner.optimiser.initial_state()
    state["events"].append([now, f"weights of {source} are loaded into {', '.join(takers)}"])
    backend.load_state_dict(copy_tree(with_statistics(state, takers)))
    return taken_weights


def _check_tied(system: System, learners: Mapping[str, Any], taken: Mapping[str, Collection[str]]) -> None:
    """Raise ScenarioError where tied parameters, of which one was taken, would differ."""
    for (first, parameter), *tied in system.tied_parameters:
        for name, tied_name in tied:
            if parameter not in taken.get(first, ()) and tied_name not in taken.get(name, ()):
                continue
            values = learners[first]["parameters"][parameter]
            tied_values = learners[name]["parameters"][tied_name]
            if not torch.equal(values, tied_values):
                raise ScenarioError(
                    f"'{first}.{parameter}' and '{name}.{tied_name}' are tied and would differ; take equal "
                    f"weights for '{first}' and '{name}'"
                )


def take_tensors(
    learner: dict[str, Any], saved_learner: Mapping[str, Any] | None, giver: str
) -> tuple[list[str], dict[str, str]]:
    """Put what fits of a saved learner into another one's state, and return what was taken, and why the rest was not."""
    taken_tensors: list[str] = []
    reasons: dict[str, str] = {}
    for section in _TENSORS:
        for tensor, present in learner[section].items():
            saved = None if saved_learner is None else saved_learner[section].get(tensor)
            if saved_learner is None:
                reasons[tensor] = f"the run has no agent '{giver}'"
            elif saved is None:
                reasons[tensor] = "the run's agent has none"
            elif saved.shape != present.shape:
                reasons[tensor] = f"{list(saved.shape)} in the run, {list(present.shape)} here"
            else:
                learner[section][tensor] = saved.to(present)
                taken_tensors.append(tensor)
    return taken_tensors, reasons


def read_learners(source: str | Path, agents: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts of a checkpoint, or of a run directory's newest, and its learners' tensors by agent.

    Args:
        agents: The agents that are read; others are empty. Agents that share parameters are one learner, by the first of them.

    Raises:
        RunError: There is no checkpoint, or it is damaged.
    """
    path = latest(source)

    def learners_of(state: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {key: learner[key] for key in _TENSORS if name in agents}
            for name, learner in state["system"]["learners"].items()
        }

    return read(path, select=learners_of)
