"""The reference backend: one agent at a time, plain autograd. It is the specification the others are held to.

A step (semantics 13): agents due tick in waves; the environment moves on; units whose window ends learn, all
from the parameters of before the step; then predictors learn from what has come back; ended episodes are cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.comms.credit import Gradients, Injection, Pull, backward_all
from antiphon.comms.cut import constant
from antiphon.engine.ledger import Record
from antiphon.engine.moment import Moment, besides, lanes_where
from antiphon.engine.parts import Channel, Unit
from antiphon.engine.system import System
from antiphon.engine.tape import Tape
from antiphon.engine.teaching import Lesson, Teacher
from antiphon.engine.ticking import Ticker
from antiphon.errors import DivergenceError
from antiphon.nets.optimisers import step_all

__all__ = ["Learned", "Losses", "Reference", "Update"]


@dataclass(slots=True)
class Losses:
    """What an agent's objective said of the ticks of a window."""

    loss: Tensor
    """Sum over ticks of the mean over the batch."""
    score: Tensor
    """Mean over ticks and batch of the objective's metric."""
    ticks: int


@dataclass(slots=True, eq=False)
class Update:
    """What one unit is about to learn from one window."""

    unit: Unit
    tape: Tape
    gradients: dict[str, list[Tensor | None]] = field(default_factory=dict)
    """By the learner's first agent, in the order of its trainable parameters."""
    losses: dict[str, Losses] = field(default_factory=dict)
    injected: dict[str, Tensor] = field(default_factory=dict)
    """Newest injection by channel, for telemetry."""


@dataclass(slots=True)
class Learned:
    """Everything that was learned at one step."""

    updates: list[Update]
    lessons: dict[str, Lesson]
    """By channel."""


class Reference:
    """Runs a system step by step.

    Args:
        system: The agents, channels and units.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.ticker = Ticker(system)
        self.teacher = Teacher(system)

    def tick(self, step: int, moment: Moment) -> None:
        """Let all agents due at `step` tick, in waves."""
        self.ticker.tick(step, moment)

    def learn(self, step: int, *, watch: bool = False) -> Learned:
        """Let every unit and predictor whose time has come learn.

        Args:
            step: The step just taken.
            watch: Whether predictions are kept for telemetry; it changes no number.
        """
        closing: list[tuple[Unit, Tape]] = []
        dropped: list[tuple[Unit, Tape]] = []
        for unit, window in self.system.schedule.ending(step):
            tape = unit.tape
            unit.tape = Tape()
            if tape.window != window:
                continue
            if unit.late:
                self._judge(unit, tape, step, closing, dropped)
            else:
                closing.append((unit, tape))
        self._foresee(closing)
        turns = [self._updates(turn, step) for turn in _turns(closing)]
        lessons = self.teacher.own_lessons([tape for _, tape in closing])
        for unit, tape in [*closing, *dropped]:
            self._close(unit, tape, step)
        taught = self.teacher.prepare(lessons, step, watch=watch)
        for updates in turns:  # all is computed and finite: now, and only now, anything moves
            self._apply(updates, step)
        self.teacher.teach(taught, step)
        for _, tape in [*closing, *dropped]:
            tape.release()
        return Learned([update for updates in turns for update in updates], taught)

    def _judge(
        self,
        unit: Unit,
        newest: Tape,
        step: int,
        closing: list[tuple[Unit, Tape]],
        dropped: list[tuple[Unit, Tape]],
    ) -> None:
        """Sort a late unit's tapes into those whose deltas are back, those too old, and those that wait."""
        waiting: list[Tape] = []
        for tape in [*unit.pending, newest]:
            if newest.window - tape.window > unit.staleness:
                dropped.append((unit, tape))
            elif all(self._back(self.system.channels[name], record, step) for name, record in tape.sent):
                if tape is not newest:
                    self.ticker.replay(tape)
                closing.append((unit, tape))
            else:
                tape.release()
                waiting.append(tape)
        unit.pending = waiting

    def _back(self, channel: Channel, record: Record, step: int) -> bool:
        if channel.coupling != "delayed" or record.unread:
            return True
        if self.system.unit_of[channel.sender] is self.system.unit_of[channel.receiver]:
            return True
        if record.finished is None or record.finished >= step:
            return False
        return not record.complete or record.finished + channel.ledger.link.delay <= step

    def _updates(self, closing: list[tuple[Unit, Tape]], step: int) -> list[Update]:
        """Pull the learning signal of closed windows back to parameters and leaves; only the ledger changes."""
        updates, pulls, uses = [], [], []
        for unit, tape in closing:
            update = Update(unit, tape)
            consumed = {
                id(entry.use): (self.system.channels[entry.channel], entry.use)
                for tick in tape.ticks
                for part in tick.parts
                for entry in part.inputs
                if entry.use is not None
            }
            pull = Pull(
                self.objective(tape, update),
                self._injections(tape, update),
                [p for name in unit.owners for p in self.system.agents[name].learner.trainable],
                [use.leaf for channel, use in consumed.values() if channel.ledger.returns],
            )
            updates.append(update)
            pulls.append(pull)
            uses.append(list(consumed.values()))
        results = backward_all(pulls, self.system.batch)
        self._check(updates, results, step)
        for update, consumed_by, (own, deltas) in zip(updates, uses, results, strict=True):
            self._divide(update, own)
            back = iter(deltas)
            for channel, use in consumed_by:
                channel.ledger.book(use, next(back) if channel.ledger.returns else None)
        return updates

    def _divide(self, update: Update, gradients: Gradients) -> None:
        """Give each learner of a unit its gradients; tied agents get the mean of theirs."""
        rest = iter(gradients)
        for name, sharing in update.unit.owners.items():
            found = [next(rest) for _ in self.system.agents[name].learner.trainable]
            if sharing > 1:
                found = [None if g is None else g / sharing for g in found]
            update.gradients[name] = found

    def objective(self, tape: Tape, update: Update) -> Tensor | None:
        """Sum a window's losses, each already divided by the batch, and note them in `update`; None without any."""
        total: Tensor | None = None
        for tick in tape.ticks:
            for part in tick.parts:
                goal = self.system.agents[part.agent].goal
                if goal is None or goal.target not in part.moment.signals:
                    continue
                if goal.last_only and (part.moment.step + 1) % self.system.hold:
                    continue
                output, target = part.ports[OBJECTIVE], part.moment.signals[goal.target]
                present = part.moment.signals.get(f"_{goal.target}")
                if present is not None:  # before the loss too: what is absent may be no number at all
                    target = lanes_where(present, target)
                per_sample = goal.objective.loss(output, target)
                score = goal.objective.score(constant(output), target)
                if present is not None:
                    per_sample, score = lanes_where(present, per_sample), lanes_where(present, score)
                    score = score * (len(score) / present.sum().clamp_min(1))
                loss = per_sample.sum() / self.system.batch
                if goal.weight != 1.0:
                    loss = loss * goal.weight
                total = loss if total is None else total + loss
                seen = update.losses.get(part.agent)
                if seen is None:
                    update.losses[part.agent] = Losses(constant(loss), score.mean(), 1)
                else:
                    seen.loss, seen.score = seen.loss + constant(loss), seen.score + score.mean()
                    seen.ticks += 1
        return total

    def _foresee(self, closing: list[tuple[Unit, Tape]]) -> None:
        """Ask the predictors of all channels that inject, at once."""
        asked = [
            (self.system.channels[name], record)
            for _, tape in closing
            for name, record in tape.sent
            if self.system.channels[name].injects
        ]
        self.teacher.foresee([(c, r) for c, r in asked if not r.unread and r.silent is not True])

    def _injections(self, tape: Tape, update: Update) -> list[Injection]:
        found: list[Injection] = []
        for name, record in tape.sent:
            channel = self.system.channels[name]
            if record.unread or record.silent is True or record.live is None:
                continue
            if channel.coupling == "delayed":
                if record.complete and record.delta is not None:
                    found.append(Injection(record.live, record.delta))
            elif channel.injects:
                if record.prediction is None:
                    continue
                prediction = lanes_where(besides(record.silent), record.prediction[0])
                found.append(Injection(record.live, prediction, channel.scale, channel.discount))
                update.injected[name] = prediction
        return found

    def _check(self, updates: list[Update], results: list[tuple[Gradients, Gradients]], step: int) -> None:
        """Raise if any gradient or delta is not finite, naming the first unit that it is so for."""
        found = [g for own, deltas in results for g in (*own, *deltas) if g is not None]
        if not found or math.isfinite(torch.stack(torch._foreach_norm(found)).sum().item()):
            return
        for update, (own, deltas) in zip(updates, results, strict=True):
            if not all(bool(g.isfinite().all()) for g in (*own, *deltas) if g is not None):
                who = ", ".join(f"'{name}'" for name in update.unit.members)
                raise DivergenceError(
                    f"agent {who}: the gradient at step {step} is not finite; "
                    "lower its learning rate, or the scale of the synthetic gradients it receives"
                )

    def _close(self, unit: Unit, tape: Tape, step: int) -> None:
        for _, record in tape.sent:
            record.pinned = False
        for name in unit.members:
            for channel in self.system.agents[name].inputs:
                channel.ledger.close(tape.window, step)

    def _apply(self, updates: list[Update], step: int) -> None:
        plans = []
        for update in updates:
            for name, gradients in update.gradients.items():
                learner = self.system.agents[name].learner
                if learner.trainable and any(g is not None for g in gradients):
                    plans.append(learner.planned(gradients, step))
        step_all(plans)


def _turns(closing: list[tuple[Unit, Tape]]) -> list[list[tuple[Unit, Tape]]]:
    """Part closed windows so that no two of one unit, which share its parameters, are differentiated together."""
    turns: list[list[tuple[Unit, Tape]]] = []
    taken: dict[int, int] = {}
    for unit, tape in closing:
        turn = taken[id(unit)] = taken.get(id(unit), -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append((unit, tape))
    return turns
