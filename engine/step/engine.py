"""The engine: one step of a system, whose ordinary case is a stack of agents (semantics 13).

Agents due tick in waves (forward); the environment moves on; groups whose window ends evaluate their objectives (losses)
and pull them back (backward), all with the parameters of before the step; predictors gather what has come back
(predictors); then, and only then, parameters move. Rules are cited by their numbers in docs/semantics.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from antiphon.agents.learner import Learner, StackedLearner
from antiphon.comms.credit import Gradients, backward_all
from antiphon.comms.model import Model
from antiphon.comms.stacked import StackedModels
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.divergence import Guard, Report
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import EpisodeEnds, Record, StepSignals, Tape
from antiphon.engine.core.rows import Members, mask_fill_zero, mask_not
from antiphon.engine.core.system import LearningGroup, Stacked, System
from antiphon.engine.step.backward import BackwardPass, ObjectiveEvaluator, Uses
from antiphon.engine.step.forward import ForwardPass
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.engine.step.report import (
    AgentReport,
    StepReport,
    Update,
    among,
    reached,
    reached_alone,
    without,
)
from antiphon.engine.step.returns import LambdaReturns
from antiphon.nets.memory import keep_memory
from antiphon.nets.optimisers import step_all

__all__ = ["Engine", "with_statistics"]

Windows = list[tuple[LearningGroup, Tape]]
"""Windows that have ended, with whose they are."""
StatisticsOwner = Learner | StackedLearner | Model | StackedModels


def with_statistics(system: System) -> list[StatisticsOwner]:
    """Learners and predictors with running statistics; these are values, which a step replaces."""
    learners = [agent.learner for agent in system.owners().values()]
    models = [model for channel in system.channels.values() for model in channel.models]
    return [owner for owner in (*learners, *models) if owner.buffers]


class Engine:
    """Runs a system step by step.

    Args:
        stacked: The stacks, and the single agents they are made of.
    """

    def __init__(self, stacked: Stacked) -> None:
        keep_memory()
        self.stacked = stacked
        self.system = stacked.system
        self.forward_pass = ForwardPass(self.system)
        self.predictor_trainer = PredictorTrainer(self.system)
        self.evaluator = ObjectiveEvaluator(self.system)
        self.backward_pass = BackwardPass(self.system, self.evaluator, self.predictor_trainer)
        self.returns = LambdaReturns(self.system, self.evaluator, self.forward_pass, self.backward_pass)
        self._traced = any(channel.traced for channel in self.system.channels.values())
        self._stacks = {
            id(group): [agent for name in group.members if (agent := self.system.agents[name]).stacked]
            for group in self.system.groups
        }
        """By learning group (its identity): its agents with a leading axis of members."""
        self.frozen = False
        self._stale = False
        """Whether the single agents and channels are behind the stacks."""
        self.guard: Guard | None = None
        self._with_statistics = with_statistics(self.system)
        self._statistics: dict[int, dict[str, Tensor]] = {}
        """Running statistics at the step's beginning, by the identity of what has them."""
        self._stopped: set[int] = set()
        """Replicas that have been disabled."""
        if self.system.device.type == "cuda":
            self.check_later()

    @property
    def action(self) -> Tensor | None:
        """[B, outputs]: the acting agent's output at the newest step; None: none acted."""
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

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Tick all agents due at `step`, in waves."""
        self._stale = self.system is not self.stacked.base
        self._statistics = {id(owner): dict(owner.buffers) for owner in self._with_statistics}
        self.forward_pass.tick(step, step_signals)

    def cut(self, step: int, ends: EpisodeEnds) -> None:
        """End episodes, before anything learns from the step (semantics 20)."""
        self._stale = self.system is not self.stacked.base
        if ends.ended is not False:
            self.system.cut(step, ends)

    def learn(self, step: int, *, watch: bool = False) -> AgentReport:
        """Update every agent and predictor whose time has come.

        Args:
            step: The step just taken.
            watch: Whether predictions are kept for telemetry; it changes no number.

        Raises:
            DivergenceError: A number is not finite, or longer than the bound, and the scenario says stop.
        """
        self._stale = self.system is not self.stacked.base
        closing, dropped = self._closing(step)
        self.backward_pass.predict(closing)
        turns = [self._differentiate(turn, step) for turn in self._turns(closing)]
        local = self.predictor_trainer.local_examples([tape for _, tape in closing])
        for group, tape in [*closing, *dropped]:
            self._close(group, tape, step)
        returns = self.returns.extend(closing, step) if self._traced else {}
        gradients = self.predictor_trainer.gradients(local, returns, step, watch=watch)
        input_gradients = self.predictor_trainer.input_gradients(step)
        self._disable_stopped_replicas()
        if not self.frozen:  # all is computed and finite: now, and only now, parameters move
            for updates in turns:
                self._apply(updates, step)
            self.predictor_trainer.apply(gradients, step)
            self.predictor_trainer.apply(input_gradients, step)
        GradientLedger.release_graphs(tape for _, tape in [*closing, *dropped])
        if self.guard is not None:
            for owner in self._with_statistics:
                if isinstance(owner, StackedLearner):
                    before = self._statistics[id(owner)]
                    owner.buffers = {
                        name: self.guard.frozen(before[name], after) for name, after in owner.buffers.items()
                    }
        report = StepReport([u for updates in turns for u in updates], gradients, input_gradients)
        return AgentReport(report, self.stacked)

    def _closing(self, step: int) -> tuple[Windows, Windows]:
        """The windows learned from at `step`, and those given up."""
        closing: Windows = []
        dropped: Windows = []
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
        self, group: LearningGroup, newest: Tape, step: int, closing: Windows, dropped: Windows
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
        missing = {name for name, record in tape.sent if not self._returned(channels[name], record, step)}
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

    def _returned(self, channel: Channel, record: Record, step: int) -> bool:
        """Whether nothing more is waited for that a message's receiver would return."""
        steering = self.backward_pass.steering
        if steering is not None and steering.applies(channel, record):
            return True
        if channel.coupling != "delayed" or record.unread:
            return True
        if self.system.group_of[channel.sender] is self.system.group_of[channel.receiver]:
            return True
        if record.finished is None or record.finished >= step:
            return False
        return not record.complete or record.finished + channel.ledger.back <= step

    def _turns(self, closing: Windows) -> list[Windows]:
        """Closed windows in the order in which they are differentiated.

        No two windows of one group, which share its parameters, are differentiated together; and where a channel mixes
        in what comes back at the same step, its receiver comes before its sender.
        """
        turns: list[Windows] = []
        taken: dict[int, int] = {}
        for group, tape in sorted(closing, key=lambda one: self.system.depths.get(id(one[0]), 0)):
            turn = taken[id(group)] = max(taken.get(id(group), -1) + 1, self.system.depths.get(id(group), 0))
            turns.extend([] for _ in range(turn + 1 - len(turns)))
            turns[turn].append((group, tape))
        return [turn for turn in turns if turn]

    def _differentiate(self, closing: Windows, step: int) -> list[Update]:
        """Pull the learning signal of closed windows back to parameters and leaves; only the ledgers change."""
        requested = [self.backward_pass.request(group, tape, step) for group, tape in closing]
        results = backward_all([request for _, request, _ in requested], self.system.batch)
        diverged = self._disable_diverged([(update, uses) for update, _, uses in requested], results, step)
        updates = []
        for (update, _, uses), (own, deltas) in zip(requested, results, strict=True):
            if update in diverged:
                continue
            self.backward_pass.divide(update, own)
            self.backward_pass.book(update, uses, deltas)
            update.stepping_members = {
                agent.name: self._reached(update, agent) for agent in self._stacks[id(update.group)]
            }
            updates.append(update)
        return updates

    def _close(self, group: LearningGroup, tape: Tape, step: int) -> None:
        GradientLedger.release(tape.sent)
        for name in group.members:
            for channel in self.system.agents[name].channels:
                channel.ledger.close(tape.window, step)

    # --- the update ----------------------------------------------------------------------------------------

    def _apply(self, updates: list[Update], step: int) -> None:
        lone = []
        for update in updates:
            for name, gradients in update.gradients.items():
                agent = self.system.agents[name]
                if not agent.learner.trainable or all(g is None for g in gradients):
                    continue
                if isinstance(agent.learner, StackedLearner):
                    self._step(update, agent, agent.learner, gradients, step)
                elif agent.agent_disabled is not True and (
                    not self._stacks[id(update.group)] or reached_alone(self.system, update, name)
                ):  # beside stacks a lone agent may be given zeros in place of none
                    assert isinstance(agent.learner, Learner)
                    lone.append(agent.learner.planned(gradients, step))
                else:
                    update.stepping_members[name] = torch.zeros(1, dtype=torch.bool)
        step_all(lone)

    def _step(
        self, update: Update, agent: Agent, learner: StackedLearner, gradients: Gradients, step: int
    ) -> None:
        """Take the optimiser step of the members of a stack that an update reaches."""
        members = among(update.stepping_members[agent.name], agent.enabled())
        if members is not None and not bool(members.any()):
            return
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(learner.trainable, gradients, strict=True)
        ]
        skip = None if self.guard is None else self.guard.tripped
        learner.step(full, step, members, skip=skip)

    def _reached(self, update: Update, agent: Agent) -> Members:
        """The enabled members of a stack that a window's learning signal reaches."""
        found = among(agent.learning(update.tape.window), reached(self.system, update, agent))
        return among(found, agent.enabled())

    # --- divergence (semantics 32) -------------------------------------------------------------------------

    def _disable_stopped_replicas(self) -> None:
        """Disable every member of the replicas that have diverged: nothing of them moves at this step either."""
        for replica in self.system.divergence.stopped.keys() - self._stopped:
            self._stopped.add(replica)
            for agent in self.system.agents.values():
                members = (agent.replicas.index == replica).cpu()
                agent.disable(members)
                self._restore_members(agent.learner, members)
            for channel in self.system.channels.values():
                members = (channel.replicas.index == replica).cpu()
                for model in channel.models:
                    self._restore_members(model, members)
                places = members.nonzero().flatten().tolist()
                channel.disable_predictors(places)
                channel.disable_input_models(places)

    def _restore_members(self, owner: object, members: Tensor) -> None:
        """Put the running statistics of members of a stack, [N] bool, back to what they were before the step."""
        if isinstance(owner, StackedLearner | StackedModels) and id(owner) in self._statistics:
            owner.restore_buffers(members, self._statistics[id(owner)])

    def restore_statistics(self) -> None:
        """Put all running statistics back to what they were before the step."""
        for owner in self._with_statistics:
            owner.buffers = self._statistics[id(owner)]

    def check_later(self) -> None:
        """Let the device skip what is not finite, and read on the host what it found at `synchronize` only.

        Where members that diverge are quarantined, a bound is asked for, or a replica stops while others go on, every
        step is checked at once.
        """
        divergence = self.system.divergence
        if not divergence.quarantine and divergence.bound is None and self.system.replicas == 1:
            self.guard = self.predictor_trainer.guard = Guard(self.system.device)

    def synchronize(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names the agent or channel, and the step; from there on nothing has moved.
        """
        found = None if self.guard is None else self.guard.read()
        if found is None:
            return
        step, diverged = found
        for name, members in diverged.items():
            if name in self.system.agents:
                member = self.system.agents[name].members[members[0]]
                self._report(self.stacked.base.group_of[member.name], "is not finite", step)
            self.predictor_trainer.report_diverged(name, members[0], step)

    def _disable_diverged(
        self, requested: list[tuple[Update, Uses]], results: list[tuple[Gradients, Gradients]], step: int
    ) -> list[Update]:
        """Disable what has diverged, or raise; return the updates of which nothing is left."""
        if self.guard is not None:
            stacks = [bool(self._stacks[id(update.group)]) for update, _ in requested]
            for (update, uses), result, some in zip(requested, results, stacks, strict=True):
                if some:
                    self._guard_update(self.guard, update, uses, result, step)
            requested = [one for one, some in zip(requested, stacks, strict=True) if not some]
            results = [one for one, some in zip(results, stacks, strict=True) if not some]
        numbers = [t for own, deltas in results for t in (*own, *deltas) if t is not None]
        if self.system.divergence.fine(numbers):
            return []
        dropped = []
        for (update, uses), (own, deltas) in zip(requested, results, strict=True):
            if self._stacks[id(update.group)]:
                self._disable_members(update, uses, own, deltas, step)
                continue
            moving, back = ([t for t in found if t is not None] for found in (own, deltas))
            for what in self.system.divergence.members(1, moving, back).values():
                self._report(update.group, what, step)
                for name in update.group.members:
                    self.system.agents[name].agent_disabled = True
                dropped.append(update)
        return dropped

    def _guard_update(
        self, guard: Guard, update: Update, uses: Uses, result: tuple[Gradients, Gradients], step: int
    ) -> None:
        rest, back = iter(result[0]), iter(result[1])
        for name in update.learners:
            agent = self.system.agents[name]
            found = [next(rest) for _ in agent.learner.trainable]
            guard.look(name, len(agent.members), found, step)
        for channel, _ in uses:
            if channel.ledger.wants_deltas:
                guard.look(channel.name, len(channel.members), [next(back)], step)

    def _disable_members(
        self, update: Update, uses: Uses, own: Gradients, deltas: list[Tensor | None], step: int
    ) -> None:
        """Disable the members of an update that have diverged, each with all that it learns with."""
        base = self.stacked.base
        wrong = self._groups_diverged(update, uses, own, deltas)
        for group in base.groups:
            if id(group) in wrong:
                self._report(group, wrong[id(group)], step)
        for name in update.group.members:
            agent = self.system.agents[name]
            bad = torch.tensor([id(base.group_of[member.name]) in wrong for member in agent.members])
            if not bool(bad.any()):
                continue
            agent.disable(bad)
            if name in update.losses:
                update.losses[name] = without(update.losses[name], bad.to(self.system.device))
        for channel, use in uses:  # what they would return does not count
            disabled = self.system.agents[channel.receiver].agent_disabled
            if isinstance(disabled, Tensor):
                disabled = channel.of_receiver(disabled)
            channel.ledger.restrict(use, mask_not(disabled))

    def _groups_diverged(
        self, update: Update, uses: Uses, own: Gradients, deltas: list[Tensor | None]
    ) -> dict[int, str]:
        """By group of single agents (its id): what is wrong with its gradients. Rows of deltas of nobody are zeroed."""
        base, divergence = self.stacked.base, self.system.divergence
        wrong: dict[int, str] = {}
        reached = {agent.name: self._reached(update, agent) for agent in self._stacks[id(update.group)]}
        rest = iter(own)
        lengths: dict[int, float] = {}  # of all gradients of a group together
        for name in update.learners:
            agent, members = self.system.agents[name], reached.get(name)
            count = len(agent.members)
            found = [g for _ in agent.learner.trainable if (g := next(rest, None)) is not None]
            flat = [g.reshape(count, -1) for g in found]
            finite = torch.stack([g.isfinite().all(1) for g in flat]).all(0).tolist() if flat else []
            norms = torch.stack([g.norm(dim=1) for g in flat]).norm(dim=0).tolist() if flat else []
            for n, (sound, norm) in enumerate(zip(finite, norms, strict=True)):
                group = id(base.group_of[agent.members[n].name])
                if members is not None and not bool(members[n]):
                    continue
                if not sound:
                    wrong[group] = "is not finite"
                lengths[group] = math.hypot(lengths.get(group, 0.0), norm)
        for group, length in lengths.items():
            if divergence.bound is not None and length > divergence.bound:
                wrong.setdefault(group, f"is longer than training.bound {divergence.bound:g}")
        returning = [channel for channel, _ in uses if channel.ledger.wants_deltas]
        for place, channel in enumerate(returning):
            delta = deltas[place]
            if delta is None or bool(delta.isfinite().all()):
                continue
            members = reached.get(channel.receiver)
            if members is not None:  # a member that nothing reached returns nothing
                rows = channel.of_receiver(members.to(delta.device).repeat_interleave(self.system.batch))
                deltas[place] = delta = mask_fill_zero(rows, delta)
            for k in divergence.members(len(channel.members), [], [delta]):
                wrong.setdefault(id(base.group_of[channel.members[k].receiver]), "is not finite")
        return wrong

    def _report(self, group: LearningGroup, what: str, step: int) -> None:
        text = (
            f"agent {{agents}}: the gradient at step {step} {what}; "
            "lower its learning rate, or the scale of the synthetic gradients it receives"
        )
        self.system.divergence.report(Report(step, text, group.members))
