"""Experience: what followed the ticks of policies, rewards and ends, and the values of final observations (rules 38 to 40).

A tick's reward is the sum of those of the steps from it to the agent's next tick, or to the end of the episode if that
comes before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from antiphon.agents.advantages import Trajectory, trajectory_of
from antiphon.agents.network import VALUE
from antiphon.agents.rewards import COSINE, Rewards
from antiphon.comms.backward_requests import constant, value_of
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.layout import select_rows
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.timetable import ReadPlan
from antiphon.engine.heart.window import Tick, Window, value_entering
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.per_member import scaled


class Trajectories:
    def __init__(self, system: System) -> None:
        self.system, description = system, system.description
        self._known_length = description.episode_steps is not None or description.longest_episode is not None

    @torch.no_grad()
    def of(self, agent: Agent, ticks: Sequence[Tick], window: Window) -> Trajectory:
        """Return the trajectory of a policy's ticks in a window, [T, rows, …]."""
        member_rewards = [rewards_of(member) for member in agent.members]
        outcomes_by_tick = [*(tick.outcomes for tick in ticks[:-1]), ticks[-1].outcomes[:1]]
        rows = len(agent.members) * agent.batch
        running = torch.ones(len(ticks), rows, dtype=torch.bool, device=self.system.device)
        terminated, truncated = torch.zeros_like(running), torch.zeros_like(running)
        rewards = self.system.zeros(len(ticks), rows)
        is_experience = running
        for k in range(max(map(len, outcomes_by_tick))):
            steps = [outcomes[k] if k < len(outcomes) else None for outcomes in outcomes_by_tick]
            if None in steps:
                has_step = torch.tensor([step is not None for step in steps], device=running.device)
                running = running & has_step.unsqueeze(1)
            reward, present = self._reward(agent, steps)
            if k == 0 and present is not None:
                is_experience = present
            rewards = rewards + reward.where(running, 0)
            terminates, truncates = (self._signal(agent, steps, names) > 0 for names in end_names_of(agent))
            terminated, truncated = terminated | (running & terminates), truncated | (running & truncates)
            running = running & ~(terminates | truncates)
        rewards = self._with_direction(agent, ticks, window, rewards, running)
        actions = [tick.action for tick in ticks if tick.action is not None]
        turn_names = [name for own in member_rewards if (name := own.may_act_signal_name) is not None]
        waiting = None
        if turn_names:
            first_steps = [outcomes[0] for outcomes in outcomes_by_tick]
            waiting = self._signal(agent, first_steps, turn_names) <= 0
        return trajectory_of(
            torch.stack(actions) if actions else None,
            rewards,
            terminated,
            truncated,
            is_experience,
            known_length=self._known_length,
            waiting=waiting,
            **_final_values(ticks),
        )

    def _reward(self, agent: Agent, steps: Sequence[StepSignals | None]) -> tuple[Tensor, Tensor | None]:
        """The weighted rewards of some steps, [T, rows], and where the agent was there; None: everywhere."""
        member_rewards = [rewards_of(member) for member in agent.members]
        total = self.system.zeros()
        step_mask = self._mask(agent, steps, ["reward"] * len(member_rewards))
        masks = list[Tensor | None]()
        for index, (name, weight) in enumerate(rewards_of(agent).weight_by_name.items()):
            if name != COSINE:
                names = [rewards.names[index] for rewards in member_rewards]
                mask = self._mask(agent, steps, names)
                reward = self._signal(agent, steps, names)
                total = total + scaled(reward if mask is None else reward.where(mask, 0), weight, 1)
                masks.append(mask)
        life_names = [life for own in member_rewards if (life := own.life_reward_name) is not None]
        masks = [self._mask(agent, steps, life_names)] if life_names else masks
        partial_masks = [mask for mask in masks if mask is not None]
        everywhere = not masks or len(partial_masks) < len(masks)
        present = None if everywhere else reduce(torch.logical_or, partial_masks)
        if step_mask is not None:
            total = Mask.of(step_mask).zero_elsewhere(total)
            present = step_mask if present is None else step_mask & present
        return total.expand(len(steps), len(agent.members) * agent.batch), present

    def _mask(self, agent: Agent, steps: Sequence[StepSignals | None], names: Sequence[str]) -> Tensor | None:
        """Where rewards are present at some steps, [T, rows]: one, or each member's own; None: everywhere."""
        masks = [f"_{name}" for name in names]
        distinct_masks = set(masks)
        if all(step is None or distinct_masks.isdisjoint(step.signals) for step in steps):
            return None
        return self._signal(agent, steps, masks) > 0

    def _signal(self, agent: Agent, steps: Sequence[StepSignals | None], names: Sequence[str]) -> Tensor:
        """A number of some steps, [T, rows]: one signal, or each member's own; a mask that is absent holds."""
        return torch.stack([outcome_of(agent, step, tuple(names), self.system.dtype) for step in steps])

    def _with_direction(
        self, agent: Agent, ticks: Sequence[Tick], window: Window, rewards: Tensor, running: Tensor
    ) -> Tensor:
        """Add the reward `goal.cosine`: the cosine of a message and a signal's change to the next tick."""
        agent_rewards = rewards_of(agent)
        direction, weight = agent_rewards.direction, agent_rewards.weight_by_name.get(COSINE, 0.0)
        if direction is None or len(ticks) < 2:
            return rewards
        values = [tick.observed_signals.signals[direction.signal_name].flatten(1) for tick in ticks]
        change = torch.stack([agent.layout.to_rows(value.to(rewards.dtype)) for value in values]).diff(dim=0)
        messages = torch.stack(
            [self._message(agent, tick, window, direction.channel_index) for tick in ticks[:-1]]
        )
        cosine = torch.nn.functional.cosine_similarity(change, messages, dim=2)
        with_cosine = rewards.clone()
        with_cosine[:-1] += scaled(cosine.where(running[:-1], 0), weight, 1)
        return with_cosine

    def _message(self, agent: Agent, tick: Tick, window: Window, channel_index: int) -> Tensor:
        """[rows, size]: what each member's tick read over its incoming channel of that index, the newest."""
        names = agent.layout.names_in_seeds(
            member.connections.incoming[channel_index].name for member in agent.members
        )
        newest_reads = [
            (channel, reads[-1])
            for channel, reads in zip(agent.connections.incoming, tick.reads_by_channel, strict=True)
            if not set(names).isdisjoint(channel.member_names)
        ]
        index_by_name, values = dict[str, int](), list[Tensor]()
        for channel, read in newest_reads:  # several, where the senders are not computed as one
            first_index = len(index_by_name)
            index_by_name.update({name: first_index + k for k, name in enumerate(channel.member_names)})
            values.append(constant(value_entering(read, channel, window.outputs_with_graph, NONE)))
        value = values[0] if len(values) == 1 else torch.cat(values)
        index = torch.tensor([index_by_name[name] for name in names], device=value.device)
        return select_rows(value, index, agent.batch)


def _final_values(ticks: Sequence[Tick]) -> dict[str, Tensor]:
    """The values of final observations, and where they are known, [T, rows] each; empty: they are nowhere."""
    example = next((tick.final_value for tick in ticks if tick.final_value is not None), None)
    if example is None:
        return {}
    values = [torch.zeros_like(example) if tick.final_value is None else tick.final_value for tick in ticks]
    masks = [tick.final_known.tensor(len(example), example.device) for tick in ticks]
    return {"final_values": torch.stack(values), "final_known": torch.stack(masks)}


def outcome_of(
    agent: Agent, step_signals: StepSignals | None, names: tuple[str, ...], dtype: torch.dtype
) -> Tensor:
    """Return a number of a step, [rows]: one signal, or each member's own; what is absent is zero, and a mask that is holds."""
    layout, signals = agent.layout, {} if step_signals is None else step_signals.signals

    def number_named(name: str) -> Tensor:
        if name in signals:
            return signals[name].to(dtype)
        absent = torch.zeros if name[0] != "_" else torch.ones
        return absent(layout.seed_count * layout.batch, dtype=dtype, device=layout.device)

    return layout.rows_by_name(names, number_named)


def rewards_of(agent: Agent) -> Rewards:
    """Return the rewards of an agent with a policy; of a stack, those of its first member."""
    assert agent.goal is not None
    assert agent.goal.rewards is not None
    return agent.goal.rewards


def end_names_of(agent: Agent) -> list[tuple[str, ...]]:
    """Return by member the signals of terminations, and those of truncations."""
    return [*zip(*(rewards_of(member).end_names for member in agent.members), strict=True)]


# --- values of final observations --------------------------------------------------------------------------


@torch.no_grad()
def value_final_observations(forward_pass: ForwardPass, step: int, final: StepSignals) -> None:
    """Enter the values of the final observations of episodes that were truncated with `step` in the newest ticks of policies.

    They replace the rewards that a truncation cuts off (rules 40, 40a).
    """
    observations = _FinalObservations(forward_pass, step, final)
    for agent in forward_pass.system.agents.values():
        if agent.policy is None or not agent.policy.needs_value:
            continue
        tick = forward_pass.system.group_by_agent[agent.name].window.newest_tick(agent.name)
        if tick is None or not tick.outcomes or tick.outcomes[-1].step != step:
            continue
        # of all rows: to ask whether any is needed would wait for a GPU
        value = observations.value(agent)
        if value is not None:
            if tick.final_value is not None:  # that of an episode that ended before stays
                value = tick.final_known.where(tick.final_value, value)
            tick.final_value = value
            tick.final_known |= Mask.of(observations.truncated(agent, tick.outcomes[-1]))


class _FinalObservations:
    def __init__(self, forward_pass: ForwardPass, step: int, final: StepSignals) -> None:
        self.forward_pass, self.system = forward_pass, forward_pass.system
        self.step, self.final = step, final
        self._ticks: dict[str, Tick | None] = {}

    def truncated(self, agent: Agent, outcomes: StepSignals) -> Tensor:
        """[rows] bool: where the step truncated the members' own episodes, whose final observations are known."""
        terminated, truncated = (
            outcome_of(agent, outcomes, names, self.system.dtype) > 0 for names in end_names_of(agent)
        )
        rows = truncated & ~terminated
        if any(agent.life_names):
            mask_names = tuple(f"_final.{life}" for life in agent.life_names)
            rows &= outcome_of(agent, self.final, mask_names, self.system.dtype) > 0
        return rows

    def value(self, agent: Agent) -> Tensor | None:
        """[rows]: the value of the final observations; None: something that it is estimated from is not known."""
        if not agent.has_critic:
            tick = self._tick(agent)
            return None if tick is None else tick.ports[VALUE].squeeze(1)
        if not _shows(self.final, agent.inputs.critic_observed.names_by_member):
            return None
        tick, buffers = Tick(agent.clock.after(self.step), agent.name, self.final, []), agent.learner.buffers
        window = self.system.group_by_agent[agent.name].window
        start = self.forward_pass.window_statistics(agent, window, buffers)
        return self.forward_pass.critic_values([tick], buffers, start)[0].squeeze(1)

    def _tick(self, agent: Agent) -> Tick | None:
        """An agent's next tick on the final observations, with its ports; None: not all that it reads is known."""
        if agent.name in self._ticks:
            return self._ticks[agent.name]
        self._ticks[agent.name] = None  # on a circle none is known
        is_shown = _shows(self.final, agent.inputs.observed.names_by_member)
        if not is_shown and agent.inputs.align_channel_name is None:
            return None
        next_step = agent.clock.after(self.step)
        window = Window(
            statistics_before=self.system.group_by_agent[agent.name].window.statistics_before,
            learning_rows_by_agent={agent.name: NONE},  # nothing that it reads is differentiated
        )
        with ExitStack() as imagined:
            for channel in agent.connections.incoming:
                due = channel.wire.timetable.stamps_read_at(next_step)
                stamps = [stamp for stamp in due if stamp > self.step]
                sender = self.system.agents.get(channel.sender) if stamps else None
                source = None if sender is None else self._tick(sender)
                if stamps and source is None:
                    return None
                imagined.enter_context(_imagined(channel, stamps, source, self.final))
            tick = self.forward_pass.begin_tick(agent, next_step, self.final, window)
        self.forward_pass.evaluate([tick], window, agent.learner.buffers)
        self._ticks[agent.name] = tick
        return tick


@contextmanager
def _imagined(channel: Channel, stamps: list[int], source: Tick | None, final: StepSignals) -> Iterator[None]:
    """Let a channel be read, in the context, as if `source` had sent at `stamps` too; nothing of it is left afterwards, nor an
    example of its synthetic input."""
    wire, inbox, examples = channel.wire, channel.wire.inbox, len(channel.synthetic_input.examples)
    wire.inbox = replace(inbox, messages=dict(inbox.messages))
    if source is not None:
        output = channel.output_from_port(source.ports[channel.content.port_name])
        if channel.content.sampler is not None:
            output, _ = channel.content.sampler.send(output, stamps[0])
        void = channel.void_when_sent(final)
        for stamp in stamps:
            plan = ReadPlan(ticks=wire.timetable.reading_ticks(stamp))
            carried = wire.carried(stamp, value_of(output), source.observed_signals, plan, void)
            wire.inbox.messages[stamp] = carried
    try:
        yield
    finally:
        wire.inbox = inbox
        del channel.synthetic_input.examples[examples:]


def _shows(signals: StepSignals, names: tuple[tuple[str, ...], ...]) -> bool:
    return all(name == AGE or name in signals.signals for member_names in names for name in member_names)
