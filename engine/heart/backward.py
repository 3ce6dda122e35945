"""Gradients of ended windows, by parameters and by the messages that were read.

A window's losses and what is injected into the messages it sent are differentiated together (rule 2, the update of an
agent). The gradients of parameters wait for the update; those of the messages read are booked with the messages (rule
4, targets).

Predictions, returned gradients and credits are per sample: B times the gradient of the mean loss, so that their length
does not depend on B (`backward_all`, comms/backward_requests.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce

import torch
from torch import Tensor

from antiphon.agents.network import AUXILIARY_PORT
from antiphon.base.errors import ScenarioError
from antiphon.comms.backward_requests import BackwardRequest, Injection, backward_all, constant
from antiphon.comms.couplings import CreditedMessage
from antiphon.comms.predictors import Critic
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Credit, GroupWindows, Update
from antiphon.engine.heart.window import CountedRead
from antiphon.engine.heart.window_losses import ObjectiveEvaluator
from antiphon.nets.mask import ALL, NONE, Mask, Members, simplified
from antiphon.nets.per_member import nonzero, scaled


class BackwardPass:
    """Differentiates windows that have ended: collects what is injected, and books the gradients of what was read."""

    def __init__(
        self,
        system: System,
        objective_evaluator: ObjectiveEvaluator,
        predictor_trainer: PredictorTrainer,
    ) -> None:
        self.system, self.agents = system, system.agents
        self.objective_evaluator = objective_evaluator
        self.predictor_trainer = predictor_trainer

    def differentiate_windows(self, windows: GroupWindows, step: int) -> list[Update]:
        """Return the gradients of windows to learn from, by parameters and by the messages read; none is booked yet."""
        updates, requests = list[Update](), list[BackwardRequest]()
        reads_by_update: list[list[CountedRead]] = []
        for group, window in windows:
            window_loss, losses = self.objective_evaluator.window_loss(window)
            update = Update(group, window, window_loss)
            reads = [
                read
                for read in window.counted_reads.values()
                if self.system.channels[read.channel_name].wire.returns_gradients
            ]
            parameters = {
                name: self.agents[name].learner.trainable
                for name in group.agent_count_by_learner
                if window.learning_rows_by_agent[name] is not NONE
            }
            requests.append(
                BackwardRequest(
                    losses=losses,
                    injections=self.collect_injections(update, step),
                    parameters=parameters,
                    values_read=[read.value for read in reads],
                    auxiliary_loss=self._auxiliary_loss(update),
                )
            )
            updates.append(update)
            reads_by_update.append(reads)
        results = backward_all(requests, self.system.batch)
        for update, reads, (of_learners, of_reads) in zip(updates, reads_by_update, results, strict=True):
            update.gradients_by_learner = update.group.mean_over_agents(of_learners)
            update.gradient_by_read = {
                read: gradient for read, gradient in zip(reads, of_reads, strict=True) if gradient is not None
            }
        return updates

    def book(self, update: Update) -> None:
        """Add a window's reads, with their gradients where they count, to the messages that it read."""
        for read in update.window.counted_reads.values():
            gradient = update.gradient_by_read.get(read)
            if gradient is not None:
                gradient = read.counted.zero_elsewhere(gradient)
            read.received.book(read.counted, gradient)
        self._return_losses(update)
        update.gradient_by_read.clear()  # they are as large as the messages, and nothing reads them any more

    def _return_losses(self, update: Update) -> None:
        """Add a window's losses to what it read over channels with a critic: once a message, in however many ticks (rule 9)."""
        counted: dict[str, dict[Received, Mask]] = {}
        for read in update.window.counted_reads.values():
            if self.system.channels[read.channel_name].needs_returned_loss:
                of_channel = counted.setdefault(read.channel_name, {})
                of_channel[read.received] = of_channel.get(read.received, NONE) | read.counted
        if not counted:
            return
        loss = self._returned_loss(update)
        for name, masks in counted.items():
            rows = self.system.channels[name].rows_from_receiver(loss)
            for received, mask in masks.items():
                received.add_loss(mask.zero_elsewhere(rows))

    def _returned_loss(self, update: Update) -> Tensor:
        """[rows]: a window's losses and, beyond it, the values of the critics of what it sent (rule 9)."""
        losses, system = list(update.window_loss.loss_by_agent.values()), self.system
        if not losses:
            row_count = len(self.agents[update.group.agent_names[0]].members) * system.batch
            losses = [system.zeros(row_count)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)
        for name, sent in update.window.sent:
            channel = system.channels[name]
            critic = channel.synthetic_gradient.model
            if not isinstance(critic, Critic) or sent.creditable is NONE:
                continue
            example = self.predictor_trainer.example(channel, sent, with_returned=False)
            if example is not None:
                value = scaled(constant(critic.value(example)), channel.synthetic_gradient.discount)
                loss = loss + channel.sum_by_sender(sent.creditable.zero_elsewhere(value))
        return loss

    # --- what is injected ----------------------------------------------------------------------------------

    def collect_injections(self, update: Update, step: int) -> list[Injection]:
        """Return what is injected into the messages that a window sent: their credit, in the rows that have it."""
        window, injections = update.window, list[Injection]()
        for name, sent in window.sent:
            channel = self.system.channels[name]
            if not channel.coupling.gives_credit:
                continue  # over `locked` the graph has it, over `detached` nothing does
            rows = window.credited_rows(channel, sent)
            if rows is NONE:
                continue  # it has no credit: the coupling is not called
            output = window.outputs_with_graph[name, sent.stamp]
            sees_returned = name not in window.given_up_channel_names
            credit = self.credit(channel, sent, output, step, sees_returned=sees_returned)
            if credit is None:
                continue
            rows &= credit.rows
            injection = channel.injection_of(output, credit.gradient, rows)
            injections.append(injection)
            update.keep_injected(channel, Credit(injection.gradient, rows))
            if nonzero(injection.scale):
                update.injected_rows[name, sent.stamp] = rows
        return injections

    def _auxiliary_loss(self, update: Update) -> Tensor | None:
        """Return what heads lose that predict, after a window's first tick, the synthetic gradient of its end (rule 12)."""
        window, losses = update.window, list[Tensor]()
        for name in update.group.agent_names:
            channel = self.agents[name].connections.state_channel
            if channel is None or not (weight := channel.synthetic_gradient.auxiliary):
                continue
            first = next((tick for tick in window.ticks() if tick.agent_name == name), None)
            last = dict(window.sent).get(channel.name)  # of its states, the only one that others' ticks read
            if first is None or first.learning_rows is NONE or last is None or not channel.injects_prediction:
                continue
            target: Tensor | None = channel.content.zeros
            if last.creditable is not NONE:  # else nothing follows
                target = self.predictor_trainer.predict(channel, last)
                target = None if target is None else last.creditable.zero_elsewhere(target)
            if target is not None:
                error = first.learning_rows.zero_elsewhere(first.ports[AUXILIARY_PORT] - target)
                losses.append(weight * error.square().sum() / self.system.batch)
                update.agents_with_auxiliary_loss.add(name)
        return reduce(torch.add, losses) if losses else None

    def credit(
        self, channel: Channel, sent: Sent, output: Tensor, step: int, *, sees_returned: bool = True
    ) -> Credit | None:
        """Return the credit of a message by its channel's coupling; None: nothing is injected.

        A member of a stack has the credit that it has alone: the coupling is called apart for members with a returned
        gradient and without, and for open gates and shut ones.

        Args:
            output: The message with its graph, [rows, …], as the window has it.
            sees_returned: Whether the coupling sees what has come back over the channel; else it does as if nothing had.
        """
        model, layout = channel.synthetic_gradient.model, channel.layout
        back: Mask[Members] = ALL if sees_returned and sent.is_back(step) else NONE
        is_open: Mask[Members] = ALL
        if len(channel.members) > 1:
            if back is ALL:
                back = simplified(layout.members_in(sent.counted))
            is_open = ALL if model is None else simplified(model.open.map(Tensor.cpu))
        predict = partial(self.predictor_trainer.predict, channel, sent)
        content = sent.value, sent.stamp, output, predict
        total: Credit | None = None
        for members, has_returned in _parts(back):
            returned, counted = (sent.returned, sent.counted) if has_returned else (None, NONE)
            for members_by_gate, gate_is_open in _parts(is_open):
                rows = layout.rows_of(members & members_by_gate)
                credit = coupling_credit(
                    channel, step, *content, returned, counted, gate_is_open=gate_is_open
                )
                if credit is not None and total is not None:
                    credit, rows = rows.where(credit, total.gradient), rows | total.rows
                total = total if credit is None else Credit(credit, rows)
        return total


def coupling_credit(
    channel: Channel,
    step: int,
    sent_value: Tensor,
    stamp: int,
    output: Tensor,
    predict: Callable[[], Tensor | None],
    returned: Tensor | None = None,
    counted: Mask = NONE,
    *,
    gate_is_open: bool = True,
) -> Tensor | None:
    """Return the credit of a message by its channel's coupling, for members that are alike: [rows, size] per sample before
    `scale`; None: nothing is injected.

    Args:
        sent_value, stamp: Of the message, as of `Sent`; `returned` and `counted` too, of what the coupling sees come back.
        output: The message with its graph, [rows, …].
        predict: Returns its prediction, [rows, size] per sample; None: there is none.
        gate_is_open: Whether the gate of the members is open.

    Raises:
        ScenarioError: A user's coupling gives another shape.
    """
    coupling, shape = channel.coupling, sent_value.shape
    message = CreditedMessage(
        sent_value,
        stamp,
        tick_period=channel.wire.timetable.sender_clock.tick_period,
        returned_gradient=returned,
        counted=counted,
        output=output,
        predict_applied=partial(_applied_prediction, channel, predict, gate_is_open),
    )
    credit = coupling.credit(message, step)
    if credit is not None and getattr(credit, "shape", None) != shape:
        given = list(credit.shape) if isinstance(credit, Tensor) else type(credit).__name__
        raise ScenarioError(
            f"channels[{channel.member_names[0]}].coupling: {coupling.name} gives a credit of {given}, not {list(shape)}; return a value "
            "for each component of a message"
        )
    return credit


def _applied_prediction(
    channel: Channel, predict: Callable[[], Tensor | None], gate_is_open: bool
) -> Tensor | None:
    """The prediction for a message as it is applied, [rows, size] per sample; None: the channel injects none, there is
    none, or its gate is shut."""
    if not channel.injects_prediction:
        return None
    prediction, model = predict(), channel.synthetic_gradient.model
    if prediction is None or model is None or not gate_is_open:
        return None
    return model.applied(prediction)


def _parts(members: Mask[Members]) -> Iterator[tuple[Mask[Members], bool]]:
    """The members, [N] on the host, in which a mask holds, and the others; a part known to be empty is left out."""
    if members is not NONE:
        yield members, True
    if members is not ALL:
        yield ~members, False
