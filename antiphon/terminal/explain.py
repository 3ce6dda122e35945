"""Explanations of scenarios as plain data: components, costs, waves, learning groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import Space, spaces

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.shapes import port_norm
from antiphon.engine.heart.system import System
from antiphon.engine.metrics.description import about_agent, about_channel
from antiphon.envs import Description, Signal, describe, ids, options_of
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import ChannelSpec, EnvSpec, Scenario, Template


def built(scenario: Scenario) -> System:
    """Build a scenario without its data: the build check. A large one is built without parameters."""
    return build_to_look(scenario, describe(scenario.env))


def explain(scenario: Scenario, system: System) -> dict[str, Any]:
    """Return the explanation of a resolved scenario and its system."""
    agents = {name: _agent(scenario, system, name) for name in scenario.agents}
    counted = {agent.learner: agent.learner.parameters for agent in system.agents.values()}
    return {
        "scenario": scenario.scenario,
        "description": scenario.description,
        "readout": list(scenario.readouts),
        "batch": scenario.training.batch,
        "steps": scenario.training.steps,
        "parameters": sum(p.numel() for numbers in counted.values() for p in numbers.values()),
        "agents": agents,
        "channels": {channel.name: _channel(scenario, channel, system) for channel in scenario.channels},
        "waves": [list(wave) for wave in scenario.waves()],
        "locked_groups": [
            {"agents": list(group), "window": scenario.window(group)}
            for group in scenario.locked_groups()
            if len(group) > 1
        ],
        "environment": _environment(_id(scenario), system.description),
    }


def explain_template(template: Template | PythonTemplate, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a template, with the values they have, and its variants."""
    if isinstance(template, PythonTemplate):  # of its parameters only the values are known
        parameters = {
            name: {"value": value, "accepts": "", "description": template.explained.get(name, "")}
            for name, value in resolved.items()
        }
        variants = {
            name: settings for name, settings in template.variants.items() if isinstance(settings, Mapping)
        }
        return {"parameters": parameters, "variants": variants}
    return {
        "parameters": {
            name: {
                "value": resolved[name],
                "accepts": parameter.accepts,
                "description": parameter.description,
            }
            for name, parameter in template.parameters.items()
        },
        "variants": {name: dict(values) for name, values in template.variants.items()},
    }


def explain_environment(name: str, description: Description) -> dict[str, Any]:
    """Return the explanation of an environment: its signals, and its options unless it is one of another library."""
    rows = options_of(name).rows() if name in ids() else ()
    options = {key: {"meaning": meaning, "default": default} for key, meaning, default in rows}
    return {**_environment(name, description), "options": options}


def _environment(name: str, description: Description) -> dict[str, Any]:
    return {
        "id": name,
        "hold": description.hold,
        "episode_steps": description.episode_steps,
        "longest_episode": description.longest_episode,
        "examples": dict(description.example_counts),
        "actions": _actions(description.action_space),
        "signals": {name: _signal(signal) for name, signal in description.signals.items()},
    }


def _actions(space: Space[Any] | None) -> dict[str, str]:
    """Return what an action of each part is, by the name of the part; a space without parts is called `action`."""
    if space is None:
        return {}
    parts = space.spaces if isinstance(space, spaces.Dict) else {"action": space}
    return {name: _action(part) for name, part in parts.items()}


def _action(space: Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    if isinstance(space, spaces.Box):
        low, high = space.low.min(), space.high.max()
        return f"{' x '.join(map(str, space.shape)) or 1} numbers from {low:g} to {high:g}"
    return str(space)


def _id(scenario: Scenario) -> str:
    return scenario.env.id if isinstance(scenario.env, EnvSpec) else f"a Python {type(scenario.env).__name__}"


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "shape": list(signal.shape),
        "classes": signal.classes,
        "training_only": signal.training_only,
        "known": signal.known,
    }


def _agent(scenario: Scenario, system: System, name: str) -> dict[str, Any]:
    spec, learner = scenario.agents[name], system.agents[name].learner
    return {
        "readout": name in scenario.readouts,
        "incoming": [channel.name for channel in scenario.inputs_of(name)],
        "inputs": list(learner.network.input_shape),
        "parameters": sum(p.numel() for p in learner.parameters.values()),
        "clock": {"period": spec.clock.period, "phase": spec.clock.phase, "unroll": spec.clock.unroll},
        "about": about_agent(scenario, name),
    }


def _channel(scenario: Scenario, channel: ChannelSpec, system: System) -> dict[str, Any]:
    norm = None
    if channel.port_components is not None and not channel.state:
        norm = port_norm(channel, scenario.agents[channel.sender], system.description)
    return {
        "from": channel.sender,
        "to": channel.receiver,
        "shape": list(system.channels[channel.name].content.shape),
        "norm": norm,
        "coupling": channel.coupling.name,
        "delay": channel.link.delay,
        "about": about_channel(channel, scenario.relations),
    }
