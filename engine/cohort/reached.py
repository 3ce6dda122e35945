"""Reach: which members of a cohort anything of a window's learning signal comes to.

An agent takes a step only where a gradient reaches it. Of a cohort's members, which share one gradient tensor, this is
found from what was put on their messages, what their objectives said, and who passed it on within the window.
"""

from __future__ import annotations

import torch

from antiphon.engine.cohort.parts import Bundle, Cohort, Members
from antiphon.engine.core.message import Consumption
from antiphon.engine.core.signals import EnvMask
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import AgentTick
from antiphon.engine.step.report import Update

__all__ = ["among", "consumed", "reached", "reached_alone"]


def among(a: Members, b: Members) -> Members:
    """Return the members in both."""
    if a is None or b is None:
        return a if b is None else b
    return a & b


def consumed(update: Update) -> list[tuple[str, Consumption]]:
    """Return the uses of an update's window, each once, with their channels."""
    found = {
        id(entry.use): (entry.channel, entry.use)
        for tick in update.tape.ticks
        for part in tick.parts
        for entry in part.consumed
        if entry.use is not None
    }
    return list(found.values())


def reached_alone(system: System, update: Update, agent: str) -> bool:
    """Whether an update's learning signal reaches an agent that is run as itself beside cohorts."""
    if agent in update.losses:
        return True
    reach = _Reach(system, update)
    reach.read()
    return any(bool(members.any()) for (name, _), members in reach.by_tick.items() if name == agent)


def reached(system: System, update: Update, cohort: Cohort) -> Members:
    """Return the members of a cohort that an update's learning signal reaches."""
    told = update.losses.get(cohort.name)
    if told is not None and not isinstance(told.count, torch.Tensor):
        return None
    reach = _Reach(system, update)
    for name, stamp in update.put:
        bundle = system.channels[name]
        if bundle.sender != cohort.name or not isinstance(bundle, Bundle) or not bundle.covers:
            continue
        if bundle.predictors_disabled is None and not isinstance(
            reach.sent[name, stamp].no_injection, torch.Tensor
        ):
            return None
    reach.read()
    return reach.of(cohort)


class _Reach:
    """A window read backwards."""

    def __init__(self, system: System, update: Update) -> None:
        self.system = system
        self.update = update
        self.by_tick: dict[tuple[str, int], torch.Tensor] = {}
        self.sent = {(name, record.stamp): record for name, record in update.tape.sent}

    def read(self) -> None:
        """Read the window."""
        update = self.update
        for name, stamp in update.put:
            self._told(name, stamp, None)
        for tick in reversed(update.tape.ticks):
            for part in tick.parts:
                key = part.agent, tick.step
                if (tick.step, part.agent) in update.window_loss.evaluated:
                    known = self.by_tick.get(key, torch.zeros((), dtype=torch.bool))
                    self.by_tick[key] = known | self._judged(update, part.agent)
                if key in self.by_tick:
                    self._pass_on(part, self.by_tick[key])

    def of(self, cohort: Cohort) -> Members:
        found = torch.zeros(len(cohort.members), dtype=torch.bool)
        for (name, _), members in self.by_tick.items():
            if name == cohort.name:
                found = found | members
        if cohort.name in self.update.foretold:
            predictor_disabled = (
                cohort.memory.predictors_disabled if isinstance(cohort.memory, Bundle) else None
            )
            found = (
                torch.ones_like(found)
                if predictor_disabled is None
                else found | torch.logical_not(predictor_disabled)
            )
        return None if bool(found.all()) else found

    def _judged(self, update: Update, agent: str) -> torch.Tensor:
        """Those that there was a target for."""
        every = torch.ones(self._count(agent), dtype=torch.bool)
        count = update.losses[agent].count
        return every & (count > 0).cpu() if isinstance(count, torch.Tensor) else every

    def _count(self, agent: str) -> int:
        found = self.system.agents[agent]
        return len(found.members) if isinstance(found, Cohort) else 1

    def _pass_on(self, part: AgentTick, members: torch.Tensor) -> None:
        """Tell those whose messages were read with their graph."""
        if isinstance(part.participates, torch.Tensor):
            members = members & part.participates.view(len(members), -1)[:, 0].cpu()
        for entry in part.consumed:
            if entry.stamp is not None and part.participates is not False and entry.alive is not False:
                self._told(entry.channel, entry.stamp, members, entry.alive)

    def _told(self, name: str, stamp: int, receivers: Members, alive: EnvMask = True) -> None:
        """Note that the senders of a channel's messages are reached where their receivers are."""
        channel = self.system.channels[name]
        key = channel.sender, stamp
        found = self.by_tick.setdefault(key, torch.zeros(self._count(channel.sender), dtype=torch.bool))
        if not isinstance(channel, Bundle):
            found |= torch.ones(1, dtype=torch.bool) if receivers is None else receivers
            return
        told = torch.ones(len(channel.members), dtype=torch.bool)
        if receivers is not None:
            told = receivers if channel.give is None else receivers[channel.give.cpu()]
            if isinstance(alive, torch.Tensor):
                told = told & channel.some_of(alive)
        else:  # nothing is put on the messages of who is silent, or whose predictor is
            no_injection = self.sent[name, stamp].no_injection
            if isinstance(no_injection, torch.Tensor):
                told = channel.some_of(torch.logical_not(no_injection))
            if channel.predictors_disabled is not None:
                told = told & torch.logical_not(channel.predictors_disabled)
        places = torch.arange(len(told)) if channel.take is None else channel.take.cpu()
        found[places[told]] = True
