"""Losses of closed windows (semantics 1, 21), pulled back to parameters and to the messages that were read.

A window's losses and what is injected into the messages it sent are differentiated together (semantics 2, 3); the
gradients of parameters wait for the update, those of received messages are booked in the ledgers (4).

    prediction   what the synthetic gradient says of a sent message, per sample
    delta        what its receivers return for it, per sample: the prediction's target
    credit       what the sender learns from about a message: its prediction, mixed with what has come back (`trace`), or
                 its delta (`delayed`)
    injection    credit as it is put on the message in the sender's backward pass: shortened (`clip`), masked; `scale` and
                 `discount` weigh it; autograd gets it in `backward_all` (comms/backward_requests.py)

An agent takes an optimiser step only where a gradient reaches it. The members of a stack share one gradient tensor, so
this follows from where signals were injected, where objectives had a target, and what the window passed on (`reached`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from antiphon.agents.network import AUXILIARY_PORT, OBJECTIVE
from antiphon.comms.backward_requests import BackwardRequest, Injection, backward_all, clipped, constant
from antiphon.comms.synthetic_gradients import ReturnedAction
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.masks import EnvMask, mask_and, mask_fill_zero, mask_not
from antiphon.engine.core.records import AgentTick, Consumption, LearningGroup, Members, Record, Tape
from antiphon.engine.core.system import System
from antiphon.engine.core.updates import Losses, PolicyWindow, Returned, Update, WindowLoss
from antiphon.engine.native.networks import NativeNetwork
from antiphon.engine.policies.trajectories import PolicyEvaluator
from antiphon.engine.step.predictors import PredictorTrainer

__all__ = ["BackwardPass", "ObjectiveEvaluator", "Steering", "reached", "reached_alone"]


class TickLoss(NamedTuple):
    """An objective at one tick."""

    losses: Tensor
    """[rows], zero where its target is absent."""
    score: Tensor
    """Likewise."""
    present: Tensor | None
    """Where there is a target; None: everywhere."""
    derivative: tuple[Tensor, Tensor] | None
    """Of losses without a graph: the output, and the derivative of their mean over the batch by it."""


class ObjectiveEvaluator:
    """Applies a system's objectives.

    Args:
        system: Its agents.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.policies = PolicyEvaluator(system)
        self._hold = system.hold

    def window(self, tape: Tape) -> WindowLoss:
        """Sum the losses of a window."""
        window_loss = WindowLoss()
        acted: dict[str, list[tuple[int, AgentTick]]] = {}
        for tick in tape.ticks:
            for part in tick.parts:
                goal = self.system.agents[part.agent].goal
                if goal is not None and goal.policy is not None and part.participates is not False:
                    acted.setdefault(part.agent, []).append((tick.step, part))
                    continue
                found = self._loss(part)
                if found is not None:
                    self._add(window_loss, self.system.agents[part.agent], found)
                    window_loss.evaluated.add((tick.step, part.agent))
        for name, ticks in acted.items():
            policy = self.policies.window(self.system.agents[name], [part for _, part in ticks], tape)
            if policy is not None:
                self._add_policy(window_loss, self.system.agents[name], policy)
                window_loss.evaluated.update((step, name) for step, _ in ticks)
        return window_loss

    def _add_policy(self, window_loss: WindowLoss, agent: Agent, policy: PolicyWindow) -> None:
        """Add the mean over the valid ticks of a policy's window; what is reported is their sum, as of other objectives."""
        assert agent.goal is not None
        rows = policy.first.losses.sum(0) * agent.goal.weight
        loss, samples, batch = rows.sum() / self.system.batch, constant(rows), self.system.batch
        window_loss.total = loss if window_loss.total is None else window_loss.total + loss
        window_loss.by_agent[agent.name] = samples
        valid, returns = policy.advantages.valid, policy.advantages.returns
        count = agent.total(valid.sum(0))
        window_loss.losses[agent.name] = Losses(
            agent.total(samples) / batch * count / batch,
            agent.total(mask_fill_zero(valid, returns).sum(0)),
            count,
        )
        window_loss.policies[agent.name] = policy

    def _add(self, window_loss: WindowLoss, agent: Agent, tick: TickLoss) -> None:
        samples, score, present = constant(tick.losses), tick.score, tick.present
        loss = tick.losses.sum() / self.system.batch
        if tick.derivative is None:
            window_loss.total = loss if window_loss.total is None else window_loss.total + loss
        else:
            window_loss.derivatives.append(tick.derivative)
        known = window_loss.by_agent.get(agent.name)
        window_loss.by_agent[agent.name] = samples if known is None else known + samples
        found = Losses(
            constant(loss).view(1) if len(agent.members) == 1 else agent.total(samples) / self.system.batch,
            agent.total(score),
            self.system.batch if present is None else agent.total(present),
        )
        seen = window_loss.losses.get(agent.name)
        if seen is not None:
            found.loss, found.score = seen.loss + found.loss, seen.score + found.score
            found.count = seen.count + found.count
        window_loss.losses[agent.name] = found

    def _loss(self, part: AgentTick) -> TickLoss | None:
        """An objective at one tick; None if its target is absent everywhere."""
        agent = self.system.agents[part.agent]
        goal = agent.goal
        if goal is None or part.participates is False or goal.policy is not None:
            return None
        if goal.target not in part.step_signals.signals:
            return None
        if goal.last_only and (part.step_signals.step + 1) % self._hold:
            return None
        output, target = part.ports[OBJECTIVE], part.step_signals.signals[goal.target]
        present = part.step_signals.signals.get(f"_{goal.target}")
        known = part.step_signals.uniform.get(f"_{goal.target}")
        if known is False or (known is None and present is not None and not bool(present.any())):
            return None
        present = None if known else present
        if present is not None:  # before the loss too: what is absent may be no number at all
            target = mask_fill_zero(present, target)
        present = None if present is None else agent.to_rows(present)
        if isinstance(part.participates, Tensor):
            present = part.participates if present is None else present & part.participates
        written = None
        if output.is_leaf and output.requires_grad:  # of the native kernel, as is then the objective
            shared, factor = agent.to_rows(target, repeat=False), goal.weight / self.system.batch
            written = goal.objective.with_derivative(output, shared, factor)
        if written is None or not goal.objective.scores_loss:
            target = agent.to_rows(target)
        losses, derivative = written or (goal.objective.loss(output, target), None)
        score = (
            constant(losses) if goal.objective.scores_loss else goal.objective.score(constant(output), target)
        )
        if present is not None:
            losses, score = mask_fill_zero(present, losses), mask_fill_zero(present, score)
            derivative = None if derivative is None else mask_fill_zero(present, derivative)
        return TickLoss(
            losses if goal.weight == 1.0 else losses * goal.weight,
            score,
            present,
            None if derivative is None else (output, derivative),
        )

    def error(self, part: AgentTick) -> Tensor | None:
        """[B, outputs] per sample: the derivative of an objective by the outputs of one tick; None without a target."""
        found = self._loss(part)
        if found is None or not found.losses.requires_grad:
            return None
        return torch.autograd.grad(found.losses.sum(), part.ports[OBJECTIVE], retain_graph=True)[0]


class Steering(Protocol):
    """Replaces the learning signal of some messages: what a probe measures with."""

    def applies(self, channel: Channel, record: Record) -> bool:
        """Whether the signal of a message is replaced."""

    def signal(self, channel: Channel, record: Record) -> Tensor | None:
        """The signal in its place, [rows, size] per sample; None: nothing."""


class BackwardPass:
    """Builds the backward requests of windows and books their results. The flags of a record: `core/records.py`.

    Args:
        system: Agents, channels and groups.
        evaluator: Of the objectives.
        predictor_trainer: Of the synthetic gradients.
    """

    def __init__(
        self, system: System, evaluator: ObjectiveEvaluator, predictor_trainer: PredictorTrainer
    ) -> None:
        self.system, self.agents = system, system.agents
        self.evaluator = evaluator
        self.predictor_trainer = predictor_trainer
        self.steering: Steering | None = None
        self.native: Mapping[str, NativeNetwork] = {}
        """Networks that the native kernel differentiates, by stack."""

    def differentiate(self, closing: list[tuple[LearningGroup, Tape]], step: int) -> list[Update]:
        """The gradients of closed windows by parameters and by the messages that were read; nothing is booked yet."""
        updates, requests = [], []
        for group, tape in closing:
            update = self._update(group, tape)
            update.window_loss = self.evaluator.window(tape)
            update.returned = [Returned(self.system.channels[name], use) for name, use in tape.consumptions()]
            updates.append(update)
            requests.append(self._request(update, step))
        for update, result in zip(updates, backward_all(requests, self.system.batch), strict=True):
            update.gradients = {**result.parameters}
            update.window_loss.total = None  # with it goes what is left of the graph
            update.window_loss.derivatives.clear()
            native = self.native.get(update.group.members[0])
            if native is not None:
                native.differentiate(update, update.group.members[0])
                continue
            wanted = [one for one in update.returned if one.channel.ledger.wants_deltas]
            for one, delta in zip(wanted, result.deltas, strict=True):
                one.delta = delta
        return updates

    def _update(self, group: LearningGroup, tape: Tape) -> Update:
        learning = {name: self.agents[name].participates(tape.window) for name in group.members}
        return Update(group, tape, learning=learning)

    def _request(self, update: Update, step: int) -> BackwardRequest:
        learning = [name for name in update.group.owners if update.learning[name] is not False]
        leaves = [one.use.leaf for one in update.returned if one.channel.ledger.wants_deltas]
        parameters = {name: self.agents[name].learner.trainable for name in learning}
        native = self.native.get(update.group.members[0])
        if native is not None:
            leaves, parameters = [], {name: list(native.ports.values()) for name in learning}
        return BackwardRequest(
            update.window_loss.total,
            self.injections(update, step),
            parameters,
            leaves,
            self._auxiliary_loss(update),
            update.window_loss.derivatives,
        )

    def book(self, update: Update) -> None:
        """Enter the returned gradients, and losses where a critic learns them, for the messages that a window read."""
        with_loss: dict[str, list[Consumption]] = {}
        for one in update.returned:
            one.channel.ledger.book(one.use, one.delta)
            if one.channel.needs_returned_loss:
                with_loss.setdefault(one.channel.name, []).append(one.use)
        if with_loss:
            loss = self._returned_loss(update)
            for name, some in with_loss.items():
                GradientLedger.book_loss(some, self.system.channels[name].of_receiver(loss))
        self._book_actions(update)
        update.returned = []  # as large as the messages, and of no more use

    def _book_actions(self, update: Update) -> None:
        """Enter what policies did at the ticks that read a message, with their advantages, for `local_policy`."""
        for name, window in update.window_loss.policies.items():
            agent, actions = self.agents[name], window.trajectory.actions
            channels = {channel.name: channel for channel in agent.incoming if channel.needs_actions}
            if not channels or actions is None or agent.goal is None:
                continue
            advantages = window.advantages.weighted(len(agent.members)) * agent.goal.weight
            each = zip(window.parts, actions, advantages, window.advantages.valid, strict=True)
            for part, *returned in each:
                for entry in part.reads:
                    channel = channels.get(entry.channel)
                    if channel is not None and entry.use is not None:
                        own = map(channel.of_receiver, returned)
                        GradientLedger.book_action(entry.use, ReturnedAction(*own))

    @staticmethod
    def average_tied(update: Update) -> None:
        """Make the summed gradients of tied agents their mean (semantics 27a)."""
        for name, gradients in update.gradients.items():
            sharing = update.group.owners[name]
            if sharing > 1:
                update.gradients[name] = [None if g is None else g / sharing for g in gradients]

    def predict(self, closing: list[tuple[LearningGroup, Tape]]) -> None:
        """Evaluate the synthetic gradients of all messages of closed windows that are injected into, at once."""
        self.predictor_trainer.predict_missing(
            [
                (channel, record)
                for _, tape in closing
                for name, record in tape.sent
                if record.first_use is not None
                and record.no_injection is not True
                and (channel := self.system.channels[name]).injects
                and self.agents[channel.sender].participates(tape.window) is not False
            ]
        )

    # --- what is injected ----------------------------------------------------------------------------------

    def injections(self, update: Update, step: int) -> list[Injection]:
        """What is injected into the messages that a window sent."""
        return [*self._injected(update, step), *self._direct(update)]

    def _injected(self, update: Update, step: int) -> Iterator[Injection]:
        tape = update.tape
        for name, record in tape.sent:
            channel = self.system.channels[name]
            if record.first_use is None or record.no_injection is True or record.graph_output is None:
                continue
            participates = update.learning[channel.sender]
            given_up = participates is False or name in tape.given_up
            credit = None if given_up else self._credit(channel, record)
            if credit is None:
                continue
            if channel.predictors_disabled is not None:
                credit = channel.enabled_predictions(credit)
            if participates is not True or record.no_injection is not False:
                rows = mask_and(channel.of_sender(participates), mask_not(record.no_injection))
                credit = mask_fill_zero(rows, credit)
            if channel.coupling == "delayed":
                yield Injection(record.graph_output, credit)
            else:
                scale = channel.scale(step)
                before = update.injected.get(name)
                if channel.needs_actions and before is not None:  # a window's last tick teaches nothing
                    update.injected[name] = torch.where(credit.any(1, keepdim=True), credit, before)
                else:
                    update.injected[name] = credit
                if scale:
                    update.injected_messages.add((name, record.stamp))
                yield Injection(record.graph_output, credit, scale, channel.discount)

    def replayed_injections(self, group: LearningGroup, tape: Tape, step: int) -> list[Injection]:
        """What is injected into the messages of a window that has been replayed."""
        self.predict([(group, tape)])
        return self.injections(self._update(group, tape), step)

    def _credit(self, channel: Channel, record: Record) -> Tensor | None:
        """The credit of a message or what steering replaces it by, [rows, size] per sample; None: nothing."""
        if self.steering is not None and self.steering.applies(channel, record):
            return self.steering.signal(channel, record)
        return self.credit(channel, record)

    def credit(self, channel: Channel, record: Record) -> Tensor | None:
        """The credit of a message, [rows, size] per sample before `scale`; None: nothing.

        With `trace` and `propagate`, what its receiver has just returned is mixed in (semantics 11; BP(lambda)).
        """
        if channel.coupling == "delayed":
            return record.delta if record.complete else None
        if channel.needs_actions and channel.injects and record.prediction is None:
            self.predictor_trainer.predict_missing([(channel, record)])  # they have only just come back
            if record.prediction is None:
                return channel.zeros
        if record.prediction is None or not channel.injects:
            return None
        credit = record.prediction[0]
        if channel.mixes:
            delta = channel.zeros if record.delta is None else record.delta
            credit = torch.lerp(credit, delta, channel.trace) if channel.trace else credit
            returned = channel.propagate and record.counted is not False
            example = self.predictor_trainer.example(channel, record) if returned else None
            if example is not None and channel.predictor is not None:
                example.delta = delta
                credit = credit + channel.propagate * channel.predictor.propagated(example)
        return credit if channel.clip is None else clipped(credit, channel.clip)

    def _direct(self, update: Update) -> Iterator[Injection]:
        """Errors of objectives, broadcast to the messages sent before them in the window (semantics 10)."""
        tape = update.tape
        sent = [
            (channel, record)
            for name, record in tape.sent
            if (channel := self.system.channels[name]).direct is not None
            and record.graph_output is not None
            and not record.unread
            and update.learning[channel.sender] is not False
        ]
        if not sent:
            return
        sources = {channel.error_of for channel, _ in sent}
        errors = [
            (tick.step, part.agent, error)
            for tick in tape.ticks
            for part in tick.parts
            if part.agent in sources and (error := self.evaluator.error(part)) is not None
        ]
        for channel, record in sent:
            assert channel.direct is not None
            assert record.graph_output is not None
            for step, agent, error in errors:
                if agent == channel.error_of and step >= record.stamp:
                    yield Injection(record.graph_output, channel.direct.signal(error))

    # --- losses beside the objectives' ---------------------------------------------------------------------

    def _auxiliary_loss(self, update: Update) -> Tensor | None:
        """Loss of the heads that predict, after the first tick, the synthetic gradient of the window's end (semantics 12)."""
        tape = update.tape
        total: Tensor | None = None
        for name in update.group.members:
            memory = self.agents[name].memory
            if memory is None or not memory.auxiliary:
                continue
            first = next((p for tick in tape.ticks for p in tick.parts if p.agent == name), None)
            last = next((record for channel, record in tape.sent if channel == memory.name), None)
            if first is None or first.participates is False or last is None or not memory.injects:
                continue
            if last.no_injection is True:  # nothing follows
                target = memory.zeros
            elif last.prediction is None:
                continue
            else:
                target = mask_fill_zero(mask_not(last.no_injection), last.prediction[0])
            error = memory.enabled_predictions(
                mask_fill_zero(first.participates, first.ports[AUXILIARY_PORT] - target)
            )
            update.auxiliary.add(name)
            loss = memory.auxiliary * error.square().sum() / self.system.batch
            total = loss if total is None else total + loss
        return total

    def _returned_loss(self, update: Update) -> Tensor:
        """[rows]: the window's losses and, beyond, the values of the critics of what it sent (semantics 9)."""
        loss = update.window_loss.samples
        if loss is None:
            loss = self.agents[update.group.members[0]].to_rows(self.system.nothing)
        for name, record in update.tape.sent:
            channel = self.system.channels[name]
            if channel.predictor is None or not channel.needs_returned_loss:
                continue
            if record.unread or record.no_injection is True or channel.predictor_disabled:
                continue
            example = self.predictor_trainer.example(channel, record, answered=False)
            if example is not None:
                value = constant(channel.predictor.value(example))
                value = channel.discount * channel.enabled_predictions(value)
                loss = loss + channel.to_sender(mask_fill_zero(mask_not(record.no_injection), value))
        return loss


# --- which members of a stack an update reaches ----------------------------------------------------------------


def reached_alone(system: System, update: Update, agent: str) -> bool:
    """Whether an update's learning signal reaches a lone agent that learns with stacks."""
    if agent in update.window_loss.losses:
        return True
    reach = _Reach(system, update)
    reach.read()
    return any(bool(members.any()) for (name, _), members in reach.by_tick.items() if name == agent)


def reached(system: System, update: Update, agent: Agent) -> Members:
    """The members of a stack that an update's learning signal reaches."""
    losses = update.window_loss.losses.get(agent.name)
    if losses is not None and not isinstance(losses.count, Tensor):
        return None
    reach = _Reach(system, update)
    for name, stamp in update.injected_messages:
        channel = system.channels[name]
        if channel.sender != agent.name or not channel.every_sender_sends:
            continue
        silent = reach.sent[name, stamp].no_injection
        if channel.predictors_disabled is None and not isinstance(silent, Tensor):
            return None
    reach.read()
    return reach.of(agent)


class _Reach:
    """A window read backwards."""

    def __init__(self, system: System, update: Update) -> None:
        self.system = system
        self.update = update
        self.by_tick: dict[tuple[str, int], Tensor] = {}
        """By agent and step: the members reached, [N] bool."""
        self.sent = {(name, record.stamp): record for name, record in update.tape.sent}

    def read(self) -> None:
        """Follow the signals from the window's end to its start."""
        update = self.update
        for name, stamp in update.injected_messages:
            self._add_senders(name, stamp, None)
        for tick in reversed(update.tape.ticks):
            for part in tick.parts:
                key = part.agent, tick.step
                if (tick.step, part.agent) in update.window_loss.evaluated:
                    known = self.by_tick.get(key, torch.zeros((), dtype=torch.bool))
                    self.by_tick[key] = known | self._with_target(part.agent)
                if key in self.by_tick:
                    self._pass_on(part, self.by_tick[key])

    def of(self, agent: Agent) -> Members:
        """The members of a stack that are reached at some tick."""
        found = torch.zeros(len(agent.members), dtype=torch.bool)
        for (name, _), members in self.by_tick.items():
            if name == agent.name:
                found = found | members
        if agent.name in self.update.auxiliary:
            assert agent.memory is not None
            disabled = agent.memory.predictors_disabled
            found = torch.ones_like(found) if disabled is None else found | torch.logical_not(disabled)
        return None if bool(found.all()) else found

    def _with_target(self, agent: str) -> Tensor:
        """The members that there was a target for."""
        every = torch.ones(len(self.system.agents[agent].members), dtype=torch.bool)
        count = self.update.window_loss.losses[agent].count
        return every & (count > 0).cpu() if isinstance(count, Tensor) else every

    def _pass_on(self, part: AgentTick, members: Tensor) -> None:
        """Add the senders of what was read with its graph."""
        if isinstance(part.participates, Tensor):
            members = members & part.participates.view(len(members), -1)[:, 0].cpu()
        for entry in part.consumed:
            if entry.stamp is not None and part.participates is not False and entry.available is not False:
                self._add_senders(entry.channel, entry.stamp, members, entry.available)

    def _add_senders(self, name: str, stamp: int, receivers: Members, available: EnvMask = True) -> None:
        """Note that a channel's senders are reached: through their receivers, or (None) by an injection."""
        channel = self.system.channels[name]
        key = channel.sender, stamp
        count = len(self.system.agents[channel.sender].members)
        found = self.by_tick.setdefault(key, torch.zeros(count, dtype=torch.bool))
        members = torch.ones(len(channel.members), dtype=torch.bool)
        if receivers is not None:
            members = receivers if channel.receiver_places is None else receivers[channel.receiver_places]
            if isinstance(available, Tensor):
                members = members & channel.members_in(available)
        else:  # nothing is injected where no injection is due, or the predictor is disabled
            silent = self.sent[name, stamp].no_injection
            if isinstance(silent, Tensor):
                members = channel.members_in(torch.logical_not(silent))
            if channel.predictors_disabled is not None:
                members = members & torch.logical_not(channel.predictors_disabled)
        places = torch.arange(len(members)) if channel.sender_places is None else channel.sender_places
        found[places[members]] = True
