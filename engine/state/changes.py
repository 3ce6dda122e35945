"""Settings that change in mid-run, and the numbers in which the members of a stack may differ.

A number that all members of a stack share is a float there; one in which they differ is a tensor with one for each
(nets/per_member.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, NamedTuple

import torch

from antiphon.agents.objectives import Weighted
from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.kinds import KindSpec, Options
from antiphon.base.problems import DocumentError, Path, show_path, show_value
from antiphon.base.spec import Spec, frozen_data, plain, written_key
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.state.compatibility import described
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec, GradientSpec
from antiphon.scenarios.relations import tied_agents
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.training import OptimiserSpec, TrainingSpec


class Setting(NamedTuple):
    """A hyperparameter: what can change in mid-run."""

    path: Path
    """Its place in an agent or channel of a scenario file; `*`: any key."""
    attribute: str
    """Its place in the built agent or channel: a number, None, or where the path has a `*` a tuple of numbers."""
    apart: tuple[float | None, ...] = ()
    """Values with which the step is computed in another way, and which are therefore not changed in place."""


_NOT_0 = (None, 0.0)


def _trained(path: Path, attribute: str, prefix: str = "") -> dict[str, Setting]:
    return {
        f"{prefix}learning_rate": Setting((*path, "lr"), f"{attribute}.rate.base"),
        **{
            f"{prefix}optimiser.{key}": Setting((*path, key), f"{attribute}.optimiser.{key}", _NOT_0)
            for key in ("clip", "weight_decay")
        },
    }


OF_AGENTS: Mapping[str, Setting] = {
    **_trained(("optimiser",), "learner"),
    "scale": Setting(("objective", "scale"), "goal.weight"),
    "scale.*": Setting(("objective", "*", "scale"), "goal.objective.weights"),
    "reward.*": Setting(("objective", "reward", "*"), "goal.rewards.weights"),
    **{
        key: Setting(("objective", key), f"goal.objective.{key}")
        for key in ("discount", "trace", "entropy", "value", "clip", "epsilon")
    },
    "p_update": Setting(("learn",), "participation.probability", (0.0, 1.0)),
}
"""Settings of agents by their names in `Simulation.set`; `*` stands for the name of a reward, or the place of an objective."""
OF_CHANNELS: Mapping[str, Setting] = {
    **_trained(("gradient", "optimiser"), "synthetic_gradient.model"),
    **{key: Setting(("gradient", key), f"synthetic_gradient.{key}", _NOT_0) for key in ("scale", "discount")},
    **_trained(("input", "optimiser"), "synthetic_input.model", "input."),
    **{key: Setting(("link", key), f"wire.link.{key}", _NOT_0) for key in ("drop", "noise")},
}
"""Settings of channels; without a prefix they are the synthetic gradient's."""
HYPERPARAMETERS: Mapping[type, tuple[str, ...]] = {
    owner: tuple(setting.attribute for setting in settings.values())
    for owner, settings in ((Agent, OF_AGENTS), (Channel, OF_CHANNELS))
}
"""The places of hyperparameters in what is built, in order."""


# --- changes of a scenario -----------------------------------------------------------------------------------


def changed(scenario: Scenario, changes: Iterable[tuple[str, Any]]) -> Scenario:
    """Return a scenario with settings changed that a running simulation can change, or ScenarioError.

    `changes`: `NAME.KEY` and the new value, in order. NAME is an agent or a channel; `*` in it stands for any
    characters: `n*.learning_rate`, `a->*.scale`. Of several names, those that lack the setting are left out.
    """
    agents, channels = dict(scenario.agents), {channel.name: channel for channel in scenario.channels}
    for key, value in changes:
        pattern, _, setting = key.partition(".")
        of_channels = "->" in pattern
        specs: dict[str, Any] = channels if of_channels else agents
        settings = OF_CHANNELS if of_channels else OF_AGENTS
        names = [name for name in specs if fnmatchcase(name, pattern)]
        if not names:
            if not setting:
                raise ScenarioError(f"set: '{key}' has no agent or channel; write '*.{key}' for all")
            kind = "channel" if of_channels else "agent"
            raise ScenarioError(f"set: no {kind} '{pattern}'{suggest(pattern, specs)}")
        path = _path_of(setting, settings)
        if path is None:
            line = f"set: '{setting}' of '{pattern}' cannot change during a run"
            raise ScenarioError(line + suggest(setting, settings))
        refused = {name: _refusal(specs[name], path, value, scenario.training) for name in names}
        if all(refused.values()):
            raise ScenarioError(f"set: {setting} of {names[0]}: {refused[names[0]]}")
        try:
            new = frozen_data(value)
            for name in names:
                if not refused[name]:
                    alone = of_channels or path[0] == "objective"
                    for each in (name,) if alone else _learning_as_one(scenario, name):
                        specs[each] = _with(specs[each], path, new, scenario.training)
        except DocumentError as error:
            raise ScenarioError(f"set: {key}: {error.message}") from None
    try:
        new_scenario = scenario.with_fields(agents=agents, channels=tuple(channels.values()))
    except DocumentError as error:
        raise ScenarioError(f"set: {error}") from None
    for before, now in zip(scenario.channels, new_scenario.channels, strict=True):
        if scenario.relations.gated(before) != new_scenario.relations.gated(now):
            line = f"set: channel {now.name}: by default it has a gate, which this run has no state for"
            raise ScenarioError(f"{line}; begin the run with gradient: {{gate: none}}")
    return new_scenario


def _path_of(key: str, settings: Mapping[str, Setting]) -> Path | None:
    """Return the place of a key, with what stands for its `*`; None: it is not among the known ones."""
    if key in settings:
        return None if "*" in key else settings[key].path
    prefix, _, name = key.partition(".")
    if f"{prefix}.*" not in settings:
        return None
    star: Any = int(name) if name.isdecimal() else name
    return tuple(star if step == "*" else step for step in settings[f"{prefix}.*"].path)


def _learning_as_one(scenario: Scenario, agent: str) -> Sequence[str]:
    """The agents that share an agent's parameters or are tied to it, itself included: their optimisers change together."""
    group = scenario.agents[agent].share
    if group is not None:
        return [name for name, spec in scenario.agents.items() if spec.share == group]
    return tied_agents(scenario.share).get(agent, (agent,))


def _refusal(part: AgentSpec | ChannelSpec, path: Path, value: object, training: TrainingSpec) -> str:
    """Return why a setting of an agent or a channel cannot change, with the fix; empty: it can."""
    section, key, *_ = (*path, "")
    if path[-2:] == ("optimiser", "weight_decay"):
        own = part.optimiser if isinstance(part, AgentSpec) else getattr(part, str(section)).optimiser
        if not (own or _default_optimiser(part, training)).built_in:
            return "an optimiser of torch's is made with it; begin with it, or use sgd, adam or adamw"
    if isinstance(part, AgentSpec):
        if section != "objective":
            return ""
        if part.objective is None or isinstance(key, int):
            count = len(part.objectives)
            known = part.objective is None and key in range(count)
            return (
                ""
                if known
                else f"it has {count} objectives; write scale for one, scale.0 for the first of several"
            )
        if key == "reward" and path[2] not in (part.objective.reward or ()):
            return f"{path[2]!r} is not among its rewards; name it in objective.reward"
        return ""
    if section == "link":
        if part.state:
            return "a state crosses no link; leave it out"
        if key == "drop" and not (part.link.drop and value):
            return "changes only between values above 0, since a link without loss keeps no messages; begin above 0"
        return ""
    if not part.coupling.predicts or (section == "input" and part.input is None):
        return f"it has no synthetic {section}; choose another channel"
    return ""


def _default_optimiser(part: AgentSpec | ChannelSpec, training: TrainingSpec) -> OptimiserSpec:
    return training.optimiser if isinstance(part, AgentSpec) else training.predictor or training.optimiser


def _with(spec: Any, path: Path, value: object, training: TrainingSpec) -> Any:
    document = plain(spec)
    at: Any = document
    for key in path[:-1]:
        if key == "optimiser" and key not in at:
            at[key] = plain(_default_optimiser(spec, training))
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    at[path[-1]] = value
    return type(spec)(**document)


# --- hyperparameters of what is built ------------------------------------------------------------------------


_NUMBERS = (float, int, tuple)
_GETTERS = {place: attrgetter(place) for places in HYPERPARAMETERS.values() for place in places}


def _get(owner: Agent | Channel, place: str) -> Any:
    try:
        return _GETTERS[place](owner)
    except AttributeError:
        return None


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
    values = (_get(owner, attribute) for attribute in HYPERPARAMETERS[type(owner)])
    return tuple(value if isinstance(value, _NUMBERS) else None for value in values)


def take_values(owner: Agent | Channel, source: Agent | Channel) -> None:
    """Give an agent or channel the hyperparameters of another of the same structure."""
    for attribute, value in zip(HYPERPARAMETERS[type(owner)], values_of(source), strict=True):
        if value is not None:
            _put(owner, attribute, value)


def read_members(stack: Agent | Channel) -> None:
    """Give a stack the hyperparameters of its members: a number where they are equal, and else one for each."""
    values_by_attribute = zip(*map(values_of, stack.members), strict=True)
    for attribute, values in zip(HYPERPARAMETERS[type(stack)], values_by_attribute, strict=True):
        if values[0] is not None and _get(stack, attribute) is not None:
            _put(stack, attribute, _merged(values))


def _merged(values: Sequence[Any]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    if isinstance(values[0], tuple):
        return tuple(map(_merged, zip(*values, strict=True)))
    return torch.tensor(values, dtype=torch.float64)


# --- hyperparameters of scenarios ----------------------------------------------------------------------------


def differences_of(old: Scenario, new: Scenario) -> list[tuple[str, float]]:
    """Return the hyperparameters in which a scenario differs from another: the keys and values of `Simulation.set`.

    Optimisers that are left out count as those of `training`, and what a channel's coupling makes no use of not at all.
    ScenarioError where anything else differs; a value that varies only in a range comes first, since defaults may follow from it.
    """
    changes: list[tuple[str, float]] = []
    structure: list[str] = []
    if old is new:
        return changes
    for path, before, after, is_read in _differing((), _comparable(old), _comparable(new)):
        kind, *of_part = path
        settings = {"agents": OF_AGENTS, "channels": OF_CHANNELS}.get(str(kind), {}) if is_read else {}
        found = ((_key(key, setting, of_part[1:]), setting) for key, setting in settings.items())
        key, setting = next(((key, setting) for key, setting in found if key), ("", None))
        difference = f"{show_path(path)}: {show_value(before)} and {show_value(after)}"
        if setting is None:
            structure.append(difference)
        elif (before in setting.apart or after in setting.apart) and before != after:
            within = "between 0 and 1" if key == "p_update" else "above 0"
            raise ScenarioError(f"{difference}: {of_part[0]}.{key} varies only {within}; begin {within}")
        else:
            changes.append((f"{of_part[0]}.{key}", after))
    if structure:
        line = f"{structure[0]}: this is structure, which cannot vary within a population"
        raise ScenarioError(f"{line}; vary it in the `grid` of a study, or run separate populations")
    return changes


def _key(key: str, setting: Setting, path: Sequence[str | int]) -> str | None:
    """The key of a path, if it is that of a hyperparameter."""
    if len(path) != len(setting.path):
        return None
    pairs = list(zip(setting.path, path, strict=True))
    if any(expected not in ("*", actual) for expected, actual in pairs):
        return None
    return key.replace("*", next((str(actual) for expected, actual in pairs if expected == "*"), ""))


def _comparable(scenario: Scenario) -> dict[str, Any]:
    """The fields of a scenario, with the optimisers of agents and predictors, and without what has no effect."""
    training = scenario.training

    def complete(spec: Any, part: AgentSpec | ChannelSpec) -> Any:
        if spec is None or spec.optimiser is not None:
            return spec
        return spec.model_copy(update={"optimiser": _default_optimiser(part, training)})

    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    channels: dict[str, ChannelSpec] = {}
    for channel in scenario.channels:
        update: dict[str, Any] = {"gradient": GradientSpec(), "input": None}
        if channel.coupling.predicts:
            update = {key: complete(getattr(channel, key), channel) for key in update}
        channels[channel.name] = channel.model_copy(update=update)
    same = training.model_copy(update={"optimiser": OptimiserSpec(), "predictor": None})
    agents = {name: complete(spec, spec) for name, spec in scenario.agents.items()}
    return {**fields, "agents": agents, "channels": channels, "training": same}


def _differing(path: Path, old: Any, new: Any, is_read: bool = True) -> Iterator[tuple[Path, Any, Any, bool]]:
    """Yield the places of two trees that differ, both values, and whether numbers there are read at every step: of a kind's own keys, not
    where an object of torch's or a user's is made with them.
    """
    if old == new:
        return
    if isinstance(old, KindSpec) and isinstance(new, KindSpec) and old.source is not new.source:
        yield (*path, "kind"), old.kind, new.kind, False
    elif isinstance(old, Spec) and type(old) is type(new):
        for name in type(old).model_fields:
            before, after = getattr(old, name), getattr(new, name)
            if isinstance(old, KindSpec) and name == "own":
                yield from _differing(path, before, after, old.built_in)
            else:
                at, read = (*path, written_key(type(old), name)), is_read or not isinstance(old, Options)
                yield from _differing(at, before, after, read)
        yield from _differing(path, old.model_extra or {}, new.model_extra or {}, False)
    elif isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        for key in old:
            yield from _differing((*path, key), old[key], new[key], is_read)
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differing((*path, index), before, after, is_read)
    elif described(old) != described(new):  # else objects made alike
        yield path, old, new, is_read
