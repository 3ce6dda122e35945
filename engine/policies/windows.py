"""Policies over a window: what an agent did, what followed, and the losses of that (docs/semantics.md, rewards).

A tick's reward is the sum of those of the steps from it to the agent's next tick, or to the end of the episode if that
comes before. What follows is not seen where the episode was truncated, and after the window's last tick unless its own step
terminated the episode; a step whose reward is masked was no experience. Such a tick teaches nothing, and its own value
stands for what follows the tick before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.agents.policies import Advantages, PolicyLosses, Trajectory
from antiphon.comms.credit import constant
from antiphon.engine.core.agent import COSINE, Agent
from antiphon.engine.core.masks import mask_fill_zero
from antiphon.engine.core.records import AgentTick, StepSignals, Tape, select_rows
from antiphon.engine.core.system import System
from antiphon.engine.core.updates import PolicyWindow

__all__ = ["PolicyEvaluator"]


class PolicyEvaluator:
    """Evaluates the policies of a system over windows.

    Args:
        system: The agents.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def window(self, agent: Agent, parts: Sequence[AgentTick], tape: Tape) -> PolicyWindow | None:
        """Evaluate a policy over a window's ticks; None where no tick teaches anything.

        Args:
            agent: A stack with a policy.
            parts: Its ticks of the window, in order, with their ports.
            tape: The window.
        """
        assert agent.goal is not None
        policy = agent.goal.policy
        assert policy is not None
        trajectory = self._trajectory(agent, parts, tape)
        outputs, values = outputs_of(parts), values_of(parts)
        members = len(agent.members)
        advantages = policy.advantages(
            trajectory, None if values is None else constant(values), members=members
        )
        if isinstance(parts[0].participates, Tensor):
            advantages = _where(parts[0].participates, advantages)
        if not bool(advantages.valid.any()):
            return None
        found = policy.losses(outputs, values, trajectory, advantages, members=members)
        return PolicyWindow(trajectory, advantages, found)

    def further(
        self, agent: Agent, window: PolicyWindow, rows: Tensor, outputs: Tensor, values: Tensor | None
    ) -> PolicyLosses:
        """Evaluate a further pass over some rows of a window.

        Args:
            agent: Of the window.
            window: What the first pass found.
            rows: The rows, as many of each member, member by member.
            outputs: [T, len(rows), parameters] with their graph.
            values: [T, len(rows)] with their graph.
        """
        assert agent.goal is not None
        policy = agent.goal.policy
        assert policy is not None
        t, a = window.trajectory, window.advantages
        trajectory = Trajectory(
            actions=None if t.actions is None else t.actions[:, rows],
            rewards=t.rewards[:, rows],
            terminated=t.terminated[:, rows],
            truncated=t.truncated[:, rows],
            unseen=t.unseen[:, rows],
        )
        advantages = Advantages(a.advantages[:, rows], a.returns[:, rows], a.valid[:, rows])
        then = window.first.log_prob[:, rows]
        return policy.losses(outputs, values, trajectory, advantages, then, members=len(agent.members))

    # --- what was done, and what followed ------------------------------------------------------------------

    @torch.no_grad()
    def _trajectory(self, agent: Agent, parts: Sequence[AgentTick], tape: Tape) -> Trajectory:
        outcomes = [part.outcomes for part in parts[:-1]] + [parts[-1].outcomes[:1]]
        rows = len(agent.members) * agent.batch
        going = torch.ones(len(parts), rows, dtype=torch.bool, device=self.system.device)
        terminated, truncated = torch.zeros_like(going), torch.zeros_like(going)
        rewards = torch.zeros(len(parts), rows, dtype=self.system.dtype, device=self.system.device)
        experience = going
        for k in range(max(map(len, outcomes))):
            steps = [each[k] if k < len(each) else None for each in outcomes]
            if None in steps:
                going = going & torch.tensor([s is not None for s in steps], device=going.device).unsqueeze(1)
            reward, known = self._reward(agent, steps)
            if k == 0 and known is not None:
                experience = known
            rewards = rewards + mask_fill_zero(going if known is None else going & known, reward)
            ends = [self._signal(agent, steps, [name]) > 0 for name in ("terminated", "truncated")]
            terminated, truncated = terminated | (going & ends[0]), truncated | (going & ends[1])
            going = going & ~(ends[0] | ends[1])
        truncated = truncated & ~terminated
        rewards = self._with_direction(agent, parts, tape, rewards, going)
        unseen = truncated | ~experience
        unseen[-1] |= ~terminated[-1]
        actions = [part.action for part in parts]
        return Trajectory(
            actions=None if actions[0] is None else torch.stack([a for a in actions if a is not None]),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            unseen=unseen,
        )

    def _reward(self, agent: Agent, steps: Sequence[StepSignals | None]) -> tuple[Tensor, Tensor | None]:
        """The weighted rewards of some steps, [T, rows], and where they are known; None: everywhere."""
        assert agent.goal is not None
        total = torch.zeros((), dtype=self.system.dtype, device=self.system.device)
        known: Tensor | None = None
        for place, (name, weight) in enumerate(agent.goal.rewards):
            if name == COSINE:
                continue
            names = [member.goal.rewards[place][0] for member in agent.members if member.goal is not None]
            total = total + weight * self._signal(agent, steps, names)
            if any(s is not None and f"_{n}" in s.signals for s in steps for n in dict.fromkeys(names)):
                mask = self._signal(agent, steps, [f"_{n}" for n in names]) > 0
                known = mask if known is None else known & mask
        return total.expand(len(steps), len(agent.members) * agent.batch), known

    def _signal(self, agent: Agent, steps: Sequence[StepSignals | None], names: Sequence[str]) -> Tensor:
        """A number of some steps, [T, rows]: one signal, or each member's own; a mask that is absent holds."""
        return torch.stack([self._at(agent, one, tuple(names)) for one in steps])

    def _at(self, agent: Agent, step_signals: StepSignals | None, names: tuple[str, ...]) -> Tensor:
        distinct = list(dict.fromkeys(names))
        each = []
        for name in distinct:
            value = None if step_signals is None else step_signals.signals.get(name)
            if value is None:
                value = self.system.nothing if name[0] != "_" else torch.ones_like(self.system.nothing)
            each.append(value.to(self.system.dtype))
        if len(distinct) == 1:
            return agent.to_rows(each[0])
        return agent.by_name(torch.cat(each), names, distinct)

    def _with_direction(
        self, agent: Agent, parts: Sequence[AgentTick], tape: Tape, rewards: Tensor, going: Tensor
    ) -> Tensor:
        """Add the reward `goal.cosine`: the cosine of a message and a signal's change to the next tick."""
        assert agent.goal is not None
        direction = agent.goal.direction
        weight = dict(agent.goal.rewards).get(COSINE, 0.0)
        if direction is None or len(parts) < 2:
            return rewards
        shown = [part.step_signals.signals[direction.signal].flatten(1) for part in parts]
        moved = torch.stack([agent.to_rows(s.to(rewards.dtype)) for s in shown]).diff(dim=0)
        messages = torch.stack([self._message(agent, part, tape, direction.place) for part in parts[:-1]])
        cosine = torch.nn.functional.cosine_similarity(moved, messages, dim=2)
        found = rewards.clone()
        found[:-1] += weight * mask_fill_zero(going[:-1], cosine)
        return found

    def _message(self, agent: Agent, part: AgentTick, tape: Tape, place: int) -> Tensor:
        """[rows, size]: what each member's tick read over its incoming channel at `place`, the newest."""
        names = [member.incoming[place].name for member in agent.members]
        stack = next(channel for channel in agent.incoming if names[0] in channel.names)
        entry = [read for read in part.reads if read.channel == stack.name][-1]
        value = stack.zeros if entry.value is None else entry.value
        if entry.stamp is not None:
            sent = tape.graph_outputs[stack.name, entry.stamp].flatten(1)
            value = mask_fill_zero(entry.available, sent)
        order = [stack.names.index(name) for name in names]
        index = None if order == list(range(len(stack.names))) else torch.tensor(order, device=value.device)
        return select_rows(constant(value), index, agent.batch)


def outputs_of(parts: Sequence[AgentTick]) -> Tensor:
    """The distribution's parameters at some ticks, [T, rows, parameters]."""
    return torch.stack([part.ports[OBJECTIVE] for part in parts])


def values_of(parts: Sequence[AgentTick]) -> Tensor | None:
    """The values at some ticks, [T, rows]; None of a policy without."""
    if VALUE not in parts[0].ports:
        return None
    return torch.stack([part.ports[VALUE] for part in parts]).squeeze(2)


def _where(rows: Tensor, advantages: Advantages) -> Advantages:
    """Advantages that teach in some rows only."""
    valid = advantages.valid & rows
    return Advantages(mask_fill_zero(rows.expand_as(valid), advantages.advantages), advantages.returns, valid)
