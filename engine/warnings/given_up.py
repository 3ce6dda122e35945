"""Gradients that a window of a delayed channel's sender does not wait for: they are back after its `horizon` (semantics 27b)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from math import ceil, lcm

import networkx as nx

from antiphon.base.call_errors import naming
from antiphon.comms.read_modes import read_mode_of
from antiphon.engine.build.learning_groups import windows_of
from antiphon.engine.heart.clock import Clock, WindowGrid
from antiphon.engine.heart.timetable import Timetable
from antiphon.envs.signal import Description
from antiphon.scenarios import ChannelSpec, Scenario
from antiphon.scenarios.scenario_warnings import Finding

_MOST_WINDOWS, _MOST_SENT = 64, 1024
"""Windows of a sender, and messages of a window, that are followed until their gradient is back, at most."""


def warn_27_given_up(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of delayed channels of whose gradients at least half are given up."""
    group_of = scenario.relations.learning
    waiting = [
        c for c in scenario.channels if c.coupling.waits and group_of[c.sender] != group_of[c.receiver]
    ]
    graph: nx.DiGraph[tuple[str, ...]] = nx.DiGraph(
        [(group_of[c.sender], group_of[c.receiver]) for c in waiting]
    )
    if not nx.is_directed_acyclic_graph(graph):
        return  # they wait for each other, of which there is another warning
    sent: dict[tuple[str, ...], list[ChannelSpec]] = {}
    for channel in waiting:
        sent.setdefault(group_of[channel.sender], []).append(channel)
    grids_by_group = {
        group: grid
        for group in graph
        if scenario.window(group) != "episode" or env.episode_steps is not None
        if (grid := windows_of(scenario, group, env, None)).cycle_steps is not None
    }
    ages = dict.fromkeys(grids_by_group, 0)
    for group in reversed(list(nx.topological_sort(graph))):
        for channel in sent.get(group, ()):
            sender_grid = grids_by_group.get(group)
            receiver_grid = grids_by_group.get(group_of[channel.receiver])
            if sender_grid is None or receiver_grid is None:
                continue
            clocks = [scenario.agents[name].clock for name in (channel.sender, channel.receiver)]
            sender, receiver = (Clock(clock.period, clock.phase) for clock in clocks)
            waits = ages[group_of[channel.receiver]]
            grids, link = (sender_grid, receiver_grid), channel.link
            with naming(f"channels.{channel.name}"):
                needed = _windows_waited(
                    sender,
                    receiver,
                    *grids,
                    waits,
                    link.delay,
                    link.back,
                    channel.read,
                    channel.horizon,
                    channel.coupling.has_to_wait,
                )
            ages[group] = max(ages[group], min(max(needed, default=0), channel.horizon))
            late = sum(ended > channel.horizon for ended in needed)
            if late and 2 * late >= len(needed):
                yield Finding(
                    "channel",
                    channel.name,
                    f"gradients come back up to {max(needed)} windows of '{channel.sender}' later, and "
                    f"after {channel.horizon} they are dropped; use horizon: {max(needed)}",
                )


@cache
def _windows_waited(
    sender: Clock,
    receiver: Clock,
    sender_grid: WindowGrid,
    receiver_grid: WindowGrid,
    waits: int,
    delay: int,
    back: int,
    read: str,
    horizon: int,
    waits_for: Callable[[int, int], bool],
) -> Sequence[int]:
    """Return, for each of the sender's windows in turn, how many more have ended once all its gradients are back.

    It is fewer where the coupling `waits_for` none of them any more, before the horizon has passed.

    Args:
        waits: How many more of the receiver's windows end until one is learned from.
        delay: Steps of a message.
        back: Steps of its gradient.
        read: What a tick does with several messages.
    """
    counts: list[int] = []
    mode = read_mode_of(read, sender.tick_period, receiver.tick_period)
    timetable = Timetable(sender, receiver, receiver_grid, delay, read_mode=mode)
    cycle = lcm(*(grid.cycle_steps or 1 for grid in (sender_grid, receiver_grid)), sender.cycle_steps)
    turn = sender_grid.number_at(cycle) - sender_grid.number_at(0)
    for number in range(1, 1 + min(turn, _MOST_WINDOWS)):
        back_by_stamp: dict[int, int] = {}
        """The newest first, of those that are read: that one is back last."""
        for stamp in [*sender.among(sender_grid.steps_of(number))][: -_MOST_SENT - 1 : -1]:
            plan = timetable.read_plan(stamp)
            if plan.is_bookable:
                closed = receiver_grid.end_of(max(plan.window_numbers) + waits)
                back_by_stamp[stamp] = closed + max(back, 1)
        if back_by_stamp:
            end, newest_back = sender_grid.end_of(number), next(iter(back_by_stamp.values()))
            later = count(max(ceil((newest_back - end) / sender_grid.max_steps()), 0))
            until_back = next(n for n in later if sender_grid.end_of(number + n) >= newest_back)
            ends = [sender_grid.end_of(number + n) for n in range(min(until_back, horizon + 1))]
            awaited = [
                any(end < at and waits_for(stamp, end) for stamp, at in back_by_stamp.items()) for end in ends
            ]
            counts.append(until_back if all(awaited) else awaited.index(False))
    return counts
