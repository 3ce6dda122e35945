"""Systems to be looked at, not run: built with numbers where that is quick, and without where they would take much memory."""

from __future__ import annotations

from itertools import pairwise

import torch

from antiphon.agents.network import features_of
from antiphon.engine.build.builder import build
from antiphon.engine.build.shapes import resolve
from antiphon.engine.build.weights import without_weights
from antiphon.engine.core.system import System
from antiphon.envs.signal import Description
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, NetworkSpec

__all__ = ["build_to_look", "outline"]

_META = torch.device("meta")
"""Where tensors have shapes and no numbers."""
_MUCH = 1 << 30
"""Bytes."""


def build_to_look(scenario: Scenario, env: Description, dtype: torch.dtype = torch.float32) -> System:
    """Return the system of a scenario; a large one without numbers, so that it takes hardly any memory.

    Args:
        scenario: The scenario.
        env: What its environment shows.
        dtype: Of all floats.

    Raises:
        ScenarioError: Something does not fit; the line names the place.
    """
    if outline(scenario, env, dtype.itemsize) < _MUCH:
        return build(scenario, env, seed=0, device=torch.device("cpu"), dtype=dtype)
    scenario = without_weights(scenario)
    if any(not isinstance(agent.network, NetworkSpec) for agent in scenario.agents.values()):
        return build(
            scenario, env, seed=0, device=_META, dtype=dtype
        )  # a user's module has numbers of its own
    with _META:
        return build(scenario, env, seed=0, device=_META, dtype=dtype)


def outline(scenario: Scenario, env: Description, width: int) -> int:
    """Return about what a scenario needs in bytes, quickly: within a factor of three or so, users' modules left out.

    Args:
        scenario: The scenario.
        env: What its environment shows.
        width: Bytes of a number.
    """
    shapes = resolve(scenario, env)
    numbers = 0
    for group in scenario.locked_groups():
        window = scenario.window(group)
        steps = (env.episode_steps or env.longest_episode or 1) if isinstance(window, str) else window
        for name in group:
            agent = scenario.agents[name]
            heads = sum(head.features for head in shapes.heads[name])
            weights, units = _outline(agent, shapes.inputs[name], heads)
            numbers += 4 * weights + 3 * units * scenario.training.batch * steps // agent.clock.period
    for channel in scenario.channels:
        size = features_of(shapes.messages[channel.name])
        numbers += 2 * size * scenario.training.batch * (2 + channel.link.delay)
        if channel.coupling in ("decoupled", "unlocked"):
            numbers += 4 * size * _width(channel.gradient.kind, channel.gradient.hidden, size)
            if channel.input is not None:
                numbers += 4 * size * max((size, *channel.input.hidden))
    return numbers * width


def _outline(agent: AgentSpec, inputs: tuple[int, ...], heads: int) -> tuple[int, int]:
    """An agent's weights, and the units that a tick computes."""
    network = agent.network
    if not isinstance(network, NetworkSpec):
        return 0, features_of(inputs) + heads
    if network.kind == "conv":
        channels = (inputs[0], *network.hidden)
        filters = sum(a * b * network.filter**2 for a, b in pairwise(channels))
        return filters + channels[-1] * heads, features_of(inputs[1:]) * sum(channels) + heads
    layers = (features_of(inputs), *(network.encoder if network.recurrent else network.hidden))
    weights = sum(a * b for a, b in pairwise(layers))
    if network.recurrent:
        weights += 4 * network.size * (layers[-1] + network.size)
        layers = (*layers, *(4 * [network.size]))
    return weights + layers[-1] * heads, sum(layers) + heads


def _width(kind: str, hidden: tuple[int, ...], size: int) -> int:
    """About the weights that a synthetic gradient has for a component of the message."""
    if kind == "conv":  # its filters are small
        return 1
    return size if kind == "linear" else max((1, *hidden))
