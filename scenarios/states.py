"""Checks of state channels, and of states as context signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from antiphon.scenarios.parts import STATE, AgentSpec, ChannelSpec, GradientSpec, NetworkSpec
from antiphon.scenarios.problems import DocumentError, Path, show_value

if TYPE_CHECKING:
    from antiphon.scenarios.document import Scenario

__all__ = ["STATES", "STATE_CHECKS"]

STATES = ("from.state", "to.state")
"""Context signals: the states of a channel's ends."""
_COUPLINGS = ("locked", "detached", "decoupled")
_NOT_FOR_STATES = ("size", "port", "norm", "link", "input", "feedback", "read", "staleness")
_FOR_STATES = ("span", "auxiliary")


def _has_state(agent: AgentSpec) -> bool:
    return isinstance(agent.network, NetworkSpec) and agent.network.recurrent


def _state_channels(scenario: Scenario) -> Iterator[tuple[Path, ChannelSpec]]:
    for index, channel in enumerate(scenario.channels):
        if channel.state:
            yield ("channels", index), channel


def _ends(scenario: Scenario) -> None:
    for path, channel in _state_channels(scenario):
        if channel.sender != channel.receiver:
            message = f"a state goes from an agent to itself, {channel.sender!r}, not to {channel.receiver!r}"
            raise DocumentError((*path, "to"), f"{message}; make them one, or carry messages")
        if channel.key != STATE:
            message = f"the key of a state is {STATE}, not {show_value(channel.key)}; leave it out"
            raise DocumentError((*path, "key"), message)
        network = scenario.agents[channel.sender].network
        if not _has_state(scenario.agents[channel.sender]):
            what = f"of kind {network.kind}" if isinstance(network, NetworkSpec) else "not built in"
            message = f"agent {channel.sender!r} has no state, its network being {what}"
            raise DocumentError((*path, "carries"), f"{message}; use kind rnn, leaky, gru or lstm")


def _keys(scenario: Scenario) -> None:
    for path, channel in _state_channels(scenario):
        for key in _NOT_FOR_STATES:
            if getattr(channel, key) != ChannelSpec.model_fields[key].default:
                raise DocumentError((*path, key), f"a state has no {key}; leave it out")
        if channel.coupling not in _COUPLINGS:
            known = ", ".join(_COUPLINGS)
            message = f"a state cannot be {channel.coupling}, its reader being its sender; use one of {known}"
            raise DocumentError((*path, "coupling"), message)


def _gradients(scenario: Scenario) -> None:
    plain = GradientSpec()
    for index, channel in enumerate(scenario.channels):
        path, gradient = ("channels", index, "gradient"), channel.gradient
        if not channel.state:
            for key in _FOR_STATES:
                if getattr(gradient, key) != getattr(plain, key):
                    raise DocumentError((*path, key), "is of state channels only; leave it out")
            continue
        if gradient.propagate:
            message = "is of message channels only; a state's SG would teach the state to be predictable"
            raise DocumentError((*path, "propagate"), f"{message}; leave it out")
        if channel.coupling == "decoupled" and gradient.kind == "local" and gradient.trace:
            message = "needs what comes back, of which a local gradient takes nothing; use another kind"
            raise DocumentError((*path, "trace"), f"{message}, or leave it out")


def _contexts(scenario: Scenario) -> None:
    for index, channel in enumerate(scenario.channels):
        ends = dict(zip(STATES, (channel.sender, channel.receiver), strict=True))
        for place, name in enumerate(channel.gradient.context):
            path = ("channels", index, "gradient", "context", place)
            if name not in ends:
                continue
            if channel.state:
                raise DocumentError(path, f"{name!r} is what this channel carries; leave it out")
            if not _has_state(scenario.agents[ends[name]]):
                message = f"agent {ends[name]!r} has no state; leave it out, or make its network recurrent"
                raise DocumentError(path, f"{name!r}: {message}")


def _tied(scenario: Scenario) -> None:
    """Check that agents with shared parameters have equal state channels."""
    first: dict[str, str] = {}
    states = {
        channel.sender: (channel.coupling, channel.gradient) for _, channel in _state_channels(scenario)
    }
    for name, agent in scenario.agents.items():
        if agent.share is None:
            continue
        other = first.setdefault(agent.share, name)
        if states.get(name) != states.get(other):
            message = (
                f"its state channel differs from that of agent {other!r}, with which it shares parameters"
            )
            raise DocumentError(("agents", name), f"{message} (share: {agent.share}); make them equal")


STATE_CHECKS: tuple[Callable[[Scenario], None], ...] = (_ends, _keys, _gradients, _contexts, _tied)
