"""Weights of another run: what fits a system's agents by name and shape is taken, and what was and was not is stated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch

from antiphon.engine.core.system import System
from antiphon.engine.state.checkpoint import copy_tree, latest, read
from antiphon.engine.step.backends import Backend
from antiphon.errors import ScenarioError, suggest
from antiphon.files import fitting

__all__ = ["Fit", "SavedLearners", "TakenWeights", "load_weights", "read_learners", "take_weights"]

Fit = Literal["tensors", "layers", "all"]
"""What is taken of an agent: every tensor that fits; layers of which every tensor fits; or all, else it is refused."""
_PARTS = ("parameters", "buffers")
_NAMED = 4
"""Most tensors that an error names."""


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
        optimisers: Whether optimiser states were taken too.
    """

    source: str
    taken: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    of: dict[str, str] = field(default_factory=dict)
    step: int = 0
    sha256: str = ""
    optimisers: bool = False

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
                "optimiser": self.optimisers,
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
    fit: Fit = "tensors",
    *,
    optimisers: bool = False,
) -> TakenWeights:
    """Put weights of another run into a backend, with an event; see `BaseSimulation.load_weights`.

    The optimisers of agents that take any, and of those that are tied to them, begin anew, unless theirs are taken too.

    Args:
        backend: Changed only where something fits.
        now: The step of the event.
        source: A run directory or a checkpoint folder.
        agents: As of `take_weights`.
        fit: Likewise.
        optimisers: Whether optimiser states are taken too, with `fit="all"`.

    Raises:
        RunError: As `read_learners`.
        ScenarioError: As `take_weights`, tied parameters would differ, or an optimiser state does not fit.
    """
    if fit not in get_args(Fit):
        raise ScenarioError(f"load_weights: fit={fit!r}; must be one of {', '.join(get_args(Fit))}")
    if optimisers and fit != "all":
        raise ScenarioError(
            "load_weights: an optimiser state belongs to all tensors of an agent; add fit='all'"
        )
    system = backend.per_agent()
    agents = _checked_names(system, agents)
    state = copy_tree(backend.state_dict())
    saved = read_learners(source, _givers(agents, state["learners"]))
    found = take_weights(state["learners"], saved.by_agent, str(source), agents, fit)
    found = replace(found, step=saved.step, sha256=saved.sha256, optimisers=optimisers)
    takers = [name for name, taken in found.taken.items() if taken]
    _check_ties(system, state["learners"], found)
    renewed = set(takers)
    for groups in system.joined_ties():  # what is one weight is one in its moments too
        joined = {name for tie in groups for name, _ in tie}
        if optimisers and joined & renewed:
            raise ScenarioError(
                f"'{min(joined & renewed)}' has parameters that are tied to those of other agents, and their "
                "optimiser states with them; leave the optimiser states out"
            )
        renewed |= joined if joined & renewed else set()
    for name in renewed:
        learner, own = state["learners"][name], system.agents[name].learner.optimiser.initial_state()
        if optimisers:
            theirs = saved.by_agent[found.of[name]]
            own = _optimiser_state(own, theirs["optimiser"], name, f"{source}:{found.of[name]}")
            learner["updates"] = theirs["updates"]
        learner["optimiser"] = own
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


def _optimiser_state(
    own: Mapping[str, Any], saved: Mapping[str, Any], name: str, source: str
) -> dict[str, Any]:
    """Return a saved optimiser state in the types of an agent's own; ScenarioError where it is of another optimiser."""
    ours, theirs = _optimiser_in_words(own), _optimiser_in_words(saved)
    if ours != theirs:
        raise ScenarioError(
            f"the optimiser state of {source} is {theirs}, that of '{name}' here is {ours}; give both the "
            "same optimiser, or leave its state out"
        )
    if "torch" in own:  # settings stay its own
        return {
            "torch": [
                {**mine, "state": copy_tree(each["state"])}
                for mine, each in zip(own["torch"], saved["torch"], strict=True)
            ]
        }
    return {
        key: [tensor.to(mine) for tensor, mine in zip(saved[key], tensors, strict=True)]
        for key, tensors in own.items()
    }


def _optimiser_in_words(state: Mapping[str, Any]) -> str:
    """Describe an optimiser's state: `mean [8, 4] [8], square [8, 4] [8], steps []`."""
    if "torch" in state:
        groups = [sorted(each["param_groups"][0]) for each in state["torch"]]
        return f"torch's, with {', '.join(groups[0])}" if groups else "torch's, of nothing that learns"
    listed = (
        " ".join([key, *(str(list(tensor.shape)) for tensor in tensors)]) for key, tensors in state.items()
    )
    return ", ".join(listed) or "empty"


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
    fit: Fit = "tensors",
) -> TakenWeights:
    """Put weights of another run into the learners of a state, where a name and shape is the same.

    Args:
        learners: By agent, as in a state of the system; what is taken replaces what is there.
        saved: Those of the run.
        source: The run, for the statement and errors.
        agents: Those that take weights, or by these the run's agents that they take them of; None: all that the run has.
        fit: What is taken of an agent. Where whole layers are, those that differ in any tensor keep their own values.

    Raises:
        ScenarioError: One that is named is missing here or there, nothing fits, or with `all` not everything does.
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
    for name, learner in learners.items():
        giver = pairs.get(name)
        if giver is None and agents is not None:
            continue
        theirs = None if giver is None else saved[giver]
        taken, left = found.taken.setdefault(name, []), found.left.setdefault(name, {})
        left |= _differences(learner, theirs, name, fit)
        if fit == "all" and left:
            raise ScenarioError(_refusal(f"{source}:{giver}", name, left))
        for part in _PARTS if theirs is not None else ():
            assert theirs is not None
            for tensor, own in learner[part].items():
                if tensor not in left:
                    learner[part][tensor] = theirs[part][tensor].to(own)
                    taken.append(tensor)
        if fit == "layers" and agents is not None and not taken:
            raise ScenarioError(_refusal(f"{source}:{giver}", name, left))
    if not any(found.taken.values()):
        raise ScenarioError(f"nothing of {source} fits by name and shape; its agents: {', '.join(saved)}")
    return found


def _differences(
    learner: Mapping[str, Any], saved: Mapping[str, Any] | None, name: str, fit: Fit
) -> dict[str, str]:
    """Return why tensors of a learner cannot be taken from a saved one, by tensor; None: there is none."""
    found: dict[str, str] = {}
    for part in _PARTS:
        for tensor, own in learner[part].items():
            theirs = None if saved is None else saved[part].get(tensor)
            if saved is None:
                found[tensor] = f"the run has no agent '{name}'"
            elif theirs is None:
                found[tensor] = "the run's agent has none"
            elif theirs.shape != own.shape:
                found[tensor] = f"{list(theirs.shape)} in the run, {list(own.shape)} here"
        if fit == "all" and saved is not None:
            found |= {tensor: "this agent has none" for tensor in saved[part] if tensor not in learner[part]}
    if fit == "layers":
        layers = {tensor.rpartition(".")[0] for tensor in found}
        for part in _PARTS:
            for tensor in learner[part]:
                if tensor.rpartition(".")[0] in layers:
                    found.setdefault(tensor, "others of its layer differ")
    return found


def _refusal(source: str, name: str, left: Mapping[str, str]) -> str:
    listed = [f"{tensor} ({reason})" for tensor, reason in left.items()]
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return (
        f"{source} does not fit '{name}': {', '.join(listed[:_NAMED])}{more}; give both the same network "
        "and ports, or take only the layers that fit (fit='layers')"
    )
