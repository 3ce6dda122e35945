"""The timeline of a system, computed from its clocks and windows. Nothing is run."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.system import System
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline

_LONGEST = 32
"""Steps that are shown by default."""
_SHORTEST = 8


def span(system: System) -> int:
    """Return how many steps show what a system does: two of its longest windows, and a whole episode, but 8 to 32 steps."""
    longest = max((group.grid.length for group in system.groups), default=0)
    return min(max(2 * longest, system.description.episode_steps or 0, _SHORTEST), _LONGEST)


def timeline(system: System, start: int, steps: int) -> Timeline:
    """Return the timeline of a system, for some steps from `start` on, with links that lose nothing."""
    shown = range(start, start + steps)
    episodes = None if system.episodes is None else system.episodes.with_known_lengths()
    return Timeline(
        start=start,
        steps=steps,
        agents=tuple(_agent(system, agent, shown) for agent in system.agents.values()),
        channels=tuple(_channel(system, channel, shown, episodes) for channel in system.channels.values()),
        episode_ends=_flags(shown, set() if episodes is None else _ends(episodes, shown)),
    )


def _windows(system: System, agent: str) -> WindowGrid:
    """Return an agent's windows; where lengths vary, all are as long as the present one."""
    return system.group_by_agent[agent].grid.with_known_lengths()


def _flags(shown: range, steps: Container[int]) -> NDArray[np.bool_]:
    return np.array([step in steps for step in shown], dtype=np.bool_)


def _ends(windows: WindowGrid, shown: range) -> set[int]:
    return {windows.steps_of(windows.number_at(step))[-1] for step in shown}


def _agent(system: System, agent: Agent, shown: range) -> AgentTimes:
    return AgentTimes(
        name=agent.name,
        ticks=_flags(shown, agent.clock.among(shown)),
        ends=_flags(shown, _ends(_windows(system, agent.name), shown)),
    )


def _channel(system: System, channel: Channel, shown: range, episodes: WindowGrid | None) -> ChannelTimes:
    wire, windows = channel.wire, _windows(system, channel.receiver)
    # without a state every message has a step at which all that read it have learned
    timetable = replace(wire.timetable, receiver_grid=windows, carries_state=False)
    sent, due = timetable.sender_clock.among(shown), timetable.receiver_clock.among(shown)
    with_graph = channel.carries_state or channel.coupling.joins_endpoints

    def read_at(step: int) -> tuple[int, ...]:
        """Return the stamps that a tick reads, oldest first; none of an episode that has ended."""
        stamps = timetable.stamps_read_at(step) if step in due else []
        return tuple(stamp for stamp in stamps if not timetable.is_cut_ahead(stamp, step, episodes))

    def in_one_window(stamp: int, tick: int) -> bool:
        return windows.number_at(stamp) == windows.number_at(tick)

    back: dict[int, int] = {}
    """By message that is read, the step at which its gradient is back; -1: never."""
    for stamp in sent:
        plan = timetable.read_plan(stamp)
        if plan.first_tick is None or timetable.is_cut_ahead(stamp, plan.first_tick, episodes):
            continue
        if with_graph and in_one_window(stamp, plan.first_tick):
            back[stamp] = windows.end_of(windows.number_at(stamp))
        else:
            finished_at = windows.end_of(max(plan.window_numbers))
            back[stamp] = timetable.back_from(finished_at) if wire.returns_gradients else -1
    read = {step: read_at(step) for step in shown}
    closes = with_graph and not channel.injects_prediction
    cut = {
        step for step, stamps in read.items() if closes and any(not in_one_window(at, step) for at in stamps)
    }
    return ChannelTimes(
        name=channel.name,
        sender=channel.sender,
        receiver=channel.receiver,
        coupling=channel.coupling.name,
        state=channel.carries_state,
        sent=_flags(shown, sent),
        due=_flags(shown, due),
        stamps=tuple(read.values()),
        ages=np.array([step - at[-1] if at else -1 for step, at in read.items()], dtype=np.int64),
        unread=_flags(shown, {*sent} - back.keys()),
        cut=_flags(shown, cut),
        back=np.array([back.get(step, -1) for step in shown], dtype=np.int64),
    )
