"""What users hold of an agent."""

from __future__ import annotations

from torch import Tensor, fx, nn

from antiphon.engine.core.agent import Agent

__all__ = ["AgentHandle"]


class AgentHandle:
    """One agent of a running simulation.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def name(self) -> str:
        """Its name."""
        return self._agent.name

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Its parameters by name: the live tensors, not copies."""
        return dict(self._agent.learner.parameters)

    @property
    def updates(self) -> int:
        """How many optimiser steps it has taken."""
        return self._agent.learner.updates

    @property
    def module(self) -> nn.Module:
        """Its network as a plain torch module in evaluation mode, with copies of its numbers.

        It takes [batch, *input] and returns {port: [batch, …]}.
        """
        learner = self._agent.learner
        root, graph = nn.Module(), fx.Graph()
        x = graph.placeholder("x")
        emit = learner.network.emit(root, "network", learner.parameters, learner.buffers)
        graph.output(emit(graph, x))
        return fx.GraphModule(root, graph, class_name="Agent").eval()
