"""Target networks: values of agents that learn Q-values, by copies of their parameters that follow them from time to time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE, VALUE, Tensors
from antiphon.agents.q_learning import QLearning
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.updates import StepUpdates
from antiphon.engine.heart.window import Tick
from antiphon.engine.policies.policy_window import policy_windows


class TargetNetworks(Feature):
    """The target networks of a system's agents."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.system = forward_pass.system

    @torch.no_grad()
    def after_evaluate(
        self,
        ticks: Sequence[Tick],
        ports: Tensors,
        statistics_now: Tensors,
        statistics_before: Tensors,
        network_inputs: tuple[Tensor, Tensor | None],
    ) -> Tensors:
        """Add the values at the ticks of one call to its ports, [rows, 1]: see `Feature.after_evaluate`."""
        agent = self.system.agents[ticks[0].agent_name]
        if agent.inputs.has_target_network:
            target = agent.learner.target_outputs(statistics_before, *network_inputs)
            ports[VALUE] = QLearning.value(ports[OBJECTIVE], target).unsqueeze(1)
        return {}

    @torch.no_grad()
    def after_move(self, updates: StepUpdates, step: int) -> None:
        """Copy the parameters of agents that have taken a multiple of `period` steps since their last window."""
        for update in updates.of_windows():
            for name in policy_windows(update.window_loss):
                agent = self.system.agents[name]
                if agent.inputs.has_target_network:
                    objective = agent.policy
                    assert isinstance(objective, QLearning)
                    agent.learner.update_target(objective.period, objective.updates)
