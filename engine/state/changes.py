"""Changes in mid-run: which settings of a scenario a running simulation can change, by the names of `Simulation.set`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path
from antiphon.base.spec import AUTO, accepted_keys, frozen_data, plain
from antiphon.base.spellings import spelled
from antiphon.engine.state.hyperparameters import OF_AGENTS, OF_CHANNELS, path_of
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.tied_parameters import tied_agents
from antiphon.scenarios.training import OptimiserSpec, TrainingSpec

_AGENT_KEYS: Mapping[str, Path] = {
    **{key: hyperparameter.path for key, hyperparameter in OF_AGENTS.items()},
    "schedule": ("optimiser", "schedule"),
    "learn": ("learn",),
}
"""What can change of an agent, and where it is in the scenario file."""
_CHANNEL_KEYS: Mapping[str, Path] = {
    **{key: hyperparameter.path for key, hyperparameter in OF_CHANNELS.items()},
    "schedule": ("gradient", "optimiser", "schedule"),
    "learn": ("gradient", "learn"),
    "input.schedule": ("input", "optimiser", "schedule"),
    "input.learn": ("input", "learn"),
    "bits": ("link", "bits"),
}
"""What can change of a channel, and where it is in the scenario file."""


def changed(scenario: Scenario, changes: Iterable[tuple[str, Any]]) -> Scenario:
    """Return a scenario with settings changed that a running simulation can change.

    Args:
        scenario: Not changed itself.
        changes: `NAME.KEY` and the new value, in order. NAME is an agent or a channel; `*` in it stands for any
            characters: `n*.learning_rate`, `a->*.scale`.

    Raises:
        ScenarioError: There is no such name, the setting cannot change in mid-run, or not to this value.
    """
    agents, channels = dict(scenario.agents), {channel.name: channel for channel in scenario.channels}
    for key, value in changes:
        pattern, _, setting = full_key(key).partition(".")
        of_agents = "->" not in pattern
        keys = _AGENT_KEYS if of_agents else _CHANNEL_KEYS
        path = path_of(setting, keys)
        names = [name for name in (agents if of_agents else channels) if fnmatchcase(name, pattern)]
        if not names and not setting:
            raise ScenarioError(
                f"set: '{key}' has no agent or channel; write '*.{key}' for all, or NAME.{key}"
            )
        if not names:
            kind = "agent" if of_agents else "channel"
            raise ScenarioError(
                f"set: no {kind} '{pattern}'{suggest(pattern, agents if of_agents else channels)}"
            )
        if path is None:
            known = {
                key for name in names for key in _changeable(agents[name] if of_agents else channels[name])
            }
            fix = suggest(setting, known, listed="these can")
            raise ScenarioError(f"set: '{setting}' of '{pattern}' cannot change during a run{fix}")
        refused = {
            name: why
            for name in names
            if (
                why := (_lacks(agents[name], path) if of_agents else _refusal(channels[name], path, value))
                or _made_with(agents[name] if of_agents else channels[name], path, scenario.training)
            )
        }
        names = [name for name in names if name not in refused]
        if not names:
            name, why = next(iter(refused.items()))
            raise ScenarioError(f"set: {setting} of {name}: {why}")
        try:
            new = frozen_data(value)
            for name in names:
                if not of_agents:
                    channels[name] = _with(channels[name], path, new, scenario)
                    continue
                for agent in (name,) if path[0] == "objective" else _learning_as_one(scenario, name):
                    agents[agent] = _with(agents[agent], path, new, scenario)
        except DocumentError as error:
            within = error.path[len(path) :]  # of a value with keys of its own, such as a schedule
            key_path = ".".join(map(str, (key, *within)))
            raise ScenarioError(f"set: {key_path}: {error.message}") from None
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    try:
        new_scenario = Scenario(**{**fields, "agents": agents, "channels": tuple(channels.values())})
    except DocumentError as error:
        raise ScenarioError(f"set: {error}") from None
    _check_defaults(scenario, new_scenario)
    return new_scenario


def full_key(key: str) -> str:
    """Return the standard name of a setting: `n0.learning_rate` for `n0.lr`; ScenarioError for what is no string."""
    if not isinstance(key, str):
        raise ScenarioError(f"set: {key!r}; must be a string such as 'AGENT.learning_rate'")
    name, dot, setting = key.partition(".")
    return f"{name}{dot}{spelled(setting, _CHANNEL_KEYS if '->' in name else _AGENT_KEYS)}"


def _learning_as_one(scenario: Scenario, agent: str) -> Sequence[str]:
    """The agents that share an agent's parameters or are tied to it, itself included: their optimisers change together."""
    group = scenario.agents[agent].share
    if group is not None:
        return [name for name, spec in scenario.agents.items() if spec.share == group]
    return tied_agents(scenario.share).get(agent, (agent,))


def _check_defaults(scenario: Scenario, changed: Scenario) -> None:
    """Refuse a change by which a default becomes another whose state the run lacks: a predictor's passes or inputs, or a gate."""
    for before, now in zip(scenario.channels, changed.channels, strict=True):
        fixes = []
        if before.gradient.passes != now.gradient.passes:
            fixes.append("passes: first")
        elif before.gradient.context != now.gradient.context:
            fixes.append(f"context: [{', '.join(before.gradient.context)}]")
        if scenario.relations.gated(before) != changed.relations.gated(now):
            fixes.append("gate: none")
        if fixes:
            fix = f"begin the run with gradient: {{{', '.join(fixes)}}}"
            raise ScenarioError(
                f"set: channel {now.name}: by default it has what this run has no state for; {fix}"
            )


def _changeable(part: AgentSpec | ChannelSpec) -> Iterator[str]:
    """Yield the keys that can change of an agent or a channel that a document declares so."""
    if isinstance(part, ChannelSpec):
        yield from (key for key, path in _CHANNEL_KEYS.items() if _refusal(part, path, value=1) is None)
        return
    objective = part.objective
    for key, path in _AGENT_KEYS.items():
        stars: Iterable[str] = ("",)
        if key == "scale.*":
            stars = map(str, range(0 if objective is not None else len(part.objectives)))
        elif key == "reward.*":
            weights = None if objective is None else objective.reward
            stars = weights if isinstance(weights, Mapping) else ()
        for star in stars:
            own = tuple((int(star) if star.isdecimal() else star) if step == "*" else step for step in path)
            if _lacks(part, own) is not None:
                continue
            if own[0] != "objective" or len(own) > 2 or own[1] in accepted_keys(type(objective)):  # type: ignore[arg-type]
                yield key.replace("*", star)


def _lacks(agent: AgentSpec, path: Path) -> str | None:
    """Return why a setting of an agent's objective cannot change, with the fix; None: it can."""
    section, *keys = path
    if section != "objective":
        return None
    if not agent.objectives:
        return "it has no objective; choose another agent"
    if isinstance(keys[0], int):
        if agent.objective is not None:
            return "it has one objective, not a list; leave out the number"
        if keys[0] not in range(len(agent.objectives)):
            return f"it has {len(agent.objectives)} objectives in a list, counted from 0; choose another"
    elif agent.objective is None:
        return f"it has {len(agent.objectives)} objectives in a list, of which only scales can change; write scale.0"
    elif keys[0] == "reward" and keys[1] not in (agent.objective.reward or ()):
        return f"{keys[1]!r} is not among its rewards; name it in objective.reward"
    return None


def _refusal(channel: ChannelSpec, path: Path, value: object) -> str | None:
    """Return why a setting of a channel cannot change, with the fix; None: it can."""
    section, key, *_ = path
    if section == "link":
        if channel.state:
            return "a state crosses no link; leave it out"
        if key == "drop" and not (channel.link.drop and value):
            return "changes only between values above 0, since a link without loss keeps no messages; begin above 0"
        if key == "bits" and value == AUTO:
            return "auto is chosen before the run; give a number, or None"
        return None
    if not channel.coupling.predicts:
        return f"it is {channel.coupling.name} and has no synthetic {section}; choose a decoupled or unlocked channel"
    return (
        "it has no synthetic input; choose another channel"
        if section == "input" and channel.input is None
        else None
    )


def _made_with(part: AgentSpec | ChannelSpec, path: Path, training: TrainingSpec) -> str | None:
    """Return why the weight decay of an optimiser cannot change, with the fix; None: it can."""
    if path[-2:] != ("optimiser", "weight_decay"):
        return None
    own = part.optimiser if isinstance(part, AgentSpec) else getattr(part, str(path[0])).optimiser
    optimiser = own or _default_optimiser(part, training)
    if not optimiser.is_torchs:
        return None
    return "an optimiser of torch's is made with it; begin with it, or use sgd, adam or adamw without groups"


def _default_optimiser(part: AgentSpec | ChannelSpec, training: TrainingSpec) -> OptimiserSpec:
    """Return the optimiser of an agent or a predictor that has none of its own."""
    return training.optimiser if isinstance(part, AgentSpec) else training.predictor or training.optimiser


def _with(spec: Any, path: Path, value: object, scenario: Scenario) -> Any:
    """Return an agent's or a channel's part of a document with the value at `path` changed."""
    document = plain(spec)
    at: Any = document
    for key in path[:-1]:
        if key == "optimiser" and key not in at:
            at[key] = plain(_default_optimiser(spec, scenario.training))
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    at[path[-1]] = value
    return type(spec)(**document)
