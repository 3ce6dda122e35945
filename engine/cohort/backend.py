"""The cohort backend: what the reference computes, many agents at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.comms.credit import Gradients
from antiphon.engine.cohort.lift import lift
from antiphon.engine.cohort.lowering import Lowering
from antiphon.engine.cohort.parts import Bundle, Cohort, StackedLearner
from antiphon.engine.cohort.raising import Raising
from antiphon.engine.cohort.reached import among, consumed, reached
from antiphon.engine.cohort.teaching import CohortTeacher
from antiphon.engine.cohort.ticking import CohortTicker
from antiphon.engine.cohort.told import Told, without
from antiphon.engine.learned import Learned, Update
from antiphon.engine.memory import keep_memory
from antiphon.engine.moment import Moment, besides, both, either, lanes_where
from antiphon.engine.reference import Reference
from antiphon.engine.returns import Returns
from antiphon.engine.system import System
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
        self.ticker = CohortTicker(self.system)
        self.teacher = self._teacher = CohortTeacher(self.system)
        self.returns = Returns(self.system, self.ticker, self._replayed)
        self._stale = False
        self._unsound: dict[tuple[int, str], Tensor] = {}
        """[N] bool, by update (its identity) and cohort: who has diverged in it."""

    # --- between the agents as everybody sees them and as they are run ------------------------------------

    def shown(self) -> System:
        """Return the system one agent at a time, brought up to date."""
        if self._stale:
            Lowering(self.lifted).run()
            self._stale = False
        return self.lifted.base

    def taken_over(self) -> None:
        """Take over what the system has become one agent at a time, open windows included."""
        Raising(self.lifted).run()
        for unit in self.system.units:
            self.ticker.replay(unit.tape)
        self._stale = False

    # --- a step -------------------------------------------------------------------------------------------

    def tick(self, step: int, moment: Moment) -> None:
        self._stale = True
        super().tick(step, moment)

    def learn(self, step: int, *, watch: bool = False) -> Learned:
        return Told(super().learn(step, watch=watch), self.lifted, self._teacher)

    def _check(
        self, updates: list[Update], results: list[tuple[Gradients, Gradients]], step: int
    ) -> list[Update]:
        """Return the updates that have diverged whole, and silence the members of the others that have."""
        numbers = [t for own, deltas in results for t in (*own, *deltas) if t is not None]
        if self.system.divergence.fine(numbers):
            return []
        plain = [i for i, update in enumerate(updates) if not self._cohorts(update)]
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
        for name in self._learning(update.unit, update.tape):
            agent = self.system.agents[name]
            members = agent.members if isinstance(agent, Cohort) else (agent,)
            found = [g for _ in agent.learner.trainable if (g := next(rest)) is not None]
            stacked = found if isinstance(agent, Cohort) else [g.unsqueeze(0) for g in found]
            for n, what in self.system.divergence.members(len(members), stacked, []).items() if found else ():
                if name not in heard or heard[name][n]:
                    wrong.setdefault(id(base.unit_of[members[n].name]), what)
        uses = consumed(update)
        returning = [i for i, (name, _) in enumerate(uses) if self.system.channels[name].ledger.returns]
        for place, i in enumerate(returning):
            delta, channel = deltas[place], self.system.channels[uses[i][0]]
            if delta is None or bool(delta.isfinite().all()):
                continue
            reading = heard.get(channel.receiver)
            if reading is not None:  # to whom nothing came, nothing is returned by it
                rows = channel.of_receiver(reading.to(delta.device).repeat_interleave(self.system.batch))
                deltas[place] = delta = lanes_where(rows, delta)
            read = channel.members if isinstance(channel, Bundle) else (channel,)
            for k in self.system.divergence.members(len(read), [], [delta]):
                wrong.setdefault(id(base.unit_of[read[k].receiver]), "is not finite")
        for unit in base.units:
            if id(unit) in wrong:
                self._report(unit, wrong[id(unit)], step)
        for name in update.unit.members:
            agent = self.system.agents[name]
            members = agent.members if isinstance(agent, Cohort) else (agent,)
            bad = torch.tensor([id(base.unit_of[member.name]) in wrong for member in members])
            if not bool(bad.any()):
                continue
            if isinstance(agent, Cohort):
                agent.silenced = either(agent.silenced, agent.by_member(bad.to(self.system.device)))
            else:
                agent.silenced = True
            self._unsound[id(update), name] = bad
            if name in update.losses:
                update.losses[name] = without(update.losses[name], bad.to(self.system.device))
        for name, use in uses:  # what they would return does not count
            channel = self.system.channels[name]
            silenced = self.system.agents[channel.receiver].silenced
            if isinstance(silenced, Tensor):
                silenced = channel.of_receiver(silenced)
            use.counted = both(use.counted, besides(silenced))

    def _heard(self, update: Update, cohort: Cohort) -> torch.Tensor:
        """Return the members, [N] bool, that learn from an update: whom anything reached, and who is not silent."""
        found = among(cohort.learning(update.tape.window), reached(self.system, update, cohort))
        able = torch.ones(len(cohort.members), dtype=torch.bool)
        if isinstance(cohort.silenced, torch.Tensor):
            able = torch.logical_not(cohort.silenced.view(len(cohort.members), -1)[:, 0]).cpu()
        return able if found is None else able & found

    def _apply(self, updates: list[Update], step: int) -> None:
        single = []
        for update in updates:
            for name, gradients in update.gradients.items():
                agent = self.system.agents[name]
                if not agent.learner.trainable or all(g is None for g in gradients):
                    continue
                if isinstance(agent, Cohort):
                    self._move(update, agent, gradients, step)
                elif (id(update), name) not in self._unsound:
                    single.append(agent.learner.planned(gradients, step))
        self._unsound.clear()
        step_all(single)

    def _move(self, update: Update, cohort: Cohort, gradients: Gradients, step: int) -> None:
        """Let the members of a cohort that an update is for take their step."""
        learner = cohort.learner
        assert isinstance(learner, StackedLearner)
        members = among(cohort.learning(update.tape.window), reached(self.system, update, cohort))
        if isinstance(cohort.silenced, Tensor):
            members = self._heard(update, cohort)
        if members is not None and not bool(members.any()):
            return
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(learner.trainable, gradients, strict=True)
        ]
        learner.optimiser.step(full, learner.rate(step), members)
        learner.taken += 1 if members is None else members.long()
