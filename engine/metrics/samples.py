"""Samples: some of the newest messages of some channels, with what they are about, for whoever draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.comms.credit import constant
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.scenarios import Scenario
from antiphon.telemetry.figures import SampleRow

__all__ = ["LARGEST", "sampled_at", "samples"]

_ROWS = 10
"""Rows of figures from one sample to the next."""
_MOST = 128
"""Messages of a channel."""
_NUMBERS = 8192
"""Numbers of a channel: where messages are long, there are fewer of them."""
LARGEST = 256
"""Components of a message; longer ones are left out."""


def sampled_at(step: int, every: int, until: int) -> bool:
    """Whether messages are sampled at a step: the first, every tenth one that has figures, and the last of the run.

    Args:
        step: The step just taken, from 0.
        every: Steps from one row of figures to the next.
        until: The step the run stops at.
    """
    return step == 0 or (step + 1) % (_ROWS * every) == 0 or step + 1 == until


def samples(system: System, scenario: Scenario) -> list[SampleRow]:
    """Return the newest messages, [samples, size + 1], of at most `telemetry.top` channels; the label is last.

    Those to readouts come first, then the others, in canonical order. The label of a message is the class that the first
    readout with a classification should name for the example that the message was made from; nan where there is none.

    Args:
        system: Of agents and channels, or of cohorts and bundles.
        scenario: What it was made from.
    """
    goals = [scenario.agents[name].objective for name in scenario.readouts]
    target = next((goal.target for goal in goals if goal is not None and goal.kind == "classification"), None)
    channels = sorted(scenario.channels, key=lambda channel: channel.receiver not in scenario.readouts)
    wanted = [channel.name for channel in channels][: scenario.telemetry.top]
    held = {
        name: (channel, place)
        for channel in system.channels.values()
        for place, name in enumerate(channel.names)
    }
    found = ((name, _messages(*held[name], target)) for name in wanted if name in held)
    return [(name, rows) for name, rows in found if rows is not None]


def _messages(channel: Channel, place: int, target: str | None) -> np.ndarray[Any, Any] | None:
    """The newest messages of the channel at a place of a bundle, with their labels."""
    records = channel.ledger.records
    if not records:
        return None
    record = records[max(records)]
    count = len(channel.names)
    message = record.message.reshape(count, -1, record.message.shape[-1])[place]
    if message.shape[1] > LARGEST:
        return None
    labels = _labels(record.step_signals.signals, target, len(message))
    most = min(len(message), _MOST, _NUMBERS // (message.shape[1] + 1))
    rows = torch.cat([message.float().cpu(), labels.float().cpu().unsqueeze(1)], 1)
    found: np.ndarray[Any, Any] = constant(rows[:most]).numpy()
    return found


def _labels(signals: Mapping[str, Tensor], target: str | None, count: int) -> Tensor:
    label = None if target is None else signals.get(target)
    if label is None or label.shape != (count,) or label.is_floating_point():
        return torch.full((count,), torch.nan)
    return label.float().where(label >= 0, torch.nan)
