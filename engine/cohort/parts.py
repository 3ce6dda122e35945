"""Cohorts and bundles: agents and channels whose rows are (member, environment), member by member.

Shapes: N agents of a cohort, K channels of a bundle, B environments; rows N * B or K * B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.comms.cut import constant
from antiphon.comms.link import Link, quantised
from antiphon.engine.cohort.learner import StackedLearner
from antiphon.engine.cohort.mailbox import Mailbox
from antiphon.engine.core.message import Record
from antiphon.engine.core.parts import AGE, Agent, Channel
from antiphon.engine.core.signals import EnvMask, mask_and, mask_fill_zero, mask_not, mask_or
from antiphon.engine.core.system import System
from antiphon.nets.random import normal_many, seed_for, uniform_many

__all__ = ["Bundle", "Cohort", "Links", "Members", "Replicas"]

Members = Tensor | None
"""[N] or [K] bool, on the CPU: which members; None: all."""


class Replicas:
    """Which of the worlds each member is in, and so which lanes of a signal are its own.

    Args:
        each: By member.
        count: How many worlds there are, W.
        batch: B.
        device: Where signals are.
    """

    def __init__(self, each: Sequence[int] = (), count: int = 1, batch: int = 0, device: Any = None) -> None:
        self.count, self.batch, self.members = count, batch, len(each)
        self.in_turn = list(each) == list(range(count))
        self.index = torch.tensor(each, device=device)

    def opened(self, signal: Tensor) -> Tensor:
        """Return a signal of the worlds, [W * B, …], by member, [members, B, …]."""
        each = signal.view(self.count, self.batch, *signal.shape[1:])
        if self.in_turn:
            return each
        if self.count == 1:
            return each.expand(self.members, *each.shape[1:])
        return each.index_select(0, self.index)

    def spread(self, signal: Tensor) -> Tensor:
        """Return a signal of the worlds, [W * B, …], for the members' rows."""
        return self.opened(signal).flatten(0, 1)


def picked(rows: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """Return the rows of the members at `index`, one after the other; None: all, as they are."""
    if index is None:
        return rows
    return rows.reshape(-1, batch, *rows.shape[1:]).index_select(0, index).flatten(0, 1)


@dataclass(slots=True, eq=False)
class Cohort(Agent):
    """Agents of one kind as one."""

    members: tuple[Agent, ...] = ()
    names: tuple[str, ...] = ()
    batch: int = 0
    looks: tuple[tuple[str, ...], ...] = ()
    """Per observation, the signal that each member sees."""
    seeds: Tensor | None = None
    """[N] int64: of the draws that decide who learns from a window; None: all do."""
    mailbox: Mailbox = field(default_factory=Mailbox)
    worlds: Replicas = field(default_factory=Replicas)
    _mask: tuple[int, Tensor] | None = None
    _order: dict[tuple[str, ...], Tensor | None] = field(default_factory=dict)

    @property
    def stack(self) -> StackedLearner:
        """Its members' numbers."""
        assert isinstance(self.learner, StackedLearner)
        return self.learner

    def spread(self, signal: Tensor) -> Tensor:
        return self.worlds.spread(signal)

    def total(self, rows: Tensor) -> Tensor:
        return rows.view(len(self.members), self.batch).sum(1)

    @property
    def who(self) -> tuple[str, ...]:
        return self.names

    @property
    def stacked(self) -> bool:
        return True

    def counts(self) -> list[int]:
        return self.stack.counts()

    def by_member(self, members: Tensor) -> Tensor:
        """Return what is said of members, [N], of their rows."""
        return members.to(self.worlds.index.device).repeat_interleave(self.batch)

    def silence(self, members: Tensor) -> None:
        """Let `members`, [N] bool, learn no more and say nothing."""
        self.agent_disabled = mask_or(self.agent_disabled, self.by_member(members))

    def learning(self, window: int) -> Members:
        """Return which members learn from `window`, whoever has diverged."""
        if self.seeds is None:
            return None
        if self._mask is None or self._mask[0] != window:
            self._mask = window, uniform_many(self.seeds, window, 1)[:, 0] < self.p_update
        return self._mask[1]

    def participates(self, window: int) -> EnvMask:
        mask = self.learning(window)
        if mask is None:
            lanes: EnvMask = True
        elif mask.all():
            lanes = True
        else:
            lanes = bool(mask.any()) and self.by_member(mask)
        return mask_and(lanes, mask_not(self.agent_disabled))

    def observations(self, signals: Tensors, system: System) -> list[Tensor]:
        """Return what the members see, [N, B, …] each, in the order in which they declare it, but for ages."""
        flat = len(self.learner.network.input_shape) == 1
        found = []
        dtype = system.dtype
        for names in self.looks:
            if names[0] == AGE:
                continue
            unlike = dict.fromkeys(names)
            if names[0] not in signals:  # an aligned agent before its first message
                blank = system.blank(names[0]).unsqueeze(0)
                value = blank.expand(len(names), *blank.shape[1:])
            elif len(unlike) == 1:
                value = self.worlds.opened(signals[names[0]].to(dtype))
            else:
                each = torch.stack([signals[name] for name in unlike]).to(dtype)
                value = each.view(-1, self.batch, *each.shape[2:])
                value = self._own(value, names, list(unlike))
            found.append(value.flatten(2) if flat else value)
        return found

    def _own(self, value: Tensor, names: tuple[str, ...], unlike: list[str]) -> Tensor:
        """Pick each member's own out of the signals [unlike * W, B, …]."""
        if names not in self._order:
            place = {name: i for i, name in enumerate(unlike)}
            each = [
                place[name] * self.worlds.count + world
                for name, world in zip(names, self.worlds.index.tolist(), strict=True)
            ]
            in_turn = each == list(range(len(value)))
            self._order[names] = None if in_turn else torch.tensor(each, device=value.device)
        order = self._order[names]
        return value if order is None else value.index_select(0, order)


@dataclass(slots=True, eq=False)
class Bundle(Channel):
    """Channels of one kind between two cohorts as one, in the order of their senders."""

    members: tuple[Channel, ...] = ()
    batch: int = 0
    take: Tensor | None = None
    """[K]: the sender of each channel, by its place in the cohort; None: each in turn."""
    give: Tensor | None = None
    """[K]: its receiver."""
    worlds: Replicas = field(default_factory=Replicas)
    senders: int = 1
    """How many members the sending cohort has."""
    predictors_disabled: Tensor | None = None
    """[K] bool: whose synthetic gradient has diverged; None: nobody's."""
    heard_members: list[Members] = field(default_factory=list)
    """Of each example that its synthetic inputs learn from at the end of the step, the members that it is one for."""
    input_models_disabled: Tensor | None = None
    """[K] bool: whose synthetic input has diverged; None: nobody's."""

    @property
    def who(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.members)

    @property
    def covers(self) -> bool:
        """Whether every member of the sending cohort sends."""
        return self.take is None

    def taken(self, port: Tensor) -> Tensor:
        return picked(port, self.take, self.batch)

    def of_sender(self, lanes: EnvMask) -> EnvMask:
        if not isinstance(lanes, Tensor):
            return lanes
        found = picked(lanes, self.take, self.batch)
        return bool(found[0]) if len(self.members) == 1 else found  # senders learn and are silent as wholes

    def hear(self, context: Tensor | None, record: Record, arrived: Tensor | None) -> None:
        self.heard.append((context, record.received, arrived))
        if len(self.members) == 1:
            return
        members: Members = None
        if isinstance(record.void, Tensor):
            members = self.some_of(torch.logical_not(record.void))
        if self.input_models_disabled is not None:
            able = torch.logical_not(self.input_models_disabled)
            members = able if members is None else members & able
        self.heard_members.append(members)

    def of_receiver(self, rows: Tensor) -> Tensor:
        return picked(rows, self.give, self.batch)

    def to_sender(self, rows: Tensor) -> Tensor:
        if self.take is None:
            return rows
        opened = rows.view(-1, self.batch, *rows.shape[1:])
        total = opened.new_zeros(self.senders, *opened.shape[1:])
        return total.index_add(0, self.take, opened).flatten(0, 1)

    def spread(self, signal: Tensor) -> Tensor:
        return self.worlds.spread(signal)

    def unsound(self, message: Tensor) -> EnvMask:
        sound = message.view(len(self.members), -1).isfinite().all(1)
        return False if bool(sound.all()) else torch.logical_not(sound).repeat_interleave(self.batch)

    def heard_of(self, lanes: EnvMask) -> Members:
        if self.predictors_disabled is None and not isinstance(lanes, Tensor):
            return None
        members = torch.ones(len(self.members), dtype=torch.bool)
        if isinstance(lanes, Tensor):
            members = self.some_of(lanes)
        if self.predictors_disabled is not None:
            members = members & torch.logical_not(self.predictors_disabled)
        return None if bool(members.all()) else members

    def some_of(self, lanes: Tensor) -> Tensor:
        """Return the members, [K] bool, of which anything is in `lanes`."""
        return lanes.view(len(self.members), self.batch).any(1).cpu()

    def injectors(self, participates: EnvMask) -> Members:
        learned = self.of_sender(participates)
        members: Members = None
        if isinstance(learned, Tensor):
            members = self.some_of(learned)
        elif not learned:
            members = torch.zeros(len(self.members), dtype=torch.bool)
        if self.predictors_disabled is None:
            return members
        able = torch.logical_not(self.predictors_disabled)
        return able if members is None else members & able

    def enabled_predictions(self, rows: Tensor) -> Tensor:
        if self.predictors_disabled is None:
            return rows
        return mask_fill_zero(mask_not(self.by_member(self.predictors_disabled)), rows)

    @property
    def hearing(self) -> EnvMask:
        return (
            True
            if self.input_models_disabled is None
            else mask_not(self.by_member(self.input_models_disabled))
        )

    def disable(self, members: Tensor) -> None:
        """Let the predictors of `members`, [K] bool, learn no more and say nothing."""
        self.predictors_disabled = (
            members if self.predictors_disabled is None else self.predictors_disabled | members
        )
        self.input_models_disabled = (
            members if self.input_models_disabled is None else self.input_models_disabled | members
        )

    def by_member(self, members: Tensor) -> Tensor:
        """Return what is said of members, [K], of their rows."""
        return members.to(self.zeros.device).repeat_interleave(self.batch)


class Links:
    """The links of a bundle's channels, which lose and spoil each its own messages.

    Args:
        links: Of its members, alike but for their names and seeds.
        batch: B.
    """

    def __init__(self, links: Sequence[Link], batch: int) -> None:
        first = links[0]
        self.delay, self.drop, self.noise, self.bits = first.delay, first.drop, first.noise, first.bits
        self.links, self.batch = links, batch
        self._losses = torch.tensor([seed_for(link.seed, "link", link.name) for link in links])
        self._noises = torch.tensor([seed_for(link.seed, "noise", link.name) for link in links])

    def lost(self, stamp: int, rows: int, device: torch.device | str) -> Tensor | None:
        """Return which rows lose the message of `stamp`; None on links that lose nothing."""
        if self.drop == 0.0:
            return None
        return (uniform_many(self._losses.to(device), stamp, self.batch) < self.drop).flatten()

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the messages of `stamp` as they are received (see `Link.carry`)."""
        if self.bits is None and self.noise == 0.0:
            return message
        sent = constant(message)
        received = sent if self.bits is None else quantised(sent, self.bits)
        if self.noise:
            each = sent.numel() // len(self.links)
            participates = normal_many(self._noises.to(sent.device), stamp, each)
            received = received + (self.noise * participates).view_as(sent).to(sent.dtype)
        return received + (message - sent) if message.requires_grad else received
