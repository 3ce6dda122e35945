"""Gates: predictions that do not predict what comes back are not applied (semantics 9a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import GroupWindows, StepUpdates


class Gates(Feature):
    """The gates of a system's channels."""

    def __init__(self, engine: Engine) -> None:
        self.system, self.divergence = engine.system, engine.divergence_check
        self.predictor_trainer = engine.predictor_trainer
        self._compared: dict[str, Tensor] = {}
        """By channel: the sums of its gate after the step."""

    def gradients_back(
        self, messages: Mapping[str, list[Message]], learned_windows: GroupWindows, step: int
    ) -> None:
        """Compare predictions with what has come back, before anything learns from it; gates move with all else."""
        self._compared.clear()
        for name, channel_messages in messages.items():
            channel = self.system.channels[name]
            if channel.synthetic_gradient.gate is not None:
                self._compare(channel, channel_messages)

    def _compare(self, channel: Channel, messages: Sequence[Message]) -> None:
        sums: list[Tensor] = []
        for message in messages:
            gradient, rows = message.booked.gradient, message.booked.rows
            prediction = self.predictor_trainer.predict(channel, message)
            if gradient is None or prediction is None:
                continue
            pairs = (prediction, gradient), (prediction, prediction), (gradient, gradient)
            sums.append(
                torch.stack([rows.zero_elsewhere((first * second).sum(1)) for first, second in pairs])
            )
        gate = channel.synthetic_gradient.gate
        if sums and gate is not None:
            products, squares, returned = sum(sums[1:], sums[0])
            self._compared[channel.name] = gate.compared(products, squares, returned)

    def before_move(self, updates: StepUpdates) -> None:
        """Move the gates, as all is computed and finite now."""
        for name, sums in self._compared.items():
            channel = self.system.channels[name]
            if channel.synthetic_gradient.gate is not None:
                channel.synthetic_gradient.gate.move(sums, self.divergence.unstopped_members(channel))
        self._compared.clear()
