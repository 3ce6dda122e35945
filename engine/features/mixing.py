"""Mixing: credit that is a prediction together with what the receiver has just returned (semantics 11; BP(lambda))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Message

if TYPE_CHECKING:
    from antiphon.engine.heart.predictors import PredictorTrainer


def mixed_credit(predictor_trainer: PredictorTrainer, channel: Channel, message: Message) -> Tensor | None:
    """The credit of a message that mixes in what came back, [rows, size] per sample before `clip` and `scale`; None: nothing."""
    own, credit = channel.gradient, predictor_trainer.predict(channel, message)
    if credit is None and own.needs_actions:  # no action has come back
        credit = channel.zeros
    if credit is None:
        return None
    gradient = channel.zeros if message.gradient is None else message.gradient
    return torch.lerp(credit, gradient, own.trace) if own.trace else credit
