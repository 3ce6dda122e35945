"""Values of final observations: what replaces the rewards that a truncation cuts off (semantics 40).

Where an episode is truncated, a policy's network is evaluated once more, as at its next tick: on the final observation, from the
state and the messages that this tick would have read. A message that would have been sent after the end is made by its sender
from the final observation too. Nothing is learned from this tick, and nothing of it is kept but the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from antiphon.agents.network import VALUE
from antiphon.base.mask import NONE, Mask
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.signals import EpisodeEnds, StepSignals
from antiphon.engine.heart.window import Tick, Window
from antiphon.engine.policies.actions import Experience
from antiphon.engine.policies.critics import Critics
from antiphon.engine.policies.trajectories import outcome_of, rewards_of


class FinalValues(Feature):
    """Evaluates the policies of a system on final observations."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.system, self.forward_pass = forward_pass.system, forward_pass
        policies = ((agent, agent.policy) for agent in self.system.agents.values())
        self._agents = [agent for agent, policy in policies if policy is not None and policy.has_values]

    def episodes_end(self, step: int, ends: EpisodeEnds) -> None:
        """Enter the values of episodes that were truncated with `step` in the newest ticks of the policies."""
        if ends.final_signals is not None:
            self._enter(step, ends.final_signals)

    @torch.no_grad()
    def _enter(self, step: int, final: StepSignals) -> None:
        final_ticks: dict[str, Tick | None] = {}
        for agent in self._agents:
            ticks = reversed(list(self.system.group_by_agent[agent.name].window.ticks()))
            tick = next((tick for tick in ticks if tick.agent_name == agent.name), None)
            experience = None if tick is None else Experience.of(tick)
            if experience is None or not experience.outcomes or experience.outcomes[-1].step != step:
                continue
            rows = self._truncated(agent, experience.outcomes[-1], final)
            # of all rows: to ask whether any is needed would wait for a GPU
            value = self._value(agent, step, final, final_ticks)
            if value is not None:
                experience.add_final_value(value, Mask.of(rows))

    def _truncated(self, agent: Agent, outcomes: StepSignals, final: StepSignals) -> Tensor:
        """[rows] bool: where the step truncated the members' own episodes, whose final observations are known."""
        end_names = [rewards_of(member).end_names for member in agent.members]
        terminated, truncated = (
            outcome_of(agent, outcomes, tuple(names[kind] for names in end_names), self.system.dtype) > 0
            for kind in (0, 1)
        )
        rows = truncated & ~terminated
        if any(agent.life_names):
            mask_names = tuple(f"_final.{life}" for life in agent.life_names)
            rows &= outcome_of(agent, final, mask_names, self.system.dtype) > 0
        return rows

    def _value(
        self, agent: Agent, step: int, final: StepSignals, final_ticks: dict[str, Tick | None]
    ) -> Tensor | None:
        """[rows]: the value of the final observations; None: something that it is estimated from is not known."""
        critics, buffers = self.forward_pass.features.of(Critics), agent.learner.buffers
        if critics is None or not agent.inputs.critic_observed.signal_names:
            tick = self._tick(agent, step, final, final_ticks)
            return None if tick is None else tick.ports[VALUE].squeeze(1)
        if not _shows(final, agent.inputs.critic_observed.names_by_member):
            return None
        tick = Tick(agent.clock.after(step), agent.name, final, [])
        return critics.values([tick], buffers, buffers)[0].squeeze(1)

    def _tick(
        self, agent: Agent, step: int, final: StepSignals, final_ticks: dict[str, Tick | None]
    ) -> Tick | None:
        """An agent's next tick on the final observations, with its ports; None: not all that it reads is known."""
        if agent.name in final_ticks:
            return final_ticks[agent.name]
        final_ticks[agent.name] = None
        if agent.inputs.align_channel_name is None and not _shows(
            final, agent.inputs.observed.names_by_member
        ):
            return None
        next_step = agent.clock.after(step)
        window = Window(learning_rows_by_agent={agent.name: NONE})  # nothing that it reads is differentiated
        with ExitStack() as imagined:
            for channel in agent.connections.incoming:
                due = channel.wire.timetable.stamps_read_at(next_step)
                stamps = [stamp for stamp in due if stamp > step]
                sender = self.system.agents.get(channel.sender) if stamps else None
                source = None if sender is None else self._tick(sender, step, final, final_ticks)
                if stamps and source is None:
                    return None
                imagined.enter_context(_imagined(channel, stamps, source, final))
            tick = self.forward_pass.begin_tick(agent, next_step, final, window)
        self.forward_pass.evaluate([tick], window, agent.learner.buffers)
        final_ticks[agent.name] = tick
        return tick


@contextmanager
def _imagined(channel: Channel, stamps: list[int], source: Tick | None, final: StepSignals) -> Iterator[None]:
    """Let a channel be read, in the context, as if `source` had sent at `stamps`; no example of its synthetic input is left afterwards."""
    output, signals, void = channel.content.zeros, final, NONE
    if source is not None:
        output = channel.output_from_port(source.ports[channel.content.port_name])
        signals, void = source.observed_signals, channel.void_when_sent(final)
        if channel.content.sampler is not None:
            output, _ = channel.content.sampler.send(output, stamps[0])
    example_count = len(channel.synthetic_input.examples)
    with channel.wire.imagined(stamps, output, signals, void):
        yield
    del channel.synthetic_input.examples[example_count:]


def _shows(signals: StepSignals, names: tuple[tuple[str, ...], ...]) -> bool:
    """Whether signals have all that the members of a stack observe."""
    return all(name == AGE or name in signals.signals for member_names in names for name in member_names)
