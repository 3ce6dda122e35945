"""Hyperparameters: the numbers in which the members of a stack may differ, and which change in place in mid-run.

A number that all members of a stack share is a float there; one in which they differ is a tensor with one for each
(nets/per_member.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from antiphon.agents.objectives import Weighted
from antiphon.base.errors import ScenarioError
from antiphon.base.kinds import KindSpec
from antiphon.base.problems import Path, show_path, show_value
from antiphon.base.spec import Spec, written_key
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.state.described_scenario import described
from antiphon.scenarios.channel_specs import ChannelSpec, GradientSpec
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.training import OptimiserSpec

ELSEWHERE = "vary it in the `grid` of a study, or run separate populations"
"""The fix where structure varies."""


class Hyperparameter(NamedTuple):
    """Where a number is."""

    path: Path
    """In an agent or channel of a scenario file; `*`: any key."""
    attribute: str
    """In the built agent or channel: a number, None, or where the path has a `*` a tuple of numbers."""
    apart: tuple[float | None, ...] = ()
    """Values with which the step is computed in another way, and which are therefore not changed in place."""


_NOT_0 = (None, 0.0)


def _trained(path: Path, attribute: str, prefix: str = "") -> dict[str, Hyperparameter]:
    hyperparameters = {"learning_rate": Hyperparameter((*path, "lr"), f"{attribute}.rate.base")}
    for key in ("clip", "weight_decay"):
        hyperparameter = Hyperparameter((*path, key), f"{attribute}.optimiser.{key}", _NOT_0)
        hyperparameters[f"optimiser.{key}"] = hyperparameter
    return {prefix + key: hyperparameter for key, hyperparameter in hyperparameters.items()}


OF_AGENTS: Mapping[str, Hyperparameter] = {
    **_trained(("optimiser",), "learner"),
    "scale": Hyperparameter(("objective", "scale"), "goal.weight"),
    "scale.*": Hyperparameter(("objective", "*", "scale"), "goal.objective.weights"),
    "reward.*": Hyperparameter(("objective", "reward", "*"), "goal.rewards.weights"),
    **{
        key: Hyperparameter(("objective", key), f"goal.objective.{key}")
        for key in ("discount", "trace", "entropy", "value", "clip", "epsilon")
    },
    "p_update": Hyperparameter(("learn",), "participation.probability", (0.0, 1.0)),
}
"""Hyperparameters of agents by their names in `Simulation.set`; `*` stands for the name of a reward, or the place of an objective."""
OF_CHANNELS: Mapping[str, Hyperparameter] = {
    **_trained(("gradient", "optimiser"), "synthetic_gradient.model"),
    "scale": Hyperparameter(("gradient", "scale"), "synthetic_gradient.injection.scale.base", _NOT_0),
    **{
        key: Hyperparameter(("gradient", key), f"synthetic_gradient.injection.{key}", _NOT_0)
        for key in ("discount", "clip")
    },
    **_trained(("input", "optimiser"), "synthetic_input.model", "input."),
    **{key: Hyperparameter(("link", key), f"ledger.link.{key}", _NOT_0) for key in ("drop", "noise")},
}
"""Hyperparameters of channels; without a prefix they are the synthetic gradient's."""


def path_of(key: str, paths: Mapping[str, Path]) -> Path | None:
    """Return the place of a key, with what stands for its `*`; None: it is not among the known ones."""
    if key in paths:
        return None if "*" in key else paths[key]
    prefix, _, name = key.partition(".")
    star: Any = int(name) if name.isdecimal() else name
    return (
        tuple(star if component == "*" else component for component in paths.get(f"{prefix}.*", ())) or None
    )


# --- of what is built ----------------------------------------------------------------------------------------


def _all_of(owner: Agent | Channel) -> Iterator[str]:
    return (
        hyperparameter.attribute
        for hyperparameter in (OF_AGENTS if isinstance(owner, Agent) else OF_CHANNELS).values()
    )


def _get(value: Any, attribute: str) -> Any:
    for name in attribute.split("."):
        value = getattr(value, name, None)
    return value


def _put(owner: Any, attribute: str, value: Any) -> Any:
    """Return a part with another value at a place in it; it is changed itself, unless it is shared or frozen."""
    name, _, rest = attribute.partition(".")
    value = _put(getattr(owner, name), rest, value) if rest else value
    if getattr(owner, "__dataclass_params__", None) and owner.__dataclass_params__.frozen:
        return replace(owner, **{name: value})
    owner = copy.copy(owner) if isinstance(owner, Weighted) else owner
    setattr(owner, name, value)
    return owner


def values_of(owner: Agent | Channel) -> tuple[Any, ...]:
    """Return the hyperparameters of a single agent or channel, in order; None: it does not have one."""
    values = (_get(owner, attribute) for attribute in _all_of(owner))
    return tuple(value if isinstance(value, float | int | tuple) else None for value in values)


def take_values(owner: Agent | Channel, source: Agent | Channel) -> None:
    """Give an agent or channel the hyperparameters of another of the same structure."""
    for attribute, value in zip(_all_of(owner), values_of(source), strict=True):
        if value is not None:
            _put(owner, attribute, value)


def read_members(stack: Agent | Channel) -> None:
    """Give a stack the hyperparameters of its members: a number where they are equal, and else one for each."""
    values_by_attribute = zip(*map(values_of, stack.members), strict=True)
    for attribute, values in zip(_all_of(stack), values_by_attribute, strict=True):
        if values[0] is not None and _get(stack, attribute) is not None:
            _put(stack, attribute, _merged(values))


def _merged(values: Sequence[Any]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    if isinstance(values[0], tuple):
        return tuple(map(_merged, zip(*values, strict=True)))
    return torch.tensor(values, dtype=torch.float64)


# --- of scenarios --------------------------------------------------------------------------------------------


def differences_of(old: Scenario, new: Scenario) -> list[tuple[str, float]]:
    """Return the hyperparameters in which a scenario differs from another: the keys and values of `Simulation.set`.

    Optimisers that are left out count as those of `training`, and what a channel's coupling makes no use of not at all.

    Raises:
        ScenarioError: Anything else differs; the line names the place, both values and the fix. A value that varies only in a
            range comes first, since defaults may follow from it.
    """
    changes: list[tuple[str, float]] = []
    structure: list[str] = []
    if old is new:
        return changes
    for path, before, after, built_in in _differing((), _comparable(old), _comparable(new)):
        kind, *of_part = path
        hyperparameters = (
            {"agents": OF_AGENTS, "channels": OF_CHANNELS}.get(str(kind), {}) if built_in else {}
        )
        keys = (
            (_key(key, hyperparameter.path, of_part[1:]), hyperparameter)
            for key, hyperparameter in hyperparameters.items()
        )
        key, hyperparameter = next(
            ((key, hyperparameter) for key, hyperparameter in keys if key is not None), ("", None)
        )
        difference = f"{show_path(path)}: {show_value(before)} and {show_value(after)}"
        if hyperparameter is None:
            of_torch = "optimiser" in path and path[-1] != "kind" and ("groups" in path or not built_in)
            made = "an optimiser of torch's, as one with `groups` is, is made with it: " if of_torch else ""
            structure.append(f"{difference}: {made}this is structure")
            continue
        if (before in hyperparameter.apart or after in hyperparameter.apart) and before != after:
            within = "between 0 and 1" if key == "p_update" else "above 0"
            raise ScenarioError(f"{difference}: {of_part[0]}.{key} varies only {within}; begin {within}")
        changes.append((f"{of_part[0]}.{key}", after))
    if structure:
        raise ScenarioError(f"{structure[0]}, which cannot vary within a population; {ELSEWHERE}")
    return changes


def _key(key: str, pattern: Path, path: Sequence[str | int]) -> str | None:
    """The key of a path, if it is that of a hyperparameter."""
    if len(path) != len(pattern):
        return None
    pairs = list(zip(pattern, path, strict=True))
    if any(expected not in ("*", actual) for expected, actual in pairs):
        return None
    return key.replace("*", next((str(actual) for expected, actual in pairs if expected == "*"), ""))


def _comparable(scenario: Scenario) -> dict[str, Any]:
    """The fields of a scenario, with the optimisers of agents and predictors, and without what has no effect."""
    training = scenario.training
    optimiser = training.optimiser
    predictor = training.predictor or optimiser
    agents = {
        name: spec.model_copy(update={"optimiser": spec.optimiser or optimiser})
        for name, spec in scenario.agents.items()
    }
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    channels: dict[str, ChannelSpec] = {}
    for channel in scenario.channels:
        update: dict[str, Any] = {"gradient": GradientSpec(), "input": None}
        if channel.coupling.predicts:
            parts = {key: getattr(channel, key) for key in update}
            update = {
                key: spec.model_copy(update={"optimiser": predictor})
                for key, spec in parts.items()
                if spec is not None and spec.optimiser is None
            }
        channels[channel.name] = channel.model_copy(update=update)
    same = training.model_copy(update={"optimiser": OptimiserSpec(), "predictor": None})
    return {**fields, "agents": agents, "channels": channels, "training": same}


def _is_ours(spec: KindSpec) -> bool:
    """Whether the numbers of a kind's own keys are read at every step, and not where an object of torch's or a user's is made."""
    return not spec.is_torchs if isinstance(spec, OptimiserSpec) else spec.built_in


def _differing(
    path: Path, old: Any, new: Any, built_in: bool = True
) -> Iterator[tuple[Path, Any, Any, bool]]:
    """Yield the places of two trees that differ, both values, and whether a place is not a key of a user's kind."""
    if old == new:
        return
    mappings = isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys()
    if isinstance(old, Spec) and type(old) is type(new):
        for name in type(old).model_fields:
            users_key = isinstance(old, KindSpec) and name in old.own_keys and not _is_ours(old)
            at = (*path, written_key(type(old), name))
            yield from _differing(at, getattr(old, name), getattr(new, name), not users_key)
        yield from _differing(path, old.model_extra or {}, new.model_extra or {}, False)
    elif isinstance(old, KindSpec) and isinstance(new, KindSpec):
        yield from _differing((*path, "kind"), getattr(old, "kind", None), getattr(new, "kind", None), False)
    elif mappings:
        for key in old:
            yield from _differing((*path, key), old[key], new[key], built_in)
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differing((*path, index), before, after, built_in)
    elif described(old) != described(new):  # else objects made alike
        yield path, old, new, built_in
