"""Losses of ended windows (semantics 1, 21), and their gradients by parameters and by the messages that were read.

A window's losses and what is injected into the messages it sent are differentiated together (semantics 2, 3). The gradients of
parameters wait for the update; those of received messages are booked with the messages (4).

    loss         of each environment: [rows]; what is differentiated is its mean, the sum divided by B
    prediction   what a synthetic gradient gives for a sent message
    gradient     what its receivers return for it: the prediction's target
    applied prediction  the prediction behind its gate, mixed with a gradient of the same step (`gradient.trace`)
    credit       what the sender learns from about a message: the applied prediction, shortened (`clip`), or the gradient
                 (`delayed`); the credit of a feature at the point `credit` replaces it, and is not shortened
    injection    the credit that is put on the message in the sender's backward pass, zero in rows that do not learn or that are
                 withheld

Predictions, gradients and credits are per sample: B times the gradient of the mean loss, so that their length does not depend on
B. `backward_all` (comms/backward_requests.py) divides losses and injections by B, and multiplies the gradients of the messages
read by B; it also weighs injections, by `scale` for the parameters and by `discount` for the messages read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.agents.objectives import Weighted
from antiphon.base.errors import ScenarioError
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import (
    BackwardRequest,
    Injection,
    backward_all,
    clipped_per_sample,
    constant,
)
from antiphon.comms.couplings import CreditedMessage
from antiphon.engine.heart.agent import Agent, Goal
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Features
from antiphon.engine.heart.message import Leaf, LearningGroup, Message, StepSignals, Tick, Window
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import EndedWindows, ReportedLoss, Update, WindowLoss
from antiphon.nets.per_member import nonzero, scaled


class TickLoss(NamedTuple):
    """An objective at one tick."""

    losses: Tensor
    """[rows], zero where not `present`."""
    score: Tensor
    """[rows], zero where not `present`; [rows, columns] of several objectives."""
    present: Mask
    """Where there is a target, in rows that participate: these count in the mean."""
    site_counts: Tensor | None = None
    """[rows] int64: the number of sites that each target has; None: all have as many."""

    def newest(self, rows: int) -> TickLoss:
        """Return the objective of its last rows."""
        losses, score, present, counts = self
        counts = None if counts is None else counts[-rows:]
        return TickLoss(losses[-rows:], score[-rows:], present.map(lambda mask: mask[-rows:]), counts)

    @property
    def weights(self) -> Tensor:
        """[rows]: how many targets each sample counts as in a mean (`reduction: mean`): its sites, or 1; 0 without a target."""
        losses = constant(self.losses)
        counts = torch.ones_like(losses) if self.site_counts is None else self.site_counts.to(losses.dtype)
        return self.present.zero_elsewhere(counts)


class ObjectiveEvaluator:
    """Applies a system's objectives.

    Args:
        system: The system of the agents.
        features: The features of the step that it belongs to; None: it is used alone, and features are installed in it.
    """

    def __init__(self, system: System, features: Features | None = None) -> None:
        self.system, self.features = system, features or Features()
        self.learning_points = self.features.learning

    def window_loss(self, window: Window) -> WindowLoss:
        """Return the losses of a window."""
        window_loss = WindowLoss()
        acted: dict[str, list[Tick]] = {}
        averaged: dict[str, list[TickLoss]] = {}
        for tick in window.ticks():
            agent = self.system.agents[tick.agent]
            goal = agent.goal
            if goal is None or tick.learning_rows is NONE:
                continue
            if goal.rewards is not None:
                acted.setdefault(tick.agent, []).append(tick)
            elif (tick_loss := self.tick_loss(tick)) is not None:
                window_loss.ticks_with_loss.add((tick.step, tick.agent))
                if goal.mean_over_targets:
                    averaged.setdefault(tick.agent, []).append(tick_loss)
                else:
                    self._add(window_loss, agent, tick_loss)
        for name, losses in averaged.items():
            self._add_mean(window_loss, self.system.agents[name], losses)
        for name, ticks in acted.items():
            feature = self.learning_points.policy_losses
            assert feature is not None
            feature.policy_losses(window_loss, self.system.agents[name], ticks, window)
        return window_loss

    def _add(self, window_loss: WindowLoss, agent: Agent, tick_loss: TickLoss) -> None:
        samples, batch, layout = constant(tick_loss.losses), self.system.batch, agent.layout
        total = samples.sum().view(1) if len(agent.members) == 1 else layout.sum_by_member(samples)
        count: int | Tensor = batch
        if tick_loss.present is not ALL:
            count = layout.sum_by_member(tick_loss.present.tensor(len(samples), samples.device))
        reported = ReportedLoss(total / batch, layout.sum_by_member(tick_loss.score), count)
        window_loss.add(agent.name, tick_loss.losses, reported)

    def _add_mean(self, window_loss: WindowLoss, agent: Agent, tick_losses: Sequence[TickLoss]) -> None:
        """Add losses that are divided by the number of their targets in the window, in place of B (semantics 1)."""
        layout, batch = agent.layout, self.system.batch
        weights = [tick_loss.weights for tick_loss in tick_losses]
        counts = [layout.sum_by_member(tick_weights) for tick_weights in weights]
        factor = layout.rows_of_members(batch / torch.stack(counts).sum(0).clamp(min=1))
        window_loss.factors[agent.name] = factor
        for tick_loss, weight, count in zip(tick_losses, weights, counts, strict=True):
            samples = tick_loss.losses * weight * factor
            loss = layout.sum_by_member(constant(samples)) / batch
            reported = ReportedLoss(loss, layout.sum_by_member(tick_loss.score * weight), count)
            window_loss.add(agent.name, samples, reported)

    def tick_loss(self, tick: Tick) -> TickLoss | None:
        """An objective at one tick; None if its target is absent everywhere."""
        agent, step_signals = self.system.agents[tick.agent], tick.step_signals
        goal = agent.goal
        if goal is None or tick.learning_rows is NONE or goal.rewards is not None:
            return None
        terms: list[TickLoss | None] = []
        for term in goal.terms:
            if term.last_only and (step_signals.step + 1) % self.system.steps_per_example:
                terms.append(None)
            else:
                terms.append(
                    self.term_loss(agent, term, step_signals, tick.ports[OBJECTIVE], tick.learning_rows)
                )
        tick_loss = _combined(goal, terms)
        return None if tick_loss is None else tick_loss._replace(losses=scaled(tick_loss.losses, goal.weight))

    def output_loss(self, agent: Agent, step_signals: StepSignals, output: Tensor) -> TickLoss | None:
        """An agent's objective of an output at any step, without its weight; None if its target is absent everywhere.

        A rollout scores with it (engine/inference/rollout.py).
        """
        assert agent.goal is not None
        return _combined(
            agent.goal, [self.term_loss(agent, term, step_signals, output) for term in agent.goal.terms]
        )

    @staticmethod
    def term_loss(
        agent: Agent, goal: Goal, step_signals: StepSignals, output: Tensor, learning_rows: Mask = ALL
    ) -> TickLoss | None:
        """A single objective of an agent's output, without its weight; None if its target is absent everywhere.

        A network's own loss may have no target.
        """
        if goal.target and goal.target not in step_signals.signals:
            return None
        present, sites, objective = step_signals.present(goal.target), None, goal.output_objective
        if present is NONE:
            return None
        output = output if goal.outputs is None else output[:, goal.outputs]
        target = constant(output)
        if goal.target:
            target, sites = step_signals.signals[goal.target], step_signals.present_sites(goal.target)
            sites = None if sites is None else sites.reshape(target.shape)
            if objective.ignore_index is not None:
                counted = target != objective.ignore_index
                sites = counted if sites is None else sites & counted
            if objective.weight is not None and present is not ALL:  # absent targets have no weight
                present_rows = present.tensor(len(target), target.device)
                present_rows = present_rows.view(-1, *[1] * (target.dim() - 1)).expand_as(target)
                sites = present_rows if sites is None else sites & present_rows
            if sites is not None and target.dim() == 1 and objective.weight is None:
                present, sites = present & Mask.of(sites.flatten()), None
            elif sites is not None:
                present &= Mask.of(sites.reshape(len(sites), -1).any(1))
                target, sites = target.where(sites, 0), agent.layout.to_rows(sites)
            target = agent.layout.to_rows(present.zero_elsewhere(target))  # absent targets may be NaN
        rows = present.map(agent.layout.to_rows) & learning_rows
        losses = objective.loss(output, target) if sites is None else objective.loss(output, target, sites)
        if objective.scores_loss:
            score = constant(losses)
        elif sites is None:
            score = objective.score(constant(output), target)
        else:
            score = objective.score(constant(output), target, sites)
        losses, score = rows.zero_elsewhere(losses), rows.zero_elsewhere(score)
        counts = None if sites is None else sites.reshape(len(sites), -1).sum(1)
        return TickLoss(losses, score, rows, counts)


def _combined(goal: Goal, terms: Sequence[TickLoss | None]) -> TickLoss | None:
    """The objective of its terms: of the only one, or of a weighted sum."""
    if not goal.summands:
        return terms[0]
    assert isinstance(goal.objective, Weighted)
    summands = [None if term is None else term[:3] for term in terms]
    return TickLoss(*goal.objective.combined(summands)) if any(terms) else None


class BackwardPass:
    """Builds the backward requests of windows and books their results.

    Args:
        system: The agents, channels and groups.
        evaluator: Evaluates the objectives.
        predictor_trainer: Evaluates the synthetic gradients.
        features: The features of the step.
    """

    def __init__(
        self,
        system: System,
        evaluator: ObjectiveEvaluator,
        predictor_trainer: PredictorTrainer,
        features: Features,
    ) -> None:
        self.system, self.agents, self.learning_points = system, system.agents, features.learning
        self.evaluator = evaluator
        self.predictor_trainer = predictor_trainer
        self.swept_window_updates: dict[Window, Update] = {}
        """Updates of windows that were differentiated as soon as their group had ticked (features/sweep.py), until `differentiate` returns
        them."""

    def differentiate(self, ended: EndedWindows, step: int) -> list[Update]:
        """Return the gradients of windows that have ended, by parameters and by the messages read; none is booked yet."""
        pending: list[tuple[Update, list[Leaf]]] = []  # with the reads that gradients are wanted for
        requests: list[BackwardRequest] = []
        channels, swept = self.system.channels, self.swept_window_updates
        # a swept window was differentiated as soon as its group had ticked
        updates = {window: swept.pop(window) for _, window in ended if window in swept}
        for group, window in ended:
            if window in updates:
                continue
            rows_by_agent = self.rows_by_agent(group, window)
            without_gradients = dict.fromkeys(window.leaves.values())  # until `Update.set_gradients`
            update = Update(
                group,
                window,
                rows_by_agent,
                self.evaluator.window_loss(window),
                leaf_gradients=without_gradients,
            )
            reads = [read for read in update.leaf_gradients if channels[read.channel].ledger.wants_gradient]
            self.collect_injections(update, step)
            request = BackwardRequest(
                update.window_loss.roots,
                update.injections,
                {
                    name: self.agents[name].learner.trainable
                    for name in group.agents_per_learner
                    if rows_by_agent[name] is not NONE
                },
                [read.value for read in reads],
                update.auxiliary_loss,
            )
            pending.append((update, reads))
            requests.append(request)
        results = backward_all(requests, self.system.batch)
        for (update, reads), (gradients, leaf_gradients) in zip(pending, results, strict=True):
            update.set_gradients(gradients, zip(reads, leaf_gradients, strict=True))
            updates[update.window] = update
        return [updates[window] for _, window in ended]

    def rows_by_agent(self, group: LearningGroup, window: Window) -> dict[str, Mask]:
        """Return the rows in which each agent of a group learns from a window."""
        return {name: self.agents[name].learning_rows(window.number) for name in group.agents}

    def book(self, update: Update) -> None:
        """Add the gradients of a window's reads to the messages that it read."""
        for read, gradient in update.leaf_gradients.items():
            read.message.returned.add(read.counted, gradient)
        for feature in self.learning_points.booked:
            feature.booked(update)
        update.leaf_gradients.clear()  # they are as large as the messages, and nothing reads them any more

    # --- what is injected ----------------------------------------------------------------------------------

    def collect_injections(self, update: Update, step: int) -> None:
        """Add to an update the gradients that are injected into the messages that its window sent."""
        injections, feature = update.injections, self.learning_points.credit
        for name, message in update.window.sent_messages:
            channel = self.system.channels[name]
            if not self._can_inject(update, channel, message):
                continue
            with_graph = update.window.with_graph[name, message.stamp]
            if feature is None:
                credit = self.ordinary_credit(channel, message, with_graph, step)
            else:
                ordinary = partial(self.ordinary_credit, channel, message, with_graph, step)
                credit = feature.credit(channel, message, ordinary)
            if credit is None:
                continue
            learning_rows = update.rows_by_agent[channel.sender]
            rows = channel.participation_of_sender(learning_rows) & ~message.fate.withheld
            credit = rows.zero_elsewhere(credit)
            if not channel.coupling.predicts:
                injections.append(Injection(with_graph, credit))
                continue
            synthetic = channel.synthetic_gradient
            scale = synthetic.injection.scale(step)
            update.keep_credit(name, credit, by_row=synthetic.needs_actions)
            if nonzero(scale):
                update.injected_messages.add((name, message.stamp))
            injections.append(Injection(with_graph, credit, scale, synthetic.injection.discount))
        for feature in self.learning_points.credited:
            feature.credited(update)

    @staticmethod
    def _can_inject(update: Update, channel: Channel, message: Message) -> bool:
        """Whether a message that the window sent can have credit; else neither its channel's coupling nor a feature is asked for any.

        It has none where nothing returns for it or it is withheld everywhere, where its sender learns in no row, and where the window
        has given up its channel.
        """
        return (
            message.expects_return
            and message.fate.withheld is not ALL
            and update.rows_by_agent[channel.sender] is not NONE
            and channel.name not in update.window.given_up
        )

    def ordinary_credit(
        self, channel: Channel, message: Message, with_graph: Tensor, step: int
    ) -> Tensor | None:
        """Return the credit of a message by its channel's coupling, [rows, size] per sample before `scale`; None: nothing is injected.

        Args:
            channel: The channel.
            message: A message of a window that is learned from.
            with_graph: The message as the window has it, [rows, …] with its graph.
            step: The step just taken.
        """
        coupling, clip = channel.coupling, channel.synthetic_gradient.injection.clip
        back = channel.ledger.gradient_is_back(message, step)
        credited = CreditedMessage(
            message.sent,
            message.stamp,
            channel.ledger.timetable.send_times.period,
            message.returned.gradient if back else None,
            message.returned.counted if back else NONE,
            with_graph,
            partial(self.applied_prediction, channel, message),
        )
        credit = coupling.credit(credited, step)
        if credit is not None and credit.shape != channel.content.zeros.shape:
            shapes = f"{list(credit.shape)}, not {list(channel.content.zeros.shape)}"
            raise ScenarioError(
                f"channels[{channel.names[0]}].coupling: {coupling.name} gives a credit of {shapes}; return a value for each "
                "component of a message"
            )
        # a `delayed` variant keeps keys of `gradient`, unused
        if credit is None or clip is None or not coupling.predicts:
            return credit
        return clipped_per_sample(credit, clip)

    def applied_prediction(self, channel: Channel, message: Message) -> Tensor | None:
        """Return the prediction for a message as it is applied, [rows, size] per sample (semantics 11; BP(lambda)).

        With `returned_share` it is mixed with the gradient that the receiver has just returned. No more will be returned: a scenario
        with `trace` is refused where delays, losses, rates, or other clocks or windows would let a later window read the message
        (rule 11), and receivers have been differentiated, as they have earlier turns (13a).

        None: the channel injects none, nothing can be evaluated (`PredictorTrainer.predict`), or its gate withholds it; but zeros
        where the receiver's actions are needed.
        """
        if not channel.injects:
            return None
        prediction = self.predictor_trainer.predict(channel, message)
        feature = self.learning_points.gated_prediction
        if prediction is not None and feature is not None:
            prediction = feature.gated_prediction(channel, prediction)
        synthetic = channel.synthetic_gradient
        if (
            prediction is None and synthetic.needs_actions
        ):  # no action has come back, or the gate withholds it
            prediction = channel.content.zeros
        if prediction is None or not synthetic.injection.returned_share:
            return prediction
        gradient = channel.content.zeros if message.returned.gradient is None else message.returned.gradient
        return torch.lerp(prediction, gradient, synthetic.injection.returned_share)
