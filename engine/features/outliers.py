"""Outliers: a returned state gradient that is far longer than the median is clipped, and the first of each channel noted."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.divergence_texts import Report
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.updates import GroupWindows
from antiphon.nets.step_numbers import stamp_number


class ClippedReturns(Feature):
    """Clipping of the gradients that come back over channels with a bound on outliers.

    Attributes:
        first: By channel: the step at which a gradient of each member was first clipped, -1 where none was, [K] int64.
        notes_later: Whether that is noted at `synchronize` only, which waits for the device; else at every step.
    """

    def __init__(self, predictor_trainer: PredictorTrainer) -> None:
        self.system = predictor_trainer.system
        self.first: dict[str, Tensor] = {}
        self.notes_later = self.system.device.type != "cpu"

    def gradients_back(
        self, messages: Mapping[str, list[Message]], learned_windows: GroupWindows, step: int
    ) -> None:
        for name, channel_messages in messages.items():
            for message in channel_messages:
                self._clip(self.system.channels[name], message, step)

    def _clip(self, channel: Channel, message: Message, step: int) -> None:
        outliers = channel.synthetic_gradient.state_settings.outliers
        if outliers is None or message.booked.gradient is None:
            return
        before = outliers.clip_count
        message.booked.replace_gradient(outliers.clip(message.booked.gradient, look=not self.notes_later))
        counts = outliers.clip_count
        if counts is before:
            return
        first = (before == 0) & (counts > 0)
        if not self.notes_later and not bool(first.any()):
            return
        first_steps = self.first.get(channel.name)
        self.first[channel.name] = torch.where(
            first, stamp_number(step), -1 if first_steps is None else first_steps
        )
        if not self.notes_later:
            self.synchronize()

    def synchronize(self) -> None:
        """Note the first clipped gradient of each channel, with its step; waits for the device."""
        first_clips = [
            (step, self.system.channels[name], k)
            for name, steps in self.first.items()
            for k, step in enumerate(steps.tolist())
            if step >= 0
        ]
        self.first.clear()
        for step, channel, k in sorted(first_clips, key=lambda clip: clip[0]):
            member, seed = channel.members[k], channel.layout.seed_of(k)
            line = (
                f"channel {member.name}: the norm of a returned gradient is more than ten times the median; "
                "it is clipped, and so are later ones"
            )
            self.system.divergence_rule.add_event(Report(step, line, seed))
