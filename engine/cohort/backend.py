"""The cohort backend: what the reference computes, many agents at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from antiphon.comms.credit import Gradients
from antiphon.engine.cohort.guard import Guard
from antiphon.engine.cohort.lift import lift
from antiphon.engine.cohort.lowering import Lowering
from antiphon.engine.cohort.parts import Bundle, Cohort, Members
from antiphon.engine.cohort.raising import Raising
from antiphon.engine.cohort.reached import among, consumed, reached, reached_alone
from antiphon.engine.cohort.spans import Pulls, add, full, objectives, together
from antiphon.engine.cohort.teaching import CohortPredictorTrainer
from antiphon.engine.cohort.ticking import CohortForwardPass
from antiphon.engine.cohort.told import Told, without
from antiphon.engine.core.memory import keep_memory
from antiphon.engine.core.parts import LearningGroup
from antiphon.engine.core.signals import StepSignals, mask_and, mask_fill_zero, mask_not, mask_or
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.report import StepReport, Update
from antiphon.engine.step.returns import Returns
from antiphon.engine.step.stepper import Reference
from antiphon.nets.optimisers import step_all

__all__ = ["Cohorts"]


class Cohorts(Reference):
    """Runs a system by cohorts, step by step.

    Args:
        base: The system, one agent at a time. Its parameters stay what the run's are; all else of it is brought up to
            date by `shown`.
    """

    name = "cohort"

    def __init__(self, base: System) -> None:
        keep_memory()
        self.lifted = lift(base)
        super().__init__(self.lifted.system)
        self.forward_pass = CohortForwardPass(self.system)
        self.predictor_trainer = self._teacher = CohortPredictorTrainer(self.system)
        self.returns = Returns(self.system, self.forward_pass, self._replayed)
        self._stale = self._watch = False
        self._before: dict[str, dict[str, Tensor]] = {}
        """Running statistics at the step's beginning, by cohort."""
        self.guard: Guard | None = None
        if base.device.type == "cuda":
            self.look_later()
        self._unsound: dict[tuple[int, str], Tensor] = {}
        """[N] bool, by update (its identity) and cohort: who has diverged in it."""

    # --- between the agents as everybody sees them and as they are run ------------------------------------

    def shown(self) -> System:
        """Return the system one agent at a time, brought up to date."""
        if self._stale:
            Lowering(self.lifted).run()
            self._stale = False
        return self.lifted.base

    def seen(self, learned: StepReport) -> tuple[System, StepReport]:
        return (self.system, learned.together) if isinstance(learned, Told) else super().seen(learned)

    @property
    def channels(self) -> Iterable[str]:
        return self.lifted.base.channels

    def taken_over(self) -> None:
        """Take over what the system has become one agent at a time, open windows included."""
        Raising(self.lifted).run()
        for unit in self.system.units:
            self.forward_pass.replay(unit.tape)
        self._stale = False

    # --- a step -------------------------------------------------------------------------------------------

    def tick(self, step: int, step_signals: StepSignals) -> None:
        self._stale = True
        self._before = {cohort.name: dict(cohort.learner.buffers) for cohort in self.lifted.cohorts}
        super().tick(step, step_signals)

    def learn(self, step: int, *, watch: bool = False) -> StepReport:
        self._watch = watch
        told = Told(super().learn(step, watch=watch), self.lifted, self._teacher)
        if self.guard is not None:
            for cohort in self.lifted.cohorts:
                held = cohort.learner.buffers
                cohort.learner.buffers = {
                    name: self.guard.frozen(self._before[cohort.name][name], after)
                    for name, after in held.items()
                }
        return told

    # --- what is not finite, where the host does not wait to know -----------------------------------------

    def look_later(self) -> None:
        """Let the device skip what is not finite, and the host hear of it at `settle`: it waits for no number till then.

        Where members that diverge are put in quarantine, or a bound is asked for, somebody has to look at once.
        """
        asked = self.system.divergence.quarantine or self.system.divergence.bound is not None
        if not asked and all(len(cohort.stack.spans) == 1 for cohort in self.lifted.cohorts):
            self.guard = self._teacher.guard = Guard(self.system.device)

    def settle(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names who, and the step; from there on nothing has moved.
        """
        found = None if self.guard is None else self.guard.read()
        if found is None:
            return
        step, who = found
        for name, members in who.items():
            part = self.system.agents.get(name)
            if isinstance(part, Cohort):
                unit = self.lifted.base.group_of[part.members[members[0]].name]
                self._report(unit, "is not finite", step)
            self._teacher.said_broken(name, members[0], step)

    def _check_later(
        self, updates: list[Update], results: list[tuple[Gradients, Gradients]], step: int
    ) -> None:
        assert self.guard is not None
        for update, (own, deltas) in zip(updates, results, strict=True):
            rest, back = iter(own), iter(deltas)
            for name in update.learning:
                agent = self.system.agents[name]
                found = [next(rest) for _ in agent.learner.trainable]
                if isinstance(agent, Cohort):
                    self.guard.look(name, len(agent.members), found, step)
            for name, _ in consumed(update):
                channel = self.system.channels[name]
                if channel.ledger.returns:
                    count = len(channel.members) if isinstance(channel, Bundle) else 1
                    self.guard.look(name, count, [next(back)], step)

    def _updates(self, closing: list[tuple[LearningGroup, Tape]], step: int) -> list[Update]:
        spanned = [self._in_spans(unit) for unit, _ in closing]
        whole = [one for one, cohort in zip(closing, spanned, strict=True) if cohort is None]
        found = super()._updates(whole, step) if whole else []
        for update in found:
            update.movers = {cohort.name: self._movers(update, cohort) for cohort in self._cohorts(update)}
        asked = [
            self._asked(unit, tape, cohort, step)
            for (unit, tape), cohort in zip(closing, spanned, strict=True)
            if cohort is not None
        ]
        every = [t for _, pulls in asked if pulls is not None for t in pulls.every()]
        sound = self.system.divergence.fine(every)  # of all, before anything moves
        return [*found, *(self._by_span(update, pulls, step, sound=sound) for update, pulls in asked)]

    def _in_spans(self, unit: LearningGroup) -> Cohort | None:
        """The cohort that is all there is in a unit, if it is computed a span at a time."""
        agent = self.system.agents[unit.members[0]]
        many = isinstance(agent, Cohort) and len(agent.stack.spans) > 1
        return agent if many and isinstance(agent, Cohort) else None

    def _asked(
        self, unit: LearningGroup, tape: Tape, cohort: Cohort, step: int
    ) -> tuple[Update, Pulls | None]:
        """What a window asks of the spans of a cohort; None: nobody learns from it."""
        update = Update(
            unit, tape, window_loss=self.evaluator.window(tape), learning=self._learning(unit, tape)
        )
        return update, None if cohort.participates(tape.window) is False else self._pulls(update, step)

    def _by_span(self, update: Update, pulls: Pulls | None, step: int, *, sound: bool) -> Update:
        """Pull a window's learning signal back and let parameters follow, a span of members at a time.

        Where something is not sound, gradients are kept, nobody moves, and it is found out who has diverged.
        """
        cohort = self.system.agents[update.unit.members[0]]
        assert isinstance(cohort, Cohort)
        uses = [(self.system.channels[name], use) for name, use in consumed(update)]
        if pulls is None:
            self._book(update, uses, [None] * len(uses))
            return update
        learner, members = cohort.stack, self._movers(update, cohort)
        update.movers[cohort.name] = members
        kept: dict[int, list[Tensor | None]] = {}
        back: list[list[Tensor | None]] = []
        for place, span in enumerate(learner.spans):
            own, inputs = pulls.of(span, place, self.system.batch)
            back.append(inputs)
            sound = sound and self.system.divergence.fine([g for g in own if g is not None])
            if sound:
                update.moved = span.last
                if any(g is not None for g in own):
                    learner.step_span(span, full(span.trainable, own), step, members)
            if self._watch or not sound:
                kept[place] = own
        deltas = self._returned(pulls, back, [use.leaf for channel, use in uses if channel.ledger.returns])
        if kept:
            update.gradients[cohort.name] = together(learner.spans, kept)
        if not (sound and self.system.divergence.fine([d for d in deltas if d is not None])):
            self._silence(update, update.gradients.get(cohort.name, []), deltas, step)
        self._book(update, uses, deltas)
        update.window_loss.total = None  # and its graph with it
        update.window_loss.by_agent.clear()
        return update

    def _pulls(self, update: Update, step: int) -> Pulls:
        """What the spans of an update are told, by tick and port."""
        ticks = {tick.step: i for i, tick in enumerate(update.tape.ticks)}
        told = objectives(update.tape, update.window_loss.total)
        returned = [dict(put) for put in told]
        apart = False
        for channel, record, injection in self._credits(update.tape, update, step):
            credit = channel.to_sender(injection.gradient) / self.system.batch
            for factor, put in ((injection.scale, told), (injection.discount, returned)):
                if factor:
                    add(put[ticks[record.stamp]], channel.port, credit if factor == 1 else credit * factor)
            apart = apart or injection.scale != injection.discount
        pieces = [tick.parts[0].pieces for tick in update.tape.ticks]
        return Pulls(pieces, told, returned if apart else None)  # type: ignore[arg-type]

    def _returned(
        self, pulls: Pulls, back: list[list[Tensor | None]], leaves: list[Tensor]
    ) -> list[Tensor | None]:
        """The deltas of the messages that a window read, from the gradients of its spans' inputs."""
        ends, weights = [], []
        for i, pieces in enumerate(pulls.pieces):
            found = [inputs[i] for inputs in back]
            if any(g is not None for g in found):
                like = [piece.x for piece in pieces.each]
                filled = [torch.zeros_like(x) if g is None else g for g, x in zip(found, like, strict=True)]
                ends.append(pieces.x)
                weights.append(torch.cat(filled).view_as(pieces.x))
        if not ends or not leaves:
            return [None] * len(leaves)
        deltas = torch.autograd.grad(ends, leaves, weights, allow_unused=True)
        return [None if d is None else d * self.system.batch for d in deltas]

    def _movers(self, update: Update, cohort: Cohort) -> Members:
        """The members of a cohort that take a step from an update; None: all."""
        if isinstance(cohort.agent_disabled, Tensor):
            return self._heard(update, cohort)
        return among(cohort.learning(update.tape.window), reached(self.system, update, cohort))

    def _check(
        self, updates: list[Update], results: list[tuple[Gradients, Gradients]], step: int
    ) -> list[Update]:
        """Return the updates that have diverged whole, and silence the members of the others that have."""
        numbers = [t for own, deltas in results for t in (*own, *deltas) if t is not None]
        together = [i for i, update in enumerate(updates) if self._cohorts(update)]
        plain = [i for i, update in enumerate(updates) if not self._cohorts(update)]
        if self.guard is not None:
            self._check_later([updates[i] for i in together], [results[i] for i in together], step)
            return super()._check([updates[i] for i in plain], [results[i] for i in plain], step)
        if self.system.divergence.fine(numbers):
            return []
        dropped = super()._check([updates[i] for i in plain], [results[i] for i in plain], step)
        for update, (own, deltas) in zip(updates, results, strict=True):
            if self._cohorts(update):
                self._silence(update, own, deltas, step)
        return dropped

    def _cohorts(self, update: Update) -> list[Cohort]:
        agents = [self.system.agents[name] for name in update.unit.members]
        return [agent for agent in agents if isinstance(agent, Cohort)]

    def _silence(self, update: Update, own: Gradients, deltas: Gradients, step: int) -> None:
        """Silence the members of an update that have diverged, each with all that it learns with."""
        base = self.lifted.base
        wrong: dict[int, str] = {}  # by unit of the base
        heard = {cohort.name: self._heard(update, cohort) for cohort in self._cohorts(update)}
        rest = iter(own)
        lengths: dict[int, float] = {}  # of all gradients of a unit together
        for name in update.learning:
            agent = self.system.agents[name]
            members = agent.members if isinstance(agent, Cohort) else (agent,)
            found = [g for _ in agent.learner.trainable if (g := next(rest, None)) is not None]
            flat = [g.reshape(len(members), -1) for g in found]
            finite = torch.stack([g.isfinite().all(1) for g in flat]).all(0).tolist() if flat else []
            norms = torch.stack([g.norm(dim=1) for g in flat]).norm(dim=0).tolist() if flat else []
            for n, (member, sound, norm) in enumerate(zip(members, finite, norms, strict=False)):
                unit = id(base.group_of[member.name])
                if name in heard and not heard[name][n]:
                    continue
                if not sound:
                    wrong[unit] = "is not finite"
                lengths[unit] = math.hypot(lengths.get(unit, 0.0), norm)
        bound = self.system.divergence.bound
        for unit, length in lengths.items():
            if bound is not None and length > bound:
                wrong.setdefault(unit, f"is longer than training.bound {bound:g}")
        uses = consumed(update)
        returning = [i for i, (name, _) in enumerate(uses) if self.system.channels[name].ledger.returns]
        for place, i in enumerate(returning):
            delta, channel = deltas[place], self.system.channels[uses[i][0]]
            if delta is None or bool(delta.isfinite().all()):
                continue
            reading = heard.get(channel.receiver)
            if reading is not None:  # to whom nothing came, nothing is returned by it
                rows = channel.of_receiver(reading.to(delta.device).repeat_interleave(self.system.batch))
                deltas[place] = delta = mask_fill_zero(rows, delta)
            read = channel.members if isinstance(channel, Bundle) else (channel,)
            for k in self.system.divergence.members(len(read), [], [delta]):
                wrong.setdefault(id(base.group_of[read[k].receiver]), "is not finite")
        for learned_with in base.units:
            if id(learned_with) in wrong:
                self._report(learned_with, wrong[id(learned_with)], step)
        for name in update.unit.members:
            agent = self.system.agents[name]
            members = agent.members if isinstance(agent, Cohort) else (agent,)
            bad = torch.tensor([id(base.group_of[member.name]) in wrong for member in members])
            if not bool(bad.any()):
                continue
            if isinstance(agent, Cohort):
                agent.agent_disabled = mask_or(
                    agent.agent_disabled, agent.by_member(bad.to(self.system.device))
                )
            else:
                agent.agent_disabled = True
            self._unsound[id(update), name] = bad
            if name in update.losses:
                update.losses[name] = without(update.losses[name], bad.to(self.system.device))
        for name, use in uses:  # what they would return does not count
            channel = self.system.channels[name]
            agent_disabled = self.system.agents[channel.receiver].agent_disabled
            if isinstance(agent_disabled, Tensor):
                agent_disabled = channel.of_receiver(agent_disabled)
            use.counted = mask_and(use.counted, mask_not(agent_disabled))

    def _heard(self, update: Update, cohort: Cohort) -> torch.Tensor:
        """Return the members, [N] bool, that learn from an update: whom anything reached, and who is not silent."""
        found = among(cohort.learning(update.tape.window), reached(self.system, update, cohort))
        able = self._able(cohort)
        return able if found is None else able & found

    @staticmethod
    def _able(cohort: Cohort) -> Tensor:
        """Return the members, [N] bool, who are not silent."""
        if not isinstance(cohort.agent_disabled, Tensor):
            return torch.ones(len(cohort.members), dtype=torch.bool)
        return torch.logical_not(cohort.agent_disabled.view(len(cohort.members), -1)[:, 0]).cpu()

    def _apply(self, updates: list[Update], step: int) -> None:
        single = []
        for update in updates:
            for name, gradients in update.gradients.items():
                agent = self.system.agents[name]
                if not agent.learner.trainable or all(g is None for g in gradients):
                    continue
                if isinstance(agent, Cohort):
                    self._move(update, agent, gradients, step)
                elif (id(update), name) not in self._unsound and self._reaches(update, name):
                    single.append(agent.learner.planned(gradients, step))
                else:
                    update.movers[name] = torch.zeros(1, dtype=torch.bool)
        self._unsound.clear()
        step_all(single)

    def _reaches(self, update: Update, agent: str) -> bool:
        """Whether anything reached a single agent: beside cohorts its gradients may be zeros where there is none."""
        return not self._cohorts(update) or reached_alone(self.system, update, agent)

    def _move(self, update: Update, cohort: Cohort, gradients: Gradients, step: int) -> None:
        """Let the members of a cohort that an update is for take their step."""
        learner = cohort.stack
        members = update.movers[cohort.name]
        if isinstance(cohort.agent_disabled, Tensor):
            members = among(members, self._able(cohort))
        if update.moved:
            members = among(members, torch.arange(len(cohort.members)) >= update.moved)
        if members is not None and not bool(members.any()):
            return
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(learner.trainable, gradients, strict=True)
        ]
        learner.step(full, step, members, skip=None if self.guard is None else self.guard.tripped)
