"""The reference backend: one agent at a time, plain autograd. It is the specification the others are held to.

A step (semantics 13): agents due tick in waves; the environment moves on; units whose window ends learn, all
from the parameters of before the step; then predictors learn from what has come back; ended episodes are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from antiphon.comms.credit import BackwardRequest, Gradients, Injection, backward_all, clipped
from antiphon.comms.cut import constant
from antiphon.engine.core.ledger import Consumption, Ledger, Record
from antiphon.engine.core.parts import AUXILIARY_PORT, Agent, Channel, LearningGroup
from antiphon.engine.core.signals import StepSignals, mask_and, mask_fill_zero, mask_not
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.forward import ForwardPass
from antiphon.engine.step.losses import ObjectiveEvaluator
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.engine.step.report import StepReport, Update
from antiphon.engine.step.returns import Returns
from antiphon.nets.optimisers import step_all

__all__ = ["Reference"]


class Reference:
    """Runs a system step by step.

    Args:
        system: The agents, channels and units.
    """

    name = "reference"

    def __init__(self, system: System) -> None:
        self.system = system
        self.forward_pass = ForwardPass(system)
        self.predictor_trainer = PredictorTrainer(system)
        self.evaluator = ObjectiveEvaluator(system)
        self.returns = Returns(system, self.forward_pass, self._replayed)

    def shown(self) -> System:
        """Return the system as everybody may look at it: one agent at a time, up to date."""
        return self.system

    def seen(self, learned: StepReport) -> tuple[System, StepReport]:
        """Return the system, and what it learned at the newest step, as they are cheapest to look at: as they are run."""
        return self.shown(), learned

    @property
    def channels(self) -> Iterable[str]:
        """The names of all channels, one by one, in canonical order."""
        return self.system.channels

    def settle(self) -> None:
        """Raise what has been found out since nobody looked: here everything is looked at as it happens."""

    def taken_over(self) -> None:
        """Make the graphs of open windows again, after the system has taken over a state."""
        for unit in self.system.units:
            self.forward_pass.replay(unit.tape)

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Let all agents due at `step` tick, in waves."""
        self.forward_pass.tick(step, step_signals)

    def learn(self, step: int, *, watch: bool = False) -> StepReport:
        """Let every unit and predictor whose time has come learn.

        Args:
            step: The step just taken.
            watch: Whether predictions are kept for telemetry; it changes no number.
        """
        closing: list[tuple[LearningGroup, Tape]] = []
        dropped: list[tuple[LearningGroup, Tape]] = []
        for unit, window in self.system.schedule.ending(step):
            tape = unit.tape
            unit.tape = Tape()
            if tape.window != window:  # nobody ticked in it
                self._close(unit, Tape(window), step)
                continue
            if unit.late:
                self._judge(unit, tape, step, closing, dropped)
            else:
                closing.append((unit, tape))
        self._foresee(closing)
        turns = [self._updates(turn, step) for turn in self._turns(closing)]
        predictor_updates = self.predictor_trainer.local_examples([tape for _, tape in closing])
        for unit, tape in [*closing, *dropped]:
            self._close(unit, tape, step)
        returns = self.returns.extend(closing, step)
        taught = self.predictor_trainer.prepare(predictor_updates, returns, step, watch=watch)
        heard = self.predictor_trainer.prepare_inputs(step)
        for updates in turns:  # all is computed and finite: now, and only now, anything moves
            self._apply(updates, step)
        self.predictor_trainer.teach(taught, step)
        self.predictor_trainer.teach_inputs(heard, step)
        for _, tape in [*closing, *dropped]:
            tape.release()
        return StepReport([update for updates in turns for update in updates], taught, heard)

    def _judge(
        self,
        unit: LearningGroup,
        newest: Tape,
        step: int,
        closing: list[tuple[LearningGroup, Tape]],
        dropped: list[tuple[LearningGroup, Tape]],
    ) -> None:
        """Sort a late unit's tapes into those whose deltas are back, those too old, and those that wait."""
        waiting: list[Tape] = []
        for tape in [*unit.pending, newest]:
            if newest.window - tape.window > unit.staleness:
                dropped.append((unit, tape))
            elif all(self._back(self.system.channels[name], record, step) for name, record in tape.sent):
                if tape is not newest:
                    self.forward_pass.replay(tape)
                closing.append((unit, tape))
            else:
                tape.release()
                waiting.append(tape)
        unit.pending = waiting

    def _back(self, channel: Channel, record: Record, step: int) -> bool:
        if channel.coupling != "delayed" or record.unread:
            return True
        if self.system.group_of[channel.sender] is self.system.group_of[channel.receiver]:
            return True
        if record.finished is None or record.finished >= step:
            return False
        return not record.complete or record.finished + channel.ledger.back <= step

    def _updates(self, closing: list[tuple[LearningGroup, Tape]], step: int) -> list[Update]:
        """Pull the learning signal of closed windows back to parameters and leaves; only the ledger changes."""
        updates, pulls, uses = [], [], []
        for unit, tape in closing:
            update = Update(
                unit, tape, window_loss=self.evaluator.window(tape), learning=self._learning(unit, tape)
            )
            consumed = {
                id(entry.use): (self.system.channels[entry.channel], entry.use)
                for tick in tape.ticks
                for part in tick.parts
                for entry in part.consumed
                if entry.use is not None
            }
            pull = BackwardRequest(
                update.window_loss.total,
                self._injections(tape, update, step),
                [p for name in update.learning for p in self.system.agents[name].learner.trainable],
                [use.leaf for channel, use in consumed.values() if channel.ledger.returns],
                self._foretold(update),
            )
            updates.append(update)
            pulls.append(pull)
            uses.append(list(consumed.values()))
        results = backward_all(pulls, self.system.batch)
        diverged = self._check(updates, results, step)
        for update, consumed_by, (own, deltas) in zip(updates, uses, results, strict=True):
            if update in diverged:
                continue
            self._divide(update, own)
            self._book(update, consumed_by, deltas)
        return [update for update in updates if update not in diverged]

    def _book(self, update: Update, uses: list[tuple[Channel, Consumption]], deltas: Gradients) -> None:
        """Enter what comes back for the messages that a window used."""
        back = iter(deltas)
        for channel, use in uses:
            channel.ledger.book(use, next(back) if channel.ledger.returns else None)
        told: dict[str, list[Consumption]] = {}
        for channel, use in uses:
            if channel.needs_returned_loss:
                told.setdefault(channel.name, []).append(use)
        loss = self._returned_loss(update) if told else None
        for name, some in told.items():
            assert loss is not None
            Ledger.book_loss(some, self.system.channels[name].of_receiver(loss))

    def _foretold(self, update: Update) -> Tensor | None:
        """The auxiliary losses: heads after the first tick foretell the window end's synthetic gradients (semantics 12)."""
        unit, tape = update.unit, update.tape
        total: Tensor | None = None
        for name in unit.members:
            memory = self.system.agents[name].memory
            if memory is None or not memory.auxiliary:
                continue
            first = next((p for tick in tape.ticks for p in tick.parts if p.agent == name), None)
            last = next((record for channel, record in tape.sent if channel == memory.name), None)
            if first is None or first.participates is False or last is None or not memory.injects:
                continue
            if last.no_injection is True:  # nothing follows
                said = memory.zeros
            elif last.prediction is None:
                continue
            else:
                said = mask_fill_zero(mask_not(last.no_injection), last.prediction[0])
            error = memory.enabled_predictions(
                mask_fill_zero(first.participates, first.ports[AUXILIARY_PORT] - said)
            )
            update.foretold.add(name)
            loss = memory.auxiliary * error.square().sum() / self.system.batch
            total = loss if total is None else total + loss
        return total

    def _learning(self, unit: LearningGroup, tape: Tape) -> list[str]:
        """The first agents of the learners that learn from a window."""
        return [
            name for name in unit.owners if self.system.agents[name].participates(tape.window) is not False
        ]

    def _returned_loss(self, update: Update) -> Tensor:
        """[B]: the window's losses, and what the critics of the channels it sent on expect beyond (semantics 9)."""
        loss = update.window_loss.samples
        if loss is None:
            loss = self.system.agents[update.unit.members[0]].spread(self.system.nothing)
        for name, record in update.tape.sent:
            channel = self.system.channels[name]
            if (
                channel.predictor is None
                or not channel.needs_returned_loss
                or record.unread
                or record.no_injection is True
            ):
                continue
            example = self.predictor_trainer.example(channel, record, answered=False)
            if example is not None and not channel.predictor_disabled:
                value = channel.discount * channel.enabled_predictions(
                    constant(channel.predictor.value(example))
                )
                loss = loss + channel.to_sender(mask_fill_zero(mask_not(record.no_injection), value))
        return loss

    def _divide(self, update: Update, gradients: Gradients) -> None:
        """Give each learner of a unit its gradients; tied agents get the mean of theirs."""
        rest = iter(gradients)
        for name in update.learning:
            sharing = update.unit.owners[name]
            found = [next(rest) for _ in self.system.agents[name].learner.trainable]
            if sharing > 1:
                found = [None if g is None else g / sharing for g in found]
            update.gradients[name] = found

    def _foresee(self, closing: list[tuple[LearningGroup, Tape]]) -> None:
        """Ask the predictors of all channels that inject, at once."""
        asked = [
            (self.system.channels[name], record)
            for _, tape in closing
            for name, record in tape.sent
            if self.system.channels[name].injects
            and self._sender(name).participates(tape.window) is not False
        ]
        self.predictor_trainer.predict_missing(
            [(c, r) for c, r in asked if not r.unread and r.no_injection is not True]
        )

    def _injections(self, tape: Tape, update: Update, step: int) -> list[Injection]:
        found = [injection for _, _, injection in self._credits(tape, update, step)]
        return [*found, *self._direct(tape)]

    def _credits(self, tape: Tape, update: Update, step: int) -> Iterator[tuple[Channel, Record, Injection]]:
        """What is put on the messages of a window, with their records."""
        for name, record in tape.sent:
            channel = self.system.channels[name]
            if record.unread or record.no_injection is True or record.live is None:
                continue
            participates = self._sender(name).participates(tape.window)
            credit = None if participates is False else self.credit(channel, record)
            if credit is None:
                continue
            credit = channel.enabled_predictions(credit)
            credit = mask_fill_zero(
                mask_and(channel.of_sender(participates), mask_not(record.no_injection)), credit
            )
            if channel.coupling == "delayed":
                yield channel, record, Injection(record.live, credit)
            else:
                scale = channel.scale(step)
                update.injected[name] = credit
                if scale:
                    update.put.add((name, record.stamp))
                yield channel, record, Injection(record.live, credit, scale, channel.discount)

    def _replayed(self, unit: LearningGroup, tape: Tape, step: int) -> list[Injection]:
        """What is put on the messages of a window that has been replayed."""
        self._foresee([(unit, tape)])
        return self._injections(tape, Update(unit, tape), step)

    def _sender(self, channel: str) -> Agent:
        return self.system.agents[self.system.channels[channel].sender]

    def credit(self, channel: Channel, record: Record) -> Tensor | None:
        """Return what is put on a message, [B, size] per sample before `scale`; None: nothing.

        With `trace` and `propagate`, what its receiver has just returned is mixed in (semantics 11; BP(lambda)).
        """
        if channel.coupling == "delayed":
            return record.delta if record.complete else None
        if not channel.injects or record.prediction is None:
            return None
        credit = record.prediction[0]
        if channel.mixes:
            delta = channel.zeros if record.delta is None else record.delta
            credit = torch.lerp(credit, delta, channel.trace) if channel.trace else credit
            heard = channel.propagate and record.counted is not False
            example = self.predictor_trainer.example(channel, record) if heard else None
            if example is not None and channel.predictor is not None:
                example.delta = delta
                credit = credit + channel.propagate * channel.predictor.propagated(example)
        return credit if channel.clip is None else clipped(credit, channel.clip)

    def _direct(self, tape: Tape) -> Iterator[Injection]:
        """Errors of objectives, carried straight to the messages made before them in the window (semantics 10)."""
        told = [(self.system.channels[name], record) for name, record in tape.sent]
        told = [
            (channel, record)
            for channel, record in told
            if channel.direct is not None
            and record.live is not None
            and not record.unread
            and self._sender(channel.name).participates(tape.window) is not False
        ]
        if not told:
            return
        sources = {channel.error_of for channel, _ in told}
        errors = [
            (tick.step, part.agent, error)
            for tick in tape.ticks
            for part in tick.parts
            if part.agent in sources and (error := self.evaluator.error(part)) is not None
        ]
        for channel, record in told:
            assert channel.direct is not None
            assert record.live is not None
            for step, agent, error in errors:
                if agent == channel.error_of and step >= record.stamp:
                    yield Injection(record.live, channel.direct.signal(error))

    def _check(
        self, updates: list[Update], results: list[tuple[Gradients, Gradients]], step: int
    ) -> list[Update]:
        """Return the updates that have diverged, or raise, naming the first unit that has."""
        diverged = self.system.divergence.of(
            {str(i): own for i, (own, _) in enumerate(results)},
            {str(i): deltas for i, (_, deltas) in enumerate(results)},
        )
        for i, what in diverged.items():
            unit = updates[int(i)].unit
            self._report(unit, what, step)
            for name in unit.members:
                self.system.agents[name].agent_disabled = True
        return [updates[int(i)] for i in diverged]

    def _report(self, unit: LearningGroup, what: str, step: int) -> None:
        who = ", ".join(f"'{name}'" for name in unit.members)
        self.system.divergence.report(
            step,
            f"agent {who}: the gradient at step {step} {what}; "
            "lower its learning rate, or the scale of the synthetic gradients it receives",
        )

    def _close(self, unit: LearningGroup, tape: Tape, step: int) -> None:
        for _, record in tape.sent:
            record.held_by_sender = False
        for name in unit.members:
            for channel in self.system.agents[name].channels:
                channel.ledger.close(tape.window, step)

    def _apply(self, updates: list[Update], step: int) -> None:
        plans = []
        for update in updates:
            for name, gradients in update.gradients.items():
                learner = self.system.agents[name].learner
                if learner.trainable and any(g is not None for g in gradients):
                    plans.append(learner.planned(gradients, step))
        step_all(plans)

    def _turns(self, closing: list[tuple[LearningGroup, Tape]]) -> list[list[tuple[LearningGroup, Tape]]]:
        """Part closed windows into what is differentiated together.

        No two windows of one unit, which share its parameters, are; and where a channel mixes in what comes back
        at the same step, its receiver is differentiated before its sender.
        """
        turns: list[list[tuple[LearningGroup, Tape]]] = []
        taken: dict[int, int] = {}
        for unit, tape in sorted(closing, key=lambda one: self.system.depths.get(id(one[0]), 0)):
            turn = taken[id(unit)] = max(taken.get(id(unit), -1) + 1, self.system.depths.get(id(unit), 0))
            turns.extend([] for _ in range(turn + 1 - len(turns)))
            turns[turn].append((unit, tape))
        return [turn for turn in turns if turn]
