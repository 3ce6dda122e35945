"""Windows that are evaluated when they end, for all their ticks at once (semantics 42c)."""

from __future__ import annotations

from antiphon.agents.network import Tensors
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.window import Window
from antiphon.engine.policies.resting_heads import passes_of


class WindowsAtOnce(Feature):
    """A feature that evaluates windows for all their ticks at once, by which the policies of a system find it."""

    def window_ports(self, agent: Agent, window: Window) -> Tensors | None:
        """Return the ports that a policy learns from at all ticks of its window, [ticks, rows, …]; None: its ticks have them."""
        raise NotImplementedError


def evaluated_at_once(agent: Agent) -> bool:
    """Return whether nothing but further passes needs the graph of an agent's ticks, and no tick needs the one before.

    It has neither messages nor a state, and the rows of its ticks do not depend on each other.
    """
    connections, network = agent.connections, agent.learner.network
    return (
        passes_of(agent) > 1
        and not agent.inputs.has_target_network
        and not (connections.read_channels or connections.send_channels)
        and network.row_split_obstacle() is None
        and not network.buffers()
    )
