"""Critics: values of policies by networks of their own, which may see more than the agent, in training alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.agents.network import VALUE, Tensors
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.window import Tick
from antiphon.nets.site_axes import as_maps


class Critics(Feature):
    """The critics of a system's agents.

    Args:
        forward_pass: Of the agents.
    """

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.forward_pass, self.agents = forward_pass, forward_pass.system.agents
        self.dtype, self.signal_of = forward_pass.system.dtype, forward_pass.signal_of
        self.normalising = forward_pass.normalisation

    def after_evaluate(
        self,
        ticks: Sequence[Tick],
        ports: Tensors,
        statistics_now: Tensors,
        statistics_before: Tensors,
        network_inputs: tuple[Tensor, Tensor | None],
    ) -> Tensors:
        """Add the values at the ticks of one call to its ports, [rows, 1], where they keep a graph: see `Feature.after_evaluate`."""
        agent = self.agents[ticks[0].agent_name]
        if (
            not agent.inputs.critic_observed.signal_names
            or agent.name in self.forward_pass.agent_names_without_graph
        ):
            return {}
        ports[VALUE], after = self.values(ticks, statistics_now, statistics_before)
        return after

    def values(self, ticks: Sequence[Tick], buffers: Tensors, statistics: Tensors) -> tuple[Tensor, Tensors]:
        """Return the values at the ticks of one call, [rows, 1], and the new running statistics.

        Args:
            ticks: The ticks.
            buffers: The running statistics before them.
            statistics: The statistics by which observations are normalised.
        """
        learner = self.agents[ticks[0].agent_name].learner
        observed = torch.cat([self.input(tick, statistics) for tick in ticks])
        return learner.values(learner.parameters, buffers, observed, training=not learner.frozen)

    def input(self, tick: Tick, statistics: Tensors) -> Tensor:
        """Return what the critics of an agent's members read at a tick, [rows, *input_shape]."""
        agent, signal = self.agents[tick.agent_name], self.signal_of(tick)
        observations = [
            agent.observation_rows(names, signal, self.dtype)
            for names in agent.inputs.critic_observed.names_by_member
        ]
        if self.normalising is not None:
            normalised = self.normalising.of_critic(agent, tick, statistics)
            observations = [normalised(index, rows) for index, rows in enumerate(observations)]
        if len(agent.learner.critic.input_shape) == 1:
            observations = [rows if rows.dim() == 2 else rows.reshape(len(rows), -1) for rows in observations]
        else:
            map_layouts = agent.inputs.critic_observed.map_layouts
            observations = [as_maps(*pair) for pair in zip(observations, map_layouts, strict=True)]
        return observations[0] if len(observations) == 1 else torch.cat(observations, 1)
