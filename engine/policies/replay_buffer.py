"""Replay buffers: the newest windows of an agent, from which the passes after the first draw (semantics 42a).

Inputs are kept as the network read them. So an agent with a buffer reads no message and has no state: both would come from
parameters of earlier. Values are those of the present parameters, and returns are made of them anew at every draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS, Trajectory
from antiphon.agents.network import OBJECTIVE, Tensors
from antiphon.agents.policy_passes import PassConstants, PolicyPorts
from antiphon.agents.q_learning import QLearning
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.notes import Note
from antiphon.engine.heart.window import Window
from antiphon.engine.policies.policy_window import PolicyWindow
from antiphon.nets.random import uniform_many


@dataclass(slots=True)
class ReplayBuffer(Note):
    """The newest N windows of an agent's rows; a window takes the place of the oldest one."""

    windows: dict[str, Tensor]
    """Tensors of the windows by name, [rows, N, T, …]."""
    written: Tensor
    """[rows] int64: windows of each row so far."""

    @classmethod
    def like(cls, window: Tensors, size: int) -> ReplayBuffer:
        """Return an empty buffer of `size` windows of the shape of one, [rows, T, …] by name: rows without any draw one unseen."""
        windows = {
            name: values.new_zeros(len(values), size, *values.shape[1:]) for name, values in window.items()
        }
        windows["unseen"].fill_(True)
        return cls(
            windows, torch.zeros(len(window["unseen"]), dtype=torch.int64, device=window["unseen"].device)
        )

    def add(self, window: Tensors, is_taken: Tensor) -> None:
        """Add a window in some rows, [rows] bool; in place: whoever keeps the buffer, copies it."""
        rows = torch.arange(len(is_taken), device=is_taken.device)
        for name, values in self.windows.items():
            index = self.written % values.shape[1]
            taken = is_taken.view(-1, *[1] * (window[name].dim() - 1))
            values.index_put_((rows, index), torch.where(taken, window[name], values[rows, index]))
        self.written += is_taken

    def drawn(self, rows: Tensor, numbers: Tensor) -> Tensors:
        """Return a window of each of some rows, [T, len(rows), …] by name.

        Args:
            numbers: Of all rows, uniform in [0, 1): which of its windows is drawn.
        """
        drawn = {}
        for name, values in self.windows.items():
            index = (numbers * self.written.clamp(max=values.shape[1])).long()
            drawn[name] = values[rows, index[rows]].transpose(0, 1)
        return drawn


class DrawnWindows:
    """Windows drawn from the buffer of a stack, to which its newest window is added first; each environment draws its own.

    Args:
        seeds: [N] int64, of what each member draws.
    """

    def __init__(
        self, window: Window, agent: Agent, policy: PolicyWindow, forward_pass: ForwardPass, seeds: Tensor
    ) -> None:
        self._agent = agent
        assert isinstance(agent.policy, QLearning)
        self._objective = agent.policy
        newest = _contents(window, agent, policy, forward_pass)
        self._buffer = ReplayBuffer.of(agent) or ReplayBuffer.like(newest, self._objective.replay)
        has_valid_ticks = agent.layout.sum_by_member((~newest["unseen"]).any(1)) > 0
        self._buffer.add(newest, agent.layout.rows_from_members(has_valid_ticks))
        agent.notes[ReplayBuffer] = self._buffer
        numbers = uniform_many(seeds, policy.ticks[-1].step, self._objective.epochs * agent.batch)
        self._numbers = numbers.view(len(seeds), -1, agent.batch).transpose(0, 1).flatten(1)

    def slopes(self, rows: Mapping[str, Tensor], epoch: int) -> Slopes:
        """Return what is learned in a minibatch: another window of each row is drawn in each pass, and returns are by the present parameters."""
        drawn = self._buffer.drawn(rows[self._agent.name], self._numbers[epoch])
        learner, objective, members = self._agent.learner, self._objective, len(self._agent.members)
        x = drawn["inputs"].transpose(0, 1)
        of_ticks = learner.buffers, x.flatten(0, 1)
        outputs, target = (
            values.view(*x.shape[:2], -1).transpose(0, 1)
            for values in (
                learner.evaluate(*of_ticks)[0][OBJECTIVE],
                learner.target_outputs(*of_ticks, state=None),
            )
        )
        nowhere = torch.zeros_like(drawn["terminated"])
        trajectory = Trajectory(
            drawn["actions"],
            drawn["rewards"],
            drawn["terminated"],
            truncated=nowhere,
            unseen=drawn["unseen"],
            bootstrapped=nowhere,
            final_values=None,
            waiting=drawn["waiting"],
        )
        statistics = learner.buffers.get(RETURNS)
        advantages = objective.replayed(
            trajectory,
            QLearning.value(constant(outputs), target),
            member_count=members,
            statistics=None if statistics is None else statistics.view(members, -1),
        )
        assert self._agent.goal is not None
        ports = PolicyPorts(outputs, None, member_count=members)
        every = torch.arange(outputs.shape[1], device=outputs.device)
        (constants,) = PassConstants.of_parts(
            trajectory.actions, None, advantages, self._agent.goal.weight, members, [every]
        )
        return objective.slopes(ports, constants)[0]


def _contents(window: Window, agent: Agent, policy: PolicyWindow, forward_pass: ForwardPass) -> Tensors:
    """What a buffer keeps of a window, [rows, T, …] by name.

    A tick whose episode was truncated is unseen: its final observation is not kept.
    """
    trajectory, start = policy.trajectory, window.statistics_before[agent.name]
    assert trajectory.actions is not None
    with torch.no_grad():
        inputs = torch.stack([forward_pass.joined_input(tick, window, start) for tick in policy.ticks])
    unseen = ~policy.advantages.valid | trajectory.bootstrapped
    waiting = torch.zeros_like(unseen) if trajectory.waiting is None else trajectory.waiting
    contents = {
        "inputs": inputs,
        "actions": trajectory.actions,
        "rewards": trajectory.rewards,
        "terminated": trajectory.terminated,
        "unseen": unseen,
        "waiting": waiting,
    }
    return {name: values.transpose(0, 1) for name, values in contents.items()}
