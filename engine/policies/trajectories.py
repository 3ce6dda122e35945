"""Policies over a window: what an agent did, what followed, and the losses of that (docs/semantics.md, rewards).

A tick's reward is the sum of those of the steps from it to the agent's next tick, or to the end of the episode if that
comes before; a reward that is masked at a step adds nothing, and a tick at a step at which the agent was not there was no
experience. Where agents take turns, a tick at which it is not the agent's counts with its last turn. What is seen of what follows
is `trajectory_of`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS, Advantages, Trajectory, running_returns, trajectory_of
from antiphon.agents.network import OBJECTIVE, VALUE, Tensors
from antiphon.agents.policy_passes import PassConstants
from antiphon.agents.rewards import COSINE, Rewards
from antiphon.base import indexed
from antiphon.base.mask import ALL, Mask
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.layout import name_in_seed, select_rows
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.updates import ReportedLoss, Update, WindowLoss
from antiphon.engine.heart.window import Tick, Window
from antiphon.engine.heart.window_losses import ObjectiveEvaluator
from antiphon.engine.policies.actions import Experience
from antiphon.engine.policies.policy_window import PolicyWindow, PolicyWindows, policy_windows
from antiphon.engine.policies.windows_at_once import WindowsAtOnce
from antiphon.envs.signal import ENDS
from antiphon.nets.per_member import scaled


class PolicyEvaluator(Feature):
    """Evaluates the policies of a system over windows.

    Args:
        evaluator: Of the agents.
    """

    def __init__(self, evaluator: ObjectiveEvaluator) -> None:
        self.system = evaluator.system
        self._windows_at_once = evaluator.features.of(WindowsAtOnce)

    def window(self, agent: Agent, ticks: Sequence[Tick], window: Window) -> PolicyWindow | None:
        """Evaluate a policy over a window's ticks; None where no tick teaches anything.

        Args:
            agent: A stack with a policy.
            ticks: Its ticks of the window, in order.
            window: The window.
        """
        policy = agent.policy
        assert policy is not None
        trajectory, at_once = self._trajectory(agent, ticks, window), self._windows_at_once
        ports = None if at_once is None else at_once.window_ports(agent, window)
        ports = ports_of(agent, ticks) if ports is None else ports
        values, members = values_in(ports), len(agent.members)
        known = None if values is None else constant(values)
        statistics = window.statistics_before[self.system.learner_name_by_agent[agent.name]].get(RETURNS)
        if statistics is not None:
            statistics = statistics.view(members, -1)
        advantages = policy.advantages(trajectory, known, member_count=members, statistics=statistics)
        if ticks[0].learning_rows is not ALL:
            rows = ticks[0].learning_rows.tensor(members * agent.batch, self.system.device)
            advantages = _where(rows, advantages)
        teaches = None if self.system.device.type == "cpu" else self._teaches(agent, ticks)
        if not (bool(advantages.valid.any()) if teaches is None else teaches):
            return None
        messages = [sampled.log_probs(ports, ticks) for sampled in sampled_of(agent)]
        outputs = ports.get(OBJECTIVE)
        found = policy.losses(
            outputs, values, trajectory.actions, advantages, member_count=members, messages=messages
        )
        for name, number in policy.metrics_at(ticks[-1].step).items():
            found.metrics[name] = torch.as_tensor(number, device=self.system.device).expand(members)
        return PolicyWindow(ticks, trajectory, advantages, found)

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
        own = ReportedLoss(
            agent.layout.sum_by_member(samples) / batch * count / batch,
            agent.layout.sum_by_member(returns.where(valid, 0).sum(0)),
            count,
        )
        losses.add(agent.name, samples, own)
        PolicyWindows.ensure(losses).by_agent[agent.name] = policy
        losses.ticks_with_loss.update((tick.step, agent.name) for tick in ticks)
        return rows

    def further(
        self, agent: Agent, window: PolicyWindow, rows: Tensor, constants: PassConstants, ports: Tensors
    ) -> Slopes:
        """Return the slopes of a further pass over some rows of a window, and note how far the policy has changed.

        Args:
            agent: Of the window.
            window: What the first pass found.
            rows: The rows, as many of each member, member by member.
            constants: Of these rows.
            ports: Of these rows with their graph, [T, len(rows), …]: those of `ports_of`.
        """
        policy = agent.policy
        assert policy is not None
        messages = [sampled.log_probs(ports, window.ticks, rows) for sampled in sampled_of(agent)]
        outputs, values, members = ports.get(OBJECTIVE), values_in(ports), len(agent.members)
        slopes, change = policy.slopes(outputs, values, constants, member_count=members, messages=messages)
        if change is not None:
            window.policy_changes.append(change)
        return slopes

    def before_move(self, updates: Sequence[Update]) -> None:
        """Add the returns of the windows learned from to the running statistics of the agents that normalise them."""
        for update in updates:
            for name, policy in policy_windows(update.window_loss).items():
                agent, moments = self.system.agents[name], policy.advantages.moments
                if moments is None or agent.learner.frozen:
                    continue
                before = agent.learner.buffers[RETURNS]
                after = running_returns(before.view(len(agent.members), -1), moments).view_as(before)
                if agent.has_member_axis:
                    members = update.moving_members_by_agent.get(name, ALL).map(
                        lambda values: values.to(self.system.device)
                    )
                    after = members.where(after, before)
                agent.learner.put_statistics({RETURNS: after})

    # --- what was done, and what followed ------------------------------------------------------------------

    @torch.no_grad()
    def _trajectory(self, agent: Agent, ticks: Sequence[Tick], window: Window) -> Trajectory:
        each = [rewards_of(member) for member in agent.members]
        had = [Experience.ensure(tick) for tick in ticks]
        outcomes = [one.outcomes for one in had[:-1]] + [had[-1].outcomes[:1]]
        rows = len(agent.members) * agent.batch
        going = torch.ones(len(ticks), rows, dtype=torch.bool, device=self.system.device)
        terminated, truncated = torch.zeros_like(going), torch.zeros_like(going)
        rewards = torch.zeros(len(ticks), rows, dtype=self.system.dtype, device=self.system.device)
        experience = going
        for k in range(max(map(len, outcomes))):
            steps = [after[k] if k < len(after) else None for after in outcomes]
            if None in steps:
                going = going & torch.tensor([s is not None for s in steps], device=going.device).unsqueeze(1)
            reward, there = self._reward(agent, steps)
            if k == 0 and there is not None:
                experience = there
            rewards = rewards + reward.where(going, 0)
            ends = [self._signal(agent, steps, [own.end_names[kind] for own in each]) > 0 for kind in (0, 1)]
            terminated, truncated = terminated | (going & ends[0]), truncated | (going & ends[1])
            going = going & ~(ends[0] | ends[1])
        rewards = self._with_direction(agent, ticks, window, rewards, going)
        actions = [one.action for one in had if one.action is not None]
        turns = [own.may_act_signal_name for own in each if own.may_act_signal_name is not None]
        waiting = self._signal(agent, [after[0] for after in outcomes], turns) <= 0 if turns else None
        return trajectory_of(
            torch.stack(actions) if actions else None,
            rewards,
            terminated,
            truncated,
            experience,
            known_length=self._known_length,
            waiting=waiting,
            **_final(had),
        )

    @property
    def _known_length(self) -> bool:
        description = self.system.description
        return description.episode_steps is not None or description.longest_episode is not None

    def _teaches(self, agent: Agent, ticks: Sequence[Tick]) -> bool | None:
        """Whether a window's ticks teach anything, where the host knows all ends of episodes; None: the device alone knows."""
        if ticks[0].learning_rows is not ALL:
            return None
        each_own = [rewards_of(member) for member in agent.members]
        masks = {"_reward", *(f"_{name}" for own in each_own for name in (*own.names, own.life_reward_name))}
        if any(own.end_names != ENDS for own in each_own):
            return None
        each: list[tuple[bool, bool]] = []
        had = [Experience.ensure(tick) for tick in ticks]
        for experience in had:
            steps = experience.outcomes if experience is not had[-1] else experience.outcomes[:1]
            over = (False, False)
            for one in steps:
                if not masks.isdisjoint(one.signals) or not one.uniform_masks.keys() >= set(ENDS):
                    return None
                if not any(over):
                    over = (
                        one.uniform_masks["terminated"].everywhere,
                        one.uniform_masks["truncated"].everywhere,
                    )
            each.append(over)
        terminated, truncated = torch.tensor(each).T.unsqueeze(2)
        nothing, everywhere = torch.zeros(terminated.shape), torch.ones_like(terminated)
        final = torch.tensor([[one.final_value is not None] for one in had])
        trajectory = trajectory_of(
            *(None, nothing, terminated, truncated, everywhere),
            known_length=self._known_length,
            final_values=nothing,
            final_known=final,
        )
        policy = agent.members[0].policy  # the rows are no members', and its numbers do not matter
        assert policy is not None
        return bool(policy.advantages(trajectory, nothing if policy.has_values else None).valid.any())

    def _reward(self, agent: Agent, steps: Sequence[StepSignals | None]) -> tuple[Tensor, Tensor | None]:
        """The weighted rewards of some steps, [T, rows], and where the agent was there; None: everywhere."""
        each = [rewards_of(member) for member in agent.members]
        total = torch.zeros((), dtype=self.system.dtype, device=self.system.device)
        step, some = self._mask(agent, steps, ["reward"] * len(each)), list[Tensor | None]()
        for place, (name, weight) in enumerate(rewards_of(agent).weight_by_name.items()):
            if name != COSINE:
                own = [rewards.names[place] for rewards in each]
                some.append(self._mask(agent, steps, own))
                reward = self._signal(agent, steps, own)
                reward = reward if some[-1] is None else reward.where(some[-1], 0)
                total = total + scaled(reward, weight, 1)
        lives = [rewards.life_reward_name for rewards in each if rewards.life_reward_name is not None]
        masks = [self._mask(agent, steps, lives)] if lives else some
        there = reduce(torch.logical_or, known) if (known := _all_known(masks)) else None
        if step is not None:
            total, there = Mask.of(step).zero_elsewhere(total), step if there is None else step & there
        return total.expand(len(steps), len(agent.members) * agent.batch), there

    def _mask(self, agent: Agent, steps: Sequence[StepSignals | None], names: Sequence[str]) -> Tensor | None:
        """Where rewards are present at some steps, [T, rows]: one, or each member's own; None: everywhere."""
        masks = [f"_{name}" for name in names]
        if not any(s is not None and name in s.signals for s in steps for name in dict.fromkeys(masks)):
            return None
        return self._signal(agent, steps, masks) > 0

    def _signal(self, agent: Agent, steps: Sequence[StepSignals | None], names: Sequence[str]) -> Tensor:
        """A number of some steps, [T, rows]: one signal, or each member's own; a mask that is absent holds."""
        name, *others = dict.fromkeys(names)
        shown = [None if one is None else one.signals.get(name) for one in steps]
        rows = [agent.layout.to_rows(value) for value in shown if value is not None]
        if others or len(rows) < len(steps):
            rows = [outcome_of(agent, one, tuple(names), self.system.dtype) for one in steps]
        return torch.stack(rows).to(self.system.dtype)

    def _with_direction(
        self, agent: Agent, ticks: Sequence[Tick], window: Window, rewards: Tensor, going: Tensor
    ) -> Tensor:
        """Add the reward `goal.cosine`: the cosine of a message and a signal's change to the next tick."""
        own = rewards_of(agent)
        direction, weight = own.direction, own.weight_by_name.get(COSINE, 0.0)
        if direction is None or len(ticks) < 2:
            return rewards
        shown = [tick.step_signals.signals[direction.signal_name].flatten(1) for tick in ticks]
        moved = torch.stack([agent.layout.to_rows(s.to(rewards.dtype)) for s in shown]).diff(dim=0)
        messages = torch.stack(
            [self._message(agent, tick, window, direction.channel_index) for tick in ticks[:-1]]
        )
        cosine = torch.nn.functional.cosine_similarity(moved, messages, dim=2)
        found = rewards.clone()
        found[:-1] += scaled(cosine.where(going[:-1], 0), weight, 1)
        return found

    def _message(self, agent: Agent, tick: Tick, window: Window, place: int) -> Tensor:
        """[rows, size]: what each member's tick read over its incoming channel at `place`, the newest."""
        layout = agent.layout
        names = [
            name_in_seed(member.connections.incoming[place].name, layout.seed_of(n), layout.seed_count)
            for n, member in enumerate(agent.members)
        ]
        stacks = [
            (channel, reads[-1])
            for channel, reads in zip(agent.connections.incoming, tick.reads_by_channel, strict=True)
            if not set(names).isdisjoint(channel.member_names)
        ]
        order, values = dict[str, int](), []
        for stack, read in stacks:  # several, where the senders are not computed as one
            order.update({name: len(order) + n for n, name in enumerate(stack.member_names)})
            values.append(read.constant_value_in(window.sent_outputs, stack))
        found = values[0] if len(values) == 1 else torch.cat(values)
        wanted = [order[name] for name in names]
        index = None if wanted == list(range(len(order))) else torch.tensor(wanted, device=found.device)
        return select_rows(found, index, agent.batch)


def _final(each: Sequence[Experience]) -> dict[str, Tensor]:
    """The values of final observations, and where they are known, [T, rows] each; empty: they are nowhere."""
    known = next((one.final_value for one in each if one.final_value is not None), None)
    if known is None:
        return {}
    values = [torch.zeros_like(known) if one.final_value is None else one.final_value for one in each]
    masks = [one.final_known.tensor(len(known), known.device) for one in each]
    return {"final_values": torch.stack(values), "final_known": torch.stack(masks)}


def outcome_of(
    agent: Agent, step_signals: StepSignals | None, names: tuple[str, ...], dtype: torch.dtype
) -> Tensor:
    """A number of a step, [rows]: one signal, or each member's own; what is absent is zero, and a mask that is holds."""
    layout, distinct = agent.layout, list(dict.fromkeys(names))
    each = []
    for name in distinct:
        value = None if step_signals is None else step_signals.signals.get(name)
        if value is None:
            made = torch.zeros if name[0] != "_" else torch.ones
            value = made(layout.seed_count * layout.batch, dtype=dtype, device=layout.device)
        each.append(value.to(dtype))
    if len(distinct) == 1:
        return agent.layout.to_rows(each[0])
    return agent.layout.select_by_name(torch.cat(each), names, distinct)


def _all_known(masks: Sequence[Tensor | None]) -> list[Tensor]:
    """Masks of which none holds everywhere; empty: one does, or there are none."""
    found = [mask for mask in masks if mask is not None]
    return found if len(found) == len(masks) else []


def rewards_of(agent: Agent) -> Rewards:
    """The rewards of an agent with a policy; of a stack, those of its first member."""
    assert agent.goal is not None
    assert agent.goal.rewards is not None
    return agent.goal.rewards


@dataclass(frozen=True, slots=True)
class _Sampled:
    """A stack of channels whose messages are sampled and learned by their senders' policies.

    Attributes:
        channel: The channels.
        counted: [K] bool: the first channel of each port, which all its channels carry; None: every channel.
    """

    channel: Channel
    counted: Tensor | None

    def log_probs(
        self, ports: Tensors, ticks: Sequence[Tick], rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of what was sent, [T, rows] of the sender each; 0 where nothing was.

        Args:
            ports: Of the sender, [T, rows, …] with their graph.
            ticks: Its ticks.
            rows: The sender's rows that `ports` are of, as many of each member; None: all.
        """
        channel, sampler = self.channel, self.channel.content.sampler
        assert sampler is not None
        batch = channel.batch if rows is None else len(rows) // channel.endpoints.sender_count
        own, found = None, []
        if rows is not None:
            own = rows_through(
                rows, channel.endpoints.sender_index, channel.endpoints.sender_count, channel.batch
            )
        for port, tick in zip(ports[channel.content.port_name], ticks, strict=True):
            sent = tick.sampled_messages.get(channel.name)
            if sent is None:
                found.append((port.new_zeros(len(port)),) * 2)
                continue
            carried = select_rows(port, channel.endpoints.sender_index, batch)
            value = sent if own is None else sent[own]
            found.append(
                (
                    self._to_sender(sampler.log_prob(carried, value), batch),
                    self._to_sender(sampler.entropy(carried), batch),
                )
            )
        return torch.stack([one for one, _ in found]), torch.stack([other for _, other in found])

    def _to_sender(self, values: Tensor, batch: int) -> Tensor:
        """Values of the channels' rows as their senders', once for each port."""
        each = values.view(-1, batch)
        if self.counted is not None:
            each = Mask.of(self.counted).zero_elsewhere(each)
        if self.channel.endpoints.sender_index is None:
            return each.flatten()
        total = each.new_zeros(self.channel.endpoints.sender_count, batch)
        return indexed.add(total, self.channel.endpoints.sender_index, each).flatten()


def sampled_of(agent: Agent) -> list[_Sampled]:
    """The channels whose sampled messages a policy learns, each port once."""
    found, seen = [], set[tuple[int, str, str]]()
    for channel in agent.connections.outgoing:
        if channel.content.sampler is None or not channel.content.sampler.learned:
            continue
        counted = []
        for k, member in enumerate(channel.members):
            port = channel.layout.seed_of(k), member.sender, member.content.port_name
            counted.append(port not in seen)
            seen.add(port)
        every = None if all(counted) else torch.tensor(counted, device=channel.content.zeros.device)
        if any(counted):
            found.append(_Sampled(channel, every))
    return found


def ports_of(agent: Agent, ticks: Sequence[Tick]) -> Tensors:
    """The ports that a policy's losses are made of, at some ticks, [T, rows, …]."""
    return {
        name: torch.stack([tick.ports[name] for tick in ticks])
        for name in port_names(agent)
        if name in ticks[0].ports
    }


def port_names(agent: Agent) -> tuple[str, ...]:
    """The names of the ports that a policy's losses may be made of."""
    return tuple(
        dict.fromkeys([OBJECTIVE, VALUE, *(own.channel.content.port_name for own in sampled_of(agent))])
    )


def values_in(ports: Tensors) -> Tensor | None:
    """The values among some ports, [T, rows]; None of a policy without."""
    return ports[VALUE].squeeze(2) if VALUE in ports else None


def _where(rows: Tensor, advantages: Advantages) -> Advantages:
    """Advantages that teach in some rows only."""
    own, valid = advantages.advantages.where(rows, 0), advantages.valid & rows
    return replace(advantages, advantages=own, valid=valid)


def rows_through(rows: Tensor, index: Tensor | None, members: int, batch: int) -> Tensor:
    """The rows of channels in the environments of some rows of the agents at one end, as many of each.

    Args:
        rows: Of the agents, member by member.
        index: [K]: the agent of each channel; None: each in turn.
        members: N, the agents.
        batch: B.
    """
    environments = rows.view(members, -1) % batch
    if index is not None:
        environments = environments.index_select(0, index)
    first = torch.arange(len(environments), device=rows.device).unsqueeze(1) * batch
    return (environments + first).flatten()
