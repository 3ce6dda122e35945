"""The engine: one step of a system, whose ordinary case is a stack of agents (semantics 13).

Agents due tick in waves (forward); the environment moves on; groups whose window ends evaluate their objectives
and pull their losses back (backward), all with the parameters of before the step; predictors gather what has come back
(predictors); then, and only then, parameters move. Rules are cited by their numbers in docs/semantics.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.agents.learner import Learner, StackedLearner
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.clock import Call
from antiphon.engine.core.divergence import DivergenceCheck, Guard
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import (
    Action,
    EpisodeEnds,
    LearningGroup,
    Members,
    Record,
    StepSignals,
    Tape,
    members_and,
)
from antiphon.engine.core.system import Stacked
from antiphon.engine.core.updates import PredictorUpdate, StepReport, Update
from antiphon.engine.native.networks import native_networks
from antiphon.engine.step.backward import BackwardPass, ObjectiveEvaluator, reached, reached_alone
from antiphon.engine.step.forward import ForwardPass
from antiphon.engine.step.further_passes import FurtherPasses
from antiphon.engine.step.lambda_returns import LambdaReturns
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.engine.step.sweep import SweepOrder
from antiphon.engine.step.tied_gradients import TiedGradients
from antiphon.nets.memory import keep_memory
from antiphon.nets.native.mlp import KernelGradients

__all__ = ["Engine"]

EndedWindows = list[tuple[LearningGroup, Tape]]
"""Windows that have ended, by their tapes, with whose they are."""


class Engine:
    """Runs a system step by step: `--backend cohort`. An agent or channel here is a stack of N >= 1 with a leading axis.

    Args:
        stacked: The stacks, and the single agents they are made of.
        native: Whether the native kernel computes the stacks that it can.
    """

    def __init__(self, stacked: Stacked, *, native: bool = False) -> None:
        keep_memory()
        self.stacked = stacked
        self.system = stacked.system
        self.forward_pass = ForwardPass(self.system)
        self.predictor_trainer = PredictorTrainer(self.system)
        self.evaluator = ObjectiveEvaluator(self.system)
        self.backward_pass = BackwardPass(self.system, self.evaluator, self.predictor_trainer)
        if native:
            self.forward_pass.native = self.backward_pass.native = native_networks(self.system)
        self.ties = TiedGradients(self.system)
        self.sweep_order = SweepOrder(self.system)
        self._swept: dict[int, Update] = {}
        """By tape (its identity): the windows of this step that have been differentiated at the tick."""
        self._local: dict[int, dict[str, PredictorUpdate]] = {}
        """Likewise: what their messages' own predictors learn."""
        self.further_passes = FurtherPasses(stacked, self.forward_pass, self.evaluator)
        self.returns = LambdaReturns(self.system, self.evaluator, self.forward_pass, self.backward_pass)
        self.divergence = DivergenceCheck(
            self.system.divergence, self.system.agents, self.system.channels, stacked.base.groups
        )
        self.frozen = False
        self.stale = False
        """Whether the single agents and channels are behind the stacks."""
        self._traced = any(channel.traced for channel in self.system.channels.values())
        self._stacks = {
            id(group): [agent for name in group.members if (agent := self.system.agents[name]).stacked]
            for group in self.system.groups
        }
        """By learning group (its identity): its agents with a leading axis of members."""
        if self.system.device.type == "cuda":
            self.check_later()

    @property
    def action(self) -> Action | None:
        """What is done in the environment after the newest step; None: nobody acted."""
        return self.forward_pass.action

    def freeze(self, *, gradients: bool = True) -> None:
        """From now on nothing moves but running statistics: what a probe measures on.

        Args:
            gradients: Whether the gradients that agents would follow are computed all the same.
        """
        self.frozen = self.predictor_trainer.frozen = True
        if not gradients:
            for agent in self.system.agents.values():
                agent.learner.trainable = []

    # --- a step --------------------------------------------------------------------------------------------

    def tick(self, step: int, step_signals: StepSignals, *, keep: bool = True) -> None:
        """Tick all agents due at `step`, in waves.

        Args:
            step: The step.
            step_signals: Its signals.
            keep: Whether messages and injections are kept until the next step, for figures and recordings; else the sweep
                order releases those that nothing else reads. It changes no number.
        """
        self.stale = self.system is not self.stacked.base
        self.divergence.statistics.note()
        self._swept.clear()
        self._local.clear()
        if not self.sweep_order.groups or self.backward_pass.steering is not None:
            self.forward_pass.tick(step, step_signals)
            return
        complete = self.sweep_order.complete(step)

        def ticked(call: Call) -> None:
            if call in complete:
                self._sweep(complete[call], step, keep=keep)

        self.forward_pass.tick(step, step_signals, ticked=ticked)

    def _sweep(self, group: LearningGroup, step: int, *, keep: bool) -> None:
        """Differentiate a window that ends at `step`, and release its graph; its update is applied at the step's end.

        Args:
            group: Whose window it is.
            step: The step.
            keep: As of `tick`.
        """
        tape = group.tape
        closing = [(group, tape)]
        self.backward_pass.predict(closing)
        (update,) = self.backward_pass.differentiate(closing, step)
        local = self.predictor_trainer.local_updates(tape)
        GradientLedger.release_graphs([tape], predictions=False)
        self._swept[id(tape)], self._local[id(tape)] = update, local
        if keep:
            return
        update.injected.clear()
        for learned in local.values():
            learned.examples.clear()
        for name, record in tape.sent:
            if not self.system.channels[name].ledger.wants_deltas:
                record.prediction = None
        for entry in (entry for tick in tape.ticks for part in tick.parts for entry in part.reads):
            channel = self.system.channels[entry.channel]
            if (
                entry.use is None or channel.sampler is not None
            ):  # a sample is sent again where its window is replayed
                continue
            if channel.ledger.spent(entry.use.record):
                channel.ledger.release_message(entry.use)
                entry.value = None

    def cut(self, step: int, ends: EpisodeEnds) -> None:
        """End episodes, before anything learns from the step (semantics 20)."""
        self.stale = self.system is not self.stacked.base
        if ends.ended is not False:
            self.system.cut(step, ends)

    def learn(self, step: int, *, watch: bool = False) -> StepReport:
        """Update every agent and predictor whose time has come.

        Windows that end are taken, their messages' gradients predicted; they are differentiated, receivers first where
        their signals mix, and what returns is booked and closed; predictors are differentiated on what is complete; all is
        checked; then agents, synthetic gradients and synthetic inputs move, and policies take their further passes.

        Args:
            step: The step just taken.
            watch: Whether predictions are kept for telemetry; it changes no number.

        Raises:
            DivergenceError: A number is not finite, or longer than the bound, and the scenario says stop.
        """
        self.stale = self.system is not self.stacked.base
        closing, dropped = self._take_ended_windows(step)
        self.backward_pass.predict(self._not_swept(closing))
        turns = [self._differentiate(turn, step) for turn in self._turns(closing)]
        local = self.predictor_trainer.local_examples([tape for _, tape in self._not_swept(closing)])
        for group, tape in [*closing, *dropped]:
            self._close(group, tape, step)
        returns = self.returns.extend(closing, step) if self._traced else {}
        known = {name: own for some in self._local.values() for name, own in some.items()}
        gradients = self.predictor_trainer.gradients(local, returns, step, watch=watch, known=known)
        self.divergence.check_predictors(gradients, step)
        input_gradients = self.predictor_trainer.input_gradients(step)
        self.divergence.check_predictors(input_gradients, step)
        self.divergence.disable_stopped_replicas()
        if self.ties.agents:
            self.ties.sum_updates([update for updates in turns for update in updates])
        self.divergence.decide()
        if not self.frozen:  # all is computed and finite: now, and only now, parameters move
            for updates in turns:
                self._apply(updates, step)
            self.predictor_trainer.apply(gradients, step, self.divergence.skip)
            self.predictor_trainer.apply(input_gradients, step, self.divergence.skip)
            for updates in turns if self.further_passes.agents else ():
                self._learn_further(updates, step)
        GradientLedger.release_graphs(tape for _, tape in [*closing, *dropped])
        self.divergence.close(step)
        return StepReport([u for updates in turns for u in updates], gradients, input_gradients)

    def _take_ended_windows(self, step: int) -> tuple[EndedWindows, EndedWindows]:
        """Take the windows that end at `step` from their groups: those to learn from, and those given up.

        Each group gets a new tape. Windows that wait for delayed gradients stay with their group, without their graph,
        which is made again when they are learned from.
        """
        closing: EndedWindows = []
        dropped: EndedWindows = []
        for group in self.system.groups:
            window = group.windows.ending(step)
            if window is None:
                continue
            tape = group.tape
            group.tape = Tape()
            if tape.window != window:  # without a tick
                self._close(group, Tape(window), step)
            elif group.late:
                self._sort_pending(group, tape, step, closing, dropped)
            else:
                closing.append((group, tape))
        return closing, dropped

    def _sort_pending(
        self, group: LearningGroup, newest: Tape, step: int, closing: EndedWindows, dropped: EndedWindows
    ) -> None:
        """Sort a late group's tapes into those to learn from, those with nothing to learn, and those that wait (27b)."""
        waiting: list[Tape] = []
        for tape in [*group.pending, newest]:
            if self._waits(tape, newest.window - tape.window, step):
                GradientLedger.release_graphs([tape])
                waiting.append(tape)
            elif self._contributes(group, tape):
                if tape is not newest:
                    self.forward_pass.replay(tape)
                closing.append((group, tape))
            else:
                dropped.append((group, tape))
        group.pending = waiting

    def _waits(self, tape: Tape, age: int, step: int) -> bool:
        """Whether a tape waits for a delayed gradient; a channel's is given up after its `staleness` (semantics 27b).

        Args:
            tape: Of a late group.
            age: Windows of its group that have ended since.
            step: The step just taken.
        """
        channels = self.system.channels
        missing = {name for name, record in tape.sent if not self._has_returned(channels[name], record, step)}
        tape.given_up |= {name for name in missing if age >= channels[name].staleness}
        return any(age <= channels[name].staleness for name in missing | tape.given_up)

    def _contributes(self, group: LearningGroup, tape: Tape) -> bool:
        """Whether anything but given up gradients can reach a window: an objective, or another channel."""
        if not tape.given_up or any(self.system.agents[name].goal is not None for name in group.members):
            return True
        others = {name for name, _ in tape.sent} - tape.given_up
        return any(
            self.system.channels[name].coupling in ("decoupled", "unlocked", "delayed") for name in others
        )

    def _has_returned(self, channel: Channel, record: Record, step: int) -> bool:
        """Whether nothing more is waited for that a message's receiver would return."""
        steering = self.backward_pass.steering
        if steering is not None and steering.applies(channel, record):
            return True
        if channel.coupling != "delayed" or record.unread:
            return True
        if self.system.group_of[channel.sender] is self.system.group_of.get(channel.receiver):
            return True
        if record.finished is None or record.finished >= step:
            return False
        return not record.complete or record.finished + channel.ledger.back <= step

    def _turns(self, closing: EndedWindows) -> list[EndedWindows]:
        """Closed windows in the order in which they are differentiated.

        No two windows of one group, which share its parameters, are differentiated together; and where a channel mixes
        in what comes back at the same step, its receiver comes before its sender.
        """
        turns: list[EndedWindows] = []
        taken: dict[int, int] = {}
        for group, tape in sorted(closing, key=lambda one: self.system.depths.get(id(one[0]), 0)):
            turn = taken[id(group)] = max(taken.get(id(group), -1) + 1, self.system.depths.get(id(group), 0))
            turns.extend([] for _ in range(turn + 1 - len(turns)))
            turns[turn].append((group, tape))
        return [turn for turn in turns if turn]

    def _differentiate(self, closing: EndedWindows, step: int) -> list[Update]:
        """Pull the learning signal of closed windows back to parameters and leaves, and book it in the ledgers.

        Each update gets the members of stacks that it moves; no parameter moves yet.
        """
        present = iter(self.backward_pass.differentiate(self._not_swept(closing), step))
        updates = [self._swept[id(tape)] if id(tape) in self._swept else next(present) for _, tape in closing]
        for update in updates:
            update.stepping_members = self._stepping(update)
        updates = self.divergence.check_updates(updates, step)
        for update in updates:
            self.backward_pass.average_tied(update)
            self.backward_pass.book(update)
        return updates

    def _learn_further(self, closed: list[Update], step: int) -> None:
        """Take the further passes of `ppo` over windows that have been learned from."""
        for found in self.further_passes.updates(closed, step):
            for update in found:
                update.stepping_members = self._stepping(update)
            updates = self.divergence.check_updates(found, step)
            for update in updates:
                self.backward_pass.average_tied(update)
            self.divergence.disable_stopped_replicas()
            self.divergence.decide()
            self._apply(updates, step)

    def _stepping(self, update: Update) -> dict[str, Members]:
        """The members of stacks that an update moves."""
        return {
            agent.name: members_and(
                members_and(agent.learning(update.tape.window), reached(self.system, update, agent)),
                agent.enabled(),
            )
            for agent in self._stacks[id(update.group)]
        }

    def _not_swept(self, closing: EndedWindows) -> EndedWindows:
        return [one for one in closing if id(one[1]) not in self._swept]

    def _close(self, group: LearningGroup, tape: Tape, step: int) -> None:
        GradientLedger.release(tape.sent)
        for name in group.members:
            for channel in self.system.agents[name].channels:
                channel.ledger.close(tape.window, step)

    # --- the update ----------------------------------------------------------------------------------------

    def _apply(self, updates: list[Update], step: int) -> None:
        for update in updates:
            for name, gradients in update.gradients.items():
                agent = self.system.agents[name]
                made_later = isinstance(gradients, KernelGradients)
                if not agent.learner.trainable or (not made_later and all(g is None for g in gradients)):
                    continue
                if isinstance(agent.learner, StackedLearner):
                    self._step(update, agent, agent.learner, gradients, step)
                elif agent.agent_disabled is not True and (
                    name in update.reached_by_tie
                    or not self._stacks[id(update.group)]
                    or reached_alone(self.system, update, name)
                ):  # beside stacks a lone agent may be given zeros in place of none
                    assert isinstance(agent.learner, Learner)
                    agent.learner.step(gradients, step, skip=self.divergence.skip)
                else:
                    update.stepping_members[name] = torch.zeros(1, dtype=torch.bool)

    def _step(
        self,
        update: Update,
        agent: Agent,
        learner: StackedLearner,
        gradients: Sequence[Tensor | None],
        step: int,
    ) -> None:
        """Take the optimiser step of the members of a stack that an update reaches."""
        members = members_and(update.stepping_members[agent.name], agent.enabled())
        if members is not None and not bool(members.any()):
            return
        full: Sequence[Tensor] = (
            gradients
            if isinstance(gradients, KernelGradients)
            else [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(learner.trainable, gradients, strict=True)
            ]
        )
        learner.step(full, step, members, skip=self.divergence.skip)

    # --- divergence (semantics 32) -------------------------------------------------------------------------

    def check_later(self) -> None:
        """Let the device skip what is not finite and clip what is far too long, and read what it found at `synchronize` only.

        Where members that diverge are quarantined, a bound is asked for, or a replica stops while others go on, every
        step is checked at once.
        """
        policy = self.system.divergence
        if not policy.quarantine and policy.bound is None and self.system.replicas == 1:
            self.divergence.guard = Guard(self.system.device)
            self.predictor_trainer.notes_later = True
            for channel in self.system.channels.values():
                if channel.outliers is not None:
                    channel.outliers.keep_on_device()

    def synchronize(self) -> None:
        """Wait for the device: see `DivergenceCheck.synchronize`."""
        self.predictor_trainer.note_clips()
        self.divergence.synchronize()

    def restore_statistics(self) -> None:
        """Put all running statistics back to what they were before the step."""
        self.divergence.statistics.restore()
