"""Policies over a window: their losses (docs/semantics.md, rewards)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS, Advantages, running_returns
from antiphon.agents.network import Tensors
from antiphon.base.mask import ALL
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.updates import ReportedLoss, StepUpdates, WindowLoss
from antiphon.engine.heart.window import Tick, Window
from antiphon.engine.heart.window_losses import ObjectiveEvaluator
from antiphon.engine.policies.passes import FurtherPasses
from antiphon.engine.policies.policy_window import (
    PolicyWindow,
    PolicyWindows,
    policy_ports,
    policy_windows,
    port_names,
    values_in,
)
from antiphon.engine.policies.trajectories import Trajectories
from antiphon.nets.per_member import scaled


class PolicyEvaluator(Feature):
    """Evaluates the policies of a system over windows."""

    def __init__(self, evaluator: ObjectiveEvaluator) -> None:
        self.system = evaluator.system
        self._windows_at_once = evaluator.features.of(FurtherPasses)
        self._trajectories = Trajectories(self.system)

    def window(self, agent: Agent, ticks: Sequence[Tick], window: Window) -> PolicyWindow | None:
        """Evaluate a policy over a window's ticks; None where no tick is learned from."""
        policy = agent.policy
        assert policy is not None
        trajectory = self._trajectories.of(agent, ticks, window)
        at_once = self._windows_at_once
        ports = None if at_once is None else at_once.window_ports(agent, window)
        ports = ports_of(agent, ticks) if ports is None else ports
        values, members = values_in(ports), len(agent.members)
        statistics = window.statistics_before[self.system.learner_name_by_agent[agent.name]].get(RETURNS)
        advantages = policy.advantages(
            trajectory,
            None if values is None else constant(values),
            member_count=members,
            statistics=None if statistics is None else statistics.view(members, -1),
        )
        if ticks[0].learning_rows is not ALL:
            rows = ticks[0].learning_rows.tensor(members * agent.batch, self.system.device)
            advantages = replace(
                advantages,
                advantages=advantages.advantages.where(rows, 0),
                valid=advantages.valid & rows,
            )
        if not self._have_valid_ticks(agent, ticks, advantages):
            return None
        losses = policy.losses(policy_ports(agent, ports, ticks), trajectory.actions, advantages)
        for name, number in policy.metrics_at(ticks[-1].step).items():
            losses.metrics[name] = torch.as_tensor(number, device=self.system.device).expand(members)
        return PolicyWindow(ticks, trajectory, advantages, losses)

    def _have_valid_ticks(self, agent: Agent, ticks: Sequence[Tick], advantages: Advantages) -> bool:
        known = (
            None if self.system.device.type == "cpu" else self._trajectories.have_valid_ticks(agent, ticks)
        )
        return bool(advantages.valid.any()) if known is None else known

    def policy_losses(
        self, losses: WindowLoss, agent: Agent, ticks: Sequence[Tick], window: Window
    ) -> Tensor | None:
        """Return the mean over the valid ticks of a policy's window; what is reported is their sum, as of other objectives."""
        policy = self.window(agent, ticks, window)
        if policy is None:
            return None
        assert agent.goal is not None
        rows = scaled(policy.first_pass_losses.losses.sum(0), agent.goal.weight)
        batch, samples = self.system.batch, constant(rows)
        valid, returns = policy.advantages.valid, policy.advantages.returns
        count = agent.layout.sum_by_member(valid.sum(0))
        reported = ReportedLoss(
            agent.layout.sum_by_member(samples) / batch * count / batch,
            agent.layout.sum_by_member(returns.where(valid, 0).sum(0)),
            count,
        )
        losses.add(agent.name, samples, reported)
        PolicyWindows.ensure(losses).by_agent[agent.name] = policy
        losses.ticks_with_loss.update((tick.step, agent.name) for tick in ticks)
        return rows

    def before_move(self, updates: StepUpdates) -> None:
        """Add the returns of the windows learned from to the running statistics of the agents that normalise them."""
        for update in updates.of_windows():
            for name, policy in policy_windows(update.window_loss).items():
                agent, moments = self.system.agents[name], policy.advantages.moments
                if moments is None or agent.learner.frozen:
                    continue
                before = agent.learner.buffers[RETURNS]
                after = running_returns(before.view(len(agent.members), -1), moments).view_as(before)
                if agent.has_member_axis:
                    members = update.moving(name).map(lambda values: values.to(self.system.device))
                    after = members.where(after, before)
                agent.learner.put_statistics({RETURNS: after})


def ports_of(agent: Agent, ticks: Sequence[Tick]) -> Tensors:
    """Return the ports that a policy's losses are made of, at some ticks, [T, rows, …]."""
    return {
        name: torch.stack([tick.ports[name] for tick in ticks])
        for name in port_names(agent)
        if name in ticks[0].ports
    }
