"""What is under way on a channel of a loop: its newest message, and what sender, receiver and predictor have yet to learn from."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from antiphon.comms.backward_requests import Injection
from antiphon.comms.loop.channel_problems import ChannelProblems
from antiphon.comms.loop.finite import all_finite
from antiphon.comms.loop.gradients import ChannelStep
from antiphon.comms.loop.open_messages import OpenMessages, SentMessage
from antiphon.comms.model import LossAndGradients
from antiphon.comms.synthetic_gradients import Predictor

_MANY = 256
"""Gradients that return without a step of the predictor, and after which a warning says so."""
_MANY_STEPS = 50
"""Steps of the sender's optimiser without a step of the predictor, after which a warning says so."""
MOST_INJECTIONS = 1024
"""Messages whose sender's graph is kept until the sender learns."""
_FIRST_STEPS = 20
"""Calls of the channel's `learn` after which a warning says that no gradient has reached its sender, or has returned."""
CHANGED = "message: it was changed in place after it was sent; send a copy (message.clone())"
NOT_FOLLOWED = (
    "its sender has learned nothing from it; send what the sender's network returns, not detached, or leave the channel out "
    "of sent="
)
LEARNED = (
    "the objective depends on a message that the predictor has learned from; call the channel's learn after the last "
    "comms.learn that reads a message, or give each receiver a channel of its own"
)

_CHECK = "check the data, or lower the learning rate of the networks or of the predictor (lr=)"
LEFT_OUT = f"its batch is left out: nothing is learned from it; {_CHECK}"
MESSAGE_LEFT_OUT = f"the message is left out: nothing follows from its gradient, and other losses of the batch are learned from; {_CHECK}"


class Predicted(NamedTuple):
    """A predicted gradient that the sender has not learned from."""

    injection: Injection
    version: int
    """Changes in place of the message when it was sent."""
    sent: SentMessage


class Transit:
    """The messages of a channel from sending to the steps of its sender, receiver and predictor.

    Args:
        predictor: The channel's; None: it has none.

    Attributes:
        newest: The newest message, with its graph; None: none has been sent.
        open_messages: The messages for which a gradient may return, or has.
        injections: Predicted gradients that the sender has not learned from.
        expected_losses: Messages for which the sender has not learned, with what a critic expects the receiver to lose, [B] each.
        newest_comparison: The prediction and the returned gradient of the newest message that the predictor has learned from.
        step: The time since the predictor's step before.
    """

    def __init__(self, problems: ChannelProblems, predictor: Predictor | None) -> None:
        self.problems, self.predictor = problems, predictor
        self.lock = threading.RLock()
        self.newest: Tensor | None = None
        self._newest_version: int | None = None
        """Changes in place of the newest message as it was sent; None: torch counts none."""
        self._sending_process: int | None = None
        self.open_messages = OpenMessages()
        self.injections: list[Predicted] = []
        self.expected_losses: list[tuple[SentMessage, Tensor]] = []
        self.newest_comparison: tuple[Tensor, Tensor] | None = None
        self._waiting_sum: LossAndGradients | None = None
        """The predictor's loss and gradients on the messages that wait for its step."""
        self._waiting_count = 0
        """How many of these are no longer kept by themselves."""
        self.step = ChannelStep(problems.name)
        self._learn_calls = 0
        self.injected = self.sender_learned = self.receiver_learned = self._has_left_out = False

    # --- sender ------------------------------------------------------------------------------------------

    def send(self, message: Tensor, sent: SentMessage | None) -> None:
        """Make a message the newest one; `sent`: its record, None: nothing is to be learned from it."""
        self.newest = message
        self._newest_version = None if message.is_inference() else message._version
        self._sending_process = os.getpid()
        self.open_messages.add(sent)
        surplus = self.open_messages.take_surplus()
        if surplus:
            self._add_to_waiting_sum(surplus)
            self._waiting_count += len(surplus)

    def inject(self, injection: Injection, sent: SentMessage) -> bool:
        """Keep the predicted gradient of a message until the sender learns, and return whether an older one is dropped."""
        self.injected = True
        self.injections.append(Predicted(injection, injection.output._version, sent))
        full = len(self.injections) > MOST_INJECTIONS
        if full:
            del self.injections[0]
        return full

    def forget_left_out(self) -> list[Predicted]:
        """Forget the batches that the loop has left out, and remove and return the predicted gradients that are not finite, or whose messages are not."""
        with self.lock:
            self.injections = [p for p in self.injections if not p.sent.dropped]
            undefined = [p for p in self.injections if not p.sent.finite]
            if undefined:
                self.injections = [p for p in self.injections if p.sent.finite]
            self.expected_losses = [
                (sent, value) for sent, value in self.expected_losses if not sent.dropped and sent.finite
            ]
        return undefined

    def leave_out(self, messages: Sequence[SentMessage]) -> None:
        """Learn nothing from messages of which something is not finite."""
        with self.lock:
            self._has_left_out = True
            self.open_messages.leave_out(messages)

    def warn_left_out(self, problem: str, consequence: str = MESSAGE_LEFT_OUT) -> None:
        """Warn once that a message is left out, or its batch (`LEFT_OUT`)."""
        self._has_left_out = True
        self.problems.warn(f"{problem}; {consequence}", kind="not finite")

    def end_sender_step(self) -> None:
        self.sender_learned = True
        self.injections.clear()
        self.expected_losses.clear()

    # --- receiver ----------------------------------------------------------------------------------------

    def check_newest(self) -> Tensor:
        """Return the newest message, with its graph.

        Raises:
            ScenarioError: There is none, it was changed in place, or it was sent in another process.
        """
        if self.newest is None:
            raise self.problems.error("no message has been sent; call send before receive")
        self._check_process()
        if self._newest_version is not None and self.newest._version != self._newest_version:
            raise self.problems.error(CHANGED)
        return self.newest

    def received(self) -> list[tuple[SentMessage, Tensor]]:
        """Return the messages that a receiver's objective may depend on, with their leaves."""
        with self.lock:
            self._check_process()
            return self.open_messages.received()

    def learned(self) -> list[Tensor]:
        """Return the leaves of messages on which the predictor was trained."""
        with self.lock:
            return self.open_messages.learned()

    def book(
        self, received: Sequence[SentMessage], gradients: Sequence[Tensor | None], losses: Tensor | None
    ) -> None:
        """Record the finite gradients dL/dmessage that one objective returns; None: it does not depend on the message."""
        with self.lock:
            if any(sent.learned for sent, g in zip(received, gradients, strict=True) if g is not None):
                raise self.problems.error(LEARNED)
            reached = any(gradient is not None for gradient in gradients)
            for sent, gradient in zip(received, gradients, strict=True):
                losses_here = losses if losses is None or len(losses) == len(sent.example.message) else None
                if gradient is not None:
                    sent.book(gradient, losses_here)
                elif not reached:
                    sent.book_unused(losses_here)

    def _check_process(self) -> None:
        if self._sending_process is not None and self._sending_process != os.getpid():
            raise self.problems.error(
                "its message was sent in another process, to which no gradient returns; pass the message and its gradient "
                "in queues, with return_gradient"
            )

    # --- predictor ---------------------------------------------------------------------------------------

    def end_step(self) -> None:
        """Begin the time until the predictor's next step."""
        self.step.over, self.step = True, ChannelStep(self.problems.name)

    def take_ready(self, predictor: Predictor) -> None:
        """Add up what the predictor learns from the messages that are complete; the receiver's newest is compared."""
        ready = self.open_messages.take()
        if undefined := [sent for sent in ready if not sent.finite]:
            self.leave_out(undefined)
            self.warn_left_out(f"{undefined[0].undefined} is not finite")
            ready = [sent for sent in ready if sent.finite]
        if ready:
            self._add_to_waiting_sum(ready)
            newest = ready[-1].example.returned
            if predictor.needs_returned and newest is not None:
                self.newest_comparison = ready[-1].prediction, newest
        self._learn_calls += 1

    def take_sum(self) -> LossAndGradients | None:
        """Return the predictor's loss and gradients on all that wait for its step, which no longer do; None: nothing waits."""
        summed, self._waiting_sum, self._waiting_count = self._waiting_sum, None, 0
        return summed

    def _add_to_waiting_sum(self, messages: Sequence[SentMessage]) -> None:
        """Add the predictor's loss and gradients on some messages to those that its next step takes."""
        predictor = self.predictor
        assert predictor is not None
        if any(sent.changed for sent in messages):
            raise self.problems.error(CHANGED)
        examples = [sent.trained_on(predictor.updates) for sent in messages]
        statistics = dict(predictor.buffers)
        with self.problems.named(f"gradient: {predictor.kind}"):
            loss, gradients = predictor.loss_and_gradients(examples)
        if not all_finite([loss, *gradients]):
            predictor.put_statistics(statistics)
            self.warn_left_out("the loss of its predictor is not finite, or its gradients are not")
            return
        if self._waiting_sum is not None:
            total, sums = self._waiting_sum
            pairs = zip(sums, gradients, strict=True)
            loss, gradients = total + loss, [b if a is None else a if b is None else a + b for a, b in pairs]
        self._waiting_sum = loss, gradients

    def warn_of_ends(self, predictor: Predictor) -> None:
        """Warn if the sender has never learned from a predicted gradient, or the predictor from a returned one, once it is time."""
        if self._learn_calls != _FIRST_STEPS:
            return
        calls = f"after {_FIRST_STEPS} calls of the channel's learn"
        if self.sender_learned and not self.injected:
            self.problems.warn(
                f"{calls}, none of its messages has needed a gradient, and {NOT_FOLLOWED}",
                kind="not followed",
            )
        if self.injections and not self.sender_learned:
            self.problems.warn(
                f"{calls}, its sender has not learned from a predicted gradient; pass sent=[channel] to the comms.learn of the "
                "sender's parameters, or send(message.detach()) if the sender does not learn",
            )
        if predictor.needs_returned and self.newest_comparison is None and not self._has_left_out:
            fix = (
                "pass received=[channel] to the receiver's comms.learn, or call return_gradient"
                if not self.receiver_learned
                else "compute the receiver's objective from what receive() returns, not detached"
            )
            self.problems.warn(
                f"{calls}, no gradient has returned, and the predicted gradient is zero; {fix}",
                kind="returned",
            )

    def warn_of_missing_steps(self) -> None:
        """Warn if the predictor has not learned for long, although gradients return or the sender's optimiser steps."""
        if self.step.most_optimiser_steps >= _MANY_STEPS:
            missing = f"its sender's optimiser has taken {_MANY_STEPS} steps"
        elif self._waiting_count >= _MANY:
            missing = f"the gradients of {_MANY} messages have returned"
        else:
            return
        self.problems.warn(
            f"{missing} without a step of its predictor; call the channel's learn() after each optimiser's step (returned "
            "gradients are added up, and nothing is lost)"
        )
