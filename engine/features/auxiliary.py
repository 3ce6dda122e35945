"""Auxiliary task: a head predicts, after a window's first tick, the synthetic gradient of its end (semantics 12)."""

from __future__ import annotations

from torch import Tensor

from antiphon.agents.network import AUXILIARY_PORT
from antiphon.base.mask import NONE
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import PendingUpdate


class AuxiliaryLosses(Feature):
    """The losses of a system's heads that predict synthetic gradients."""

    def __init__(self, engine: Engine) -> None:
        self.system, self.predictor_trainer = engine.system, engine.predictor_trainer

    def after_credit(self, pending: PendingUpdate) -> None:
        """Add what heads lose that predict, after the first tick, the synthetic gradient of the window's end (semantics 12)."""
        system, window = self.system, pending.update.window
        losses: dict[str, Tensor] = {}
        for name in pending.update.group.agent_names:
            state_channel = system.agents[name].connections.state_channel
            if state_channel is None or not state_channel.synthetic_gradient.auxiliary:
                continue
            first = next((tick for tick in window.ticks() if tick.agent_name == name), None)
            last = window.final_state(state_channel.name)
            if (
                first is None
                or first.learning_rows is NONE
                or last is None
                or not state_channel.injects_prediction
            ):
                continue
            if last.creditable is NONE:  # nothing follows
                target = state_channel.content.zeros
            elif (prediction := self.predictor_trainer.predict(state_channel, last)) is None:
                continue
            else:
                target = last.creditable.zero_elsewhere(prediction)
            error = first.learning_rows.zero_elsewhere(first.ports[AUXILIARY_PORT] - target)
            losses[name] = state_channel.synthetic_gradient.auxiliary * error.square().sum() / system.batch
        pending.add_auxiliary_losses(losses)
