"""Direct feedback: errors of objectives, broadcast to the messages sent before them in the window (semantics 10; DFA)."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.base.mask import NONE
from antiphon.comms.backward_requests import Injection
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import CreditedInjection, PendingUpdate, WindowLoss
from antiphon.engine.heart.window import Tick
from antiphon.engine.heart.window_losses import ObjectiveEvaluator


class DirectFeedback(Feature):
    """The errors of a system's objectives, for its channels with direct feedback."""

    def __init__(self, engine: Engine) -> None:
        self.system, self.evaluator = engine.system, engine.objective_evaluator

    def after_credit(self, pending: PendingUpdate) -> None:
        """Inject errors of objectives into the messages sent before them in the window (semantics 10)."""
        update, window = pending.update, pending.update.window
        sent = [
            (channel, message)
            for name, message in window.sent_messages
            if (channel := self.system.channels[name]).feedback.direct is not None
            and message.read_plan.is_bookable
            and window.learning_rows_by_agent[channel.sender] is not NONE
        ]
        if not sent:
            return
        sources = {channel.feedback.error_agent_name for channel, _ in sent}
        errors = [
            (tick.step, tick.agent_name, error)
            for tick in window.ticks()
            if tick.agent_name in sources
            and (error := _error(self.evaluator, tick, update.window_loss)) is not None
        ]
        for channel, message in sent:
            assert channel.feedback.direct is not None
            rows = channel.mask_from_sender(window.learning_rows_by_agent[channel.sender])
            for step, agent, error in errors:
                if agent == channel.feedback.error_agent_name and step >= message.stamp:
                    output = window.outputs_with_graph[channel.name, message.stamp]
                    injection = Injection(output, rows.zero_elsewhere(error @ channel.feedback.direct.T))
                    pending.injections.append(CreditedInjection(channel, rows, injection))


def _error(evaluator: ObjectiveEvaluator, tick: Tick, window_loss: WindowLoss) -> Tensor | None:
    """[rows, outputs] per sample: the derivative of an objective by the outputs of one tick; None without a target."""
    tick_loss = evaluator.tick_loss(tick)
    if tick_loss is None or not tick_loss.losses.requires_grad:
        return None
    losses, factor = tick_loss.losses, window_loss.factor_by_agent.get(tick.agent_name)
    if factor is not None:
        losses = losses * tick_loss.target_counts * factor
    return torch.autograd.grad(losses.sum(), tick.ports[OBJECTIVE], retain_graph=True)[0]
