"""Gradients of ended windows, by parameters and by the messages that were read.

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

from functools import partial

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import (
    BackwardRequest,
    Injection,
    backward_all,
    clipped_per_sample,
)
from antiphon.comms.couplings import CreditedMessage
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Features
from antiphon.engine.heart.message import Leaf, LearningGroup, Message, Window
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import EndedWindows, Update
from antiphon.engine.heart.window_losses import ObjectiveEvaluator
from antiphon.nets.per_member import nonzero


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
            learning_rows_by_agent = self.learning_rows_by_agent(group, window)
            without_gradients = dict.fromkeys(window.leaves.values())  # until `Update.set_gradients`
            update = Update(
                group,
                window,
                learning_rows_by_agent,
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
                    if learning_rows_by_agent[name] is not NONE
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

    def learning_rows_by_agent(self, group: LearningGroup, window: Window) -> dict[str, Mask]:
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
            learning_rows = update.learning_rows_by_agent[channel.sender]
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
            and update.learning_rows_by_agent[channel.sender] is not NONE
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
            channel.ledger.timetable.send_times.tick_period,
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
